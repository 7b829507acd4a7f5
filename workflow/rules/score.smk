# Scores of the stored generations (no GPU, no model), and the loss on the gold answers.


rule score_suite:
    input:
        spec=f"{ROOT}/runs/{{run}}/spec.json",
        suite=suite_of,
        generations=f"{ROOT}/runs/{{run}}/generations/{{suite}}.jsonl",
        data=test_data_of,
    output:
        f"{ROOT}/runs/{{run}}/scores/{{suite}}.json",
    log:
        f"{LOGS}/runs/{{run}}/score-{{suite}}.log",
    threads: 1
    resources:
        mem_mb=growing(1500),
    params:
        lock=LOCK,
        code=score_code,
        protocol=asked_protocol,
        # What decides the scores, for Snakemake to see; how it is said is in SCORING.
        decided=lambda wildcards: as_json(PLAN.scoring[suite_key(wildcards.run)]),
    shell:
        "{DIABLO} score {input.spec} --suite {input.suite} --workers {threads} {SCORING} "
        "2>&1 | tee {log}"


rule measure_loss:
    input:
        spec=f"{ROOT}/runs/{{run}}/spec.json",
        adapter=f"{ROOT}/runs/{{run}}/adapter/provenance.json",
        suite=suite_of,
        model=model_of,
        data=test_data_of,
    output:
        f"{ROOT}/runs/{{run}}/losses/{{suite}}.json",
    log:
        f"{LOGS}/runs/{{run}}/measure-{{suite}}.log",
    threads: 1
    resources:
        mem_mb=mem_of("measure", 2500),
        gpu=one_gpu,
        gpu_mem_mb=gpu_mem_of("measure"),
        runtime=runtime_of("measure"),
    params:
        lock=LOCK,
        code=run_code("measure"),
        protocol=asked_protocol,
    shell:
        "{DIABLO} measure {input.spec} --suite {input.suite} --threads {threads} 2>&1 | tee {log}"


# What chooses the learning rate of a tuned run: the training examples that its trials left out.
rule measure_held_out:
    input:
        spec=f"{ROOT}/runs/{{run}}/spec.json",
        adapter=f"{ROOT}/runs/{{run}}/adapter/provenance.json",
        model=model_of,
        data=train_data_of,
    output:
        f"{ROOT}/runs/{{run}}/held_out.json",
    log:
        f"{LOGS}/runs/{{run}}/measure-held-out.log",
    threads: 1
    resources:
        mem_mb=mem_of("measure", 2500),
        gpu=one_gpu,
        gpu_mem_mb=gpu_mem_of("measure"),
        runtime=runtime_of("measure"),
    params:
        lock=LOCK,
        code=run_code("measure"),
        protocol=asked_protocol,
    shell:
        "{DIABLO} measure {input.spec} --threads {threads} 2>&1 | tee {log}"
