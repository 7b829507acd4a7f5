# Quantised base models, layer by layer; rows of several tables share them.


localrules:
    resolve_quantized,


rule resolve_quantized:
    output:
        f"{ROOT}/quantized/{{quantized}}/spec.json",
    params:
        json=lambda wildcards: as_json(PLAN.quantized[wildcards.quantized].model_dump()),
    shell:
        "{DIABLO} resolve --kind quantized --json {params.json:q} --out {output}"


rule quantize_model:
    input:
        spec=f"{ROOT}/quantized/{{quantized}}/spec.json",
        model=float_model_of,
        data=calibration_of,
    output:
        provenance=f"{ROOT}/quantized/{{quantized}}/provenance.json",
        quality=f"{ROOT}/quantized/{{quantized}}/quantization.json",
    log:
        f"{LOGS}/quantized/{{quantized}}.log",
    benchmark:
        f"{BENCHMARKS}/quantized/{{quantized}}.tsv"
    threads: 1
    resources:
        mem_mb=mem_of("quantize", 2900),
        gpu=one_gpu,
        gpu_mem_mb=gpu_mem_of("quantize"),
        runtime=runtime_of("quantize"),
    params:
        lock=LOCK,
        code=code_of("quantize"),
    shell:
        "{DIABLO} quantize {input.spec} --threads {threads} 2>&1 | tee {log}"
