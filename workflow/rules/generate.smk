# Completions of all tasks of a suite, with one engine start per run.


rule generate_suite:
    input:
        spec=f"{ROOT}/runs/{{run}}/spec.json",
        adapter=f"{ROOT}/runs/{{run}}/adapter/provenance.json",
        suite=suite_of,
        model=model_of,
        data=test_data_of,
    output:
        generations=f"{ROOT}/runs/{{run}}/generations/{{suite}}.jsonl",
        provenance=f"{ROOT}/runs/{{run}}/generations/{{suite}}.provenance.json",
    log:
        f"{LOGS}/runs/{{run}}/generate-{{suite}}.log",
    benchmark:
        f"{BENCHMARKS}/runs/{{run}}/generate-{{suite}}.tsv"
    threads: 1
    resources:
        mem_mb=mem_of("generate", 2900),
        gpu=gpus_of("generate"),
        gpu_mem_mb=gpu_mem_of("generate"),
        runtime=runtime_of("generate"),
    params:
        lock=LOCK,
        code=run_code("generate"),
        protocol=asked_protocol,
        backend=lambda wildcards: PLAN.backends.get(wildcards.run, SETTINGS.backend),
    shell:
        "{DIABLO} generate {input.spec} --suite {input.suite} --backend {params.backend} "
        "--gpus {resources.gpu} --threads {threads} 2>&1 | tee {log}"
