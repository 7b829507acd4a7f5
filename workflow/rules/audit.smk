# The paper checked against itself, its released code and its sources: no model, no data set, no network.
AUDIT_FILES = [
    str(file)
    for folder in ("audit", "experiments")
    for file in sorted(Path(REPOSITORY, "workflow", folder).glob("*.yaml"))
]


rule audit_paper:
    input:
        AUDIT_FILES,
        catalog=f"{REPOSITORY}/workflow/catalog.yaml",
    output:
        multiext(f"{ROOT}/tables/audit", ".csv", ".md", ".tex", ".provenance.json"),
        html=report(
            f"{ROOT}/tables/audit.html",
            caption="../../report/captions/audit.rst",
            category="Tables",
            subcategory="audit",
            labels={"experiment": "audit", "shows": "table"},
        ),
    log:
        f"{LOGS}/tables/audit.log",
    threads: 1
    resources:
        mem_mb=growing(500),
    params:
        lock=LOCK,
        code=code_of("audit"),
        out=ROOT,
    shell:
        "{DIABLO} audit --out {params.out} 2>&1 | tee {log}"
