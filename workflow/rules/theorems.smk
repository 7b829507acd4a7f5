# Theorems 1 and 2 of the paper on random matrices: no model, no data set, the same at every scale.


rule test_theorems:
    output:
        multiext(
            f"{ROOT}/tables/theorems",
            ".csv",
            ".md",
            ".tex",
            ".provenance.json",
        ),
        multiext(f"{ROOT}/figures/theorems", ".svg", ".csv", ".provenance.json"),
        html=report(
            f"{ROOT}/tables/theorems.html",
            caption="../../report/captions/theorems.rst",
            category="Tables",
            subcategory="theorems",
            labels={"experiment": "theorems", "shows": "table"},
        ),
        png=report(
            f"{ROOT}/figures/theorems.png",
            caption="../../report/captions/theorems.rst",
            category="Figures",
            subcategory="theorems",
            labels={"experiment": "theorems", "shows": "gaps and counter-examples"},
        ),
    log:
        f"{LOGS}/tables/theorems.log",
    threads: 1
    resources:
        mem_mb=growing(1000),
    params:
        lock=LOCK,
        code=code_of("theorems"),
        out=ROOT,
    shell:
        "{DIABLO} theorems --out {params.out} 2>&1 | tee {log}"
