# Models and data sets, from the mirror, the cache or the network; checked and built once.


localrules:
    resolve_run,
    resolve_suite,
    resolve_plan,


rule download_model:
    input:
        model_files_of,
        rehearsed_sources,
    output:
        f"{MODELS}/{{model}}/provenance.json",
    log:
        f"{SETTINGS.results}/logs/models/{{model}}.log",
    retries: 2
    resources:
        mem_mb=growing(2500),
    params:
        source=model_digest,
        code=model_code,
    shell:
        "{DIABLO} download --model {wildcards.model} --out $(dirname {output}) {WHERE} "
        "2>&1 | tee {log}"


rule download_dataset:
    input:
        rehearsed_sources,
    output:
        f"{ROOT}/data/{{dataset}}/provenance.json",
    log:
        f"{LOGS}/data/{{dataset}}.log",
    resources:
        mem_mb=growing(1500),
    params:
        source=dataset_digest,
        code=dataset_code,
    shell:
        "{DIABLO} download --dataset {wildcards.dataset} --out $(dirname {output}) {WHERE} "
        "2>&1 | tee {log}"


# Training waits for it: a training question that is a test question fails the build.
rule check_overlap:
    input:
        f"{ROOT}/data/{{dataset}}/provenance.json",
    output:
        f"{ROOT}/data/{{dataset}}/overlap.json",
    log:
        f"{LOGS}/data/{{dataset}}-overlap.log",
    resources:
        mem_mb=growing(1500),
    params:
        code=code_of("check-overlap"),
    shell:
        "{DIABLO} check-overlap $(dirname {input}) --out {output} 2>&1 | tee {log}"


rule resolve_run:
    input:
        trials_of,
    output:
        f"{ROOT}/runs/{{run}}/spec.json",
    params:
        json=lambda wildcards: as_json(PLAN.runs[wildcards.run].model_dump()),
        code=tuning_code,
    shell:
        "{DIABLO} resolve --kind run --json {params.json:q} --out {output}"


rule resolve_suite:
    output:
        f"{ROOT}/suites/{{suite}}-{{variant}}.json",
    params:
        json=lambda wildcards: as_json(suite_spec(wildcards).model_dump()),
    shell:
        "{DIABLO} resolve --kind suite --json {params.json:q} --out {output}"


rule resolve_plan:
    output:
        f"{ROOT}/tables/{{experiment}}.plan.json",
    params:
        json=lambda wildcards: as_json(PLAN.tables[wildcards.experiment]),
    shell:
        "{DIABLO} resolve --kind plan --json {params.json:q} --out {output}"
