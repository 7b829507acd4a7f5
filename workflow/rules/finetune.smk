# One fine-tuning run; runs that several tables share are trained once.


rule finetune_run:
    input:
        spec=f"{ROOT}/runs/{{run}}/spec.json",
        model=model_of,
        data=train_data_of,
        overlap=overlap_of,
        mask=mask_of,
        full=full_of,
    output:
        adapter=f"{ROOT}/runs/{{run}}/adapter/provenance.json",
        log=f"{ROOT}/runs/{{run}}/log.jsonl",
    log:
        f"{LOGS}/runs/{{run}}/finetune.log",
    benchmark:
        f"{BENCHMARKS}/runs/{{run}}/finetune.tsv"
    threads: 1
    resources:
        mem_mb=mem_of("finetune", 2900),
        gpu=gpus_of("finetune"),
        gpu_mem_mb=gpu_mem_of("finetune"),
        runtime=runtime_of("finetune"),
    params:
        lock=LOCK,
        code=run_code("finetune"),
        protocol=trained_protocol,
    shell:
        "{DIABLO} finetune {input.spec} --gpus {resources.gpu} --threads {threads} 2>&1 | tee {log}"


# The same with the full weights' gradients at each epoch's end, for the runs that are asked for them.
use rule finetune_run as finetune_monitored with:
    output:
        adapter=f"{ROOT}/runs/{{run}}/adapter/provenance.json",
        log=f"{ROOT}/runs/{{run}}/log.jsonl",
        gradients=f"{ROOT}/runs/{{run}}/gradients.jsonl",
    wildcard_constraints:
        run=MONITORED,


ruleorder: finetune_monitored > finetune_run
