# The paper's sentences, judged on its own numbers and on whatever tables this scale has by now.


def claimed_tables():
    found = [*PLAN.tables, "theorems"]
    return {name: f"{ROOT}/tables/{name}.csv" for name in found}


# As a module's user calls a target, now that this file is read.
TARGETS = {
    name: workflow.modifier.modify_rulename(name) for name in ("all", *claimed_tables())
}


# What the same call builds comes first.
def tables_asked_for(wildcards):
    asked = set(map(str, workflow.dag_settings.targets)) or {"all"}
    tables = claimed_tables()
    return [
        path
        for name, path in tables.items()
        if asked & {TARGETS["all"], TARGETS[name], path}
    ]


# Other tables are no inputs: an outdated one would be trained again. A change of theirs is a change of this.
def tables_there(wildcards):
    asked = tables_asked_for(wildcards)
    paths = [Path(path) for path in claimed_tables().values() if path not in asked]
    return {str(path): path.stat().st_mtime_ns for path in paths if path.is_file()}


rule judge_claims:
    input:
        claims=f"{REPOSITORY}/workflow/claims.yaml",
        experiments=sorted(map(str, REPOSITORY.glob("workflow/experiments/*.yaml"))),
        tables=tables_asked_for,
    output:
        multiext(
            f"{ROOT}/tables/claims",
            ".csv",
            ".md",
            ".tex",
            ".provenance.json",
        ),
        html=report(
            f"{ROOT}/tables/claims.html",
            caption="../../report/captions/claims.rst",
            category="Tables",
            subcategory="claims",
            labels={"experiment": "claims", "shows": "verdicts"},
        ),
    log:
        f"{LOGS}/tables/claims.log",
    threads: 1
    resources:
        mem_mb=growing(1000),
    params:
        lock=LOCK,
        code=code_of("claims"),
        out=ROOT,
        tables=tables_there,
    shell:
        "{DIABLO} claims --out {params.out} 2>&1 | tee {log}"
