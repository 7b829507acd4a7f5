# Section 4.5 of the paper: what one training step costs in each form, on this machine and as recorded.


rule measure_speed:
    output:
        directory(f"{ROOT}/speed"),
    log:
        f"{LOGS}/speed.log",
    threads: lambda wildcards: workflow.cores
    resources:
        mem_mb=growing(6000),
        gpu=one_gpu,
    params:
        lock=LOCK,
        code=lambda wildcards: code_digest("benchmarks.train_step:main"),
    shell:
        "{PYTHON} -m benchmarks.train_step --typical --threads {threads} "
        "--results {output} 2>&1 | tee {log}"


rule render_speed:
    input:
        measured=f"{ROOT}/speed",
        recorded=sorted(map(str, REPOSITORY.glob("benchmarks/results/*.json"))),
    output:
        csv=f"{ROOT}/tables/speed.csv",
        md=f"{ROOT}/tables/speed.md",
        tex=f"{ROOT}/tables/speed.tex",
        provenance=f"{ROOT}/tables/speed.provenance.json",
        html=report(
            f"{ROOT}/tables/speed.html",
            caption="../../report/captions/speed.rst",
            category="Tables",
            subcategory="speed",
            labels={"experiment": "speed", "shows": "table"},
        ),
    log:
        f"{LOGS}/tables/speed.log",
    resources:
        mem_mb=growing(1000),
    params:
        lock=LOCK,
        code=lambda wildcards: code_digest("benchmarks.report:main"),
        out=lambda wildcards, output: output.csv.removesuffix(".csv"),
    shell:
        "{PYTHON} -m benchmarks.report --measured {input.measured} "
        "--out {params.out} 2>&1 | tee {log}"
