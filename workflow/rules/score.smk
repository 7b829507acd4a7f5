# lm-eval on the stored generations: no GPU, no model.


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
    resources:
        mem_mb=1500,
    params:
        lock=LOCK,
    shell:
        "{DIABLO} score {input.spec} --suite {input.suite} 2>&1 | tee {log}"
