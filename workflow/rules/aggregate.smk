# Scores of all runs -> one table and its charts, with what the paper reports beside them.


rule aggregate_table:
    input:
        plan=f"{ROOT}/tables/{{experiment}}.plan.json",
        results=results_of,
    output:
        csv=f"{ROOT}/tables/{{experiment}}.csv",
        md=f"{ROOT}/tables/{{experiment}}.md",
        tex=f"{ROOT}/tables/{{experiment}}.tex",
        provenance=f"{ROOT}/tables/{{experiment}}.provenance.json",
        html=report(
            f"{ROOT}/tables/{{experiment}}.html",
            caption="../../report/captions/table.rst",
            category="Tables",
            subcategory="{experiment}",
            labels={"experiment": "{experiment}", "shows": "table"},
        ),
        chart=report(
            f"{ROOT}/figures/{{experiment}}.png",
            caption="../../report/captions/figure.rst",
            category="Figures",
            subcategory="{experiment}",
            labels={"experiment": "{experiment}", "shows": "averages"},
        ),
        tasks=report(
            f"{ROOT}/figures/{{experiment}}-tasks.png",
            caption="../../report/captions/figure.rst",
            category="Figures",
            subcategory="{experiment}",
            labels={"experiment": "{experiment}", "shows": "each task"},
        ),
        others=multiext(
            f"{ROOT}/figures/{{experiment}}", ".svg", ".csv", ".provenance.json"
        ),
        tasks_others=multiext(f"{ROOT}/figures/{{experiment}}-tasks", ".svg", ".csv"),
    log:
        f"{LOGS}/tables/{{experiment}}.log",
    resources:
        mem_mb=1000,
    params:
        stand_ins=lambda wildcards: PLAN.tables[wildcards.experiment]["stand_ins"],
    shell:
        "{DIABLO} aggregate {input.plan} 2>&1 | tee {log}"
