# Looks into trained models: is the model that trained the one that was served, what are its ranks.


rule check_serving:
    input:
        spec=f"{ROOT}/runs/{{run}}/spec.json",
        adapter=f"{ROOT}/runs/{{run}}/adapter/provenance.json",
        suite=suite_of,
        model=model_of,
        data=test_data_of,
    output:
        f"{ROOT}/runs/{{run}}/serving/{{suite}}.json",
    log:
        f"{LOGS}/runs/{{run}}/serving-{{suite}}.log",
    threads: 1
    resources:
        mem_mb=mem_of("check-serving", 4000),
        gpu=gpus_of("check-serving"),
        gpu_mem_mb=gpu_mem_of("check-serving"),
        runtime=runtime_of("check-serving"),
    params:
        lock=LOCK,
        code=run_code("check-serving"),
        protocol=asked_protocol,
        backend=SETTINGS.backend,
    shell:
        "{DIABLO} check-serving {input.spec} --suite {input.suite} --backend {params.backend} "
        "--gpus {resources.gpu} --threads {threads} 2>&1 | tee {log}"


rule probe_ranks:
    input:
        spec=f"{ROOT}/runs/{{run}}/spec.json",
        adapter=f"{ROOT}/runs/{{run}}/adapter/provenance.json",
        model=model_of,
        data=train_data_of,
    output:
        f"{ROOT}/runs/{{run}}/ranks/{{probe}}.json",
    log:
        f"{LOGS}/runs/{{run}}/ranks-{{probe}}.log",
    threads: 1
    resources:
        mem_mb=mem_of("ranks", 2900),
        gpu=one_gpu,
        gpu_mem_mb=gpu_mem_of("ranks"),
        runtime=runtime_of("ranks"),
    params:
        lock=LOCK,
        code=run_code("ranks"),
        protocol=trained_protocol,
        probe=lambda wildcards: PLAN.probes[wildcards.probe].model_dump_json(),
    shell:
        "{DIABLO} ranks {input.spec} --probe {params.probe:q} --threads {threads} 2>&1 | tee {log}"
