# Checks of the pipeline itself: the model that trained is the model that was merged and served.


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
        mem_mb=4000,
        gpu=1,
    params:
        lock=LOCK,
        backend=SETTINGS.backend,
    shell:
        "{DIABLO} check-serving {input.spec} --suite {input.suite} --backend {params.backend} "
        "--threads {threads} 2>&1 | tee {log}"
