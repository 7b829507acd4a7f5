# Results of all runs -> one table and its charts, with what the paper reports beside them. A rule for
# each experiment: which figures there are depends on its kind.


for experiment in PLAN.tables:

    rule:
        name:
            f"aggregate_{experiment}"
        input:
            plan=f"{ROOT}/tables/{experiment}.plan.json",
            results=PLAN.results_of(experiment),
        output:
            multiext(
                f"{ROOT}/tables/{experiment}",
                ".csv",
                ".md",
                ".tex",
                ".provenance.json",
            ),
            html=report(
                f"{ROOT}/tables/{experiment}.html",
                caption="../../report/captions/table.rst",
                category="Tables",
                subcategory=experiment,
                labels={"experiment": experiment, "shows": "table"},
            ),
            charts=[
                report(
                    f"{ROOT}/figures/{figure}.png",
                    caption="../../report/captions/figure.rst",
                    category="Figures",
                    subcategory=experiment,
                    labels={"experiment": experiment, "shows": shows},
                )
                for figure, shows in PLAN.figures_of(experiment).items()
            ],
            others=expand(
                f"{ROOT}/figures/{{figure}}.{{form}}",
                figure=PLAN.figures_of(experiment),
                form=("svg", "csv"),
            ),
            figure_provenance=f"{ROOT}/figures/{experiment}.provenance.json",
        log:
            f"{LOGS}/tables/{experiment}.log",
        resources:
            mem_mb=growing(1000),
        params:
            lock=LOCK,
            code=code_of("aggregate"),
            experiment=experiment,
            stand_ins=PLAN.tables[experiment]["stand_ins"],
        shell:
            "{DIABLO} aggregate {input.plan} 2>&1 | tee {log}"


# What each quantiser does to the model, before anything is trained on it.
for experiment in [name for name in PLAN.tables if PLAN.tables[name]["quantizers"]]:

    rule:
        name:
            f"aggregate_{experiment}_quantizers"
        input:
            plan=f"{ROOT}/tables/{experiment}.plan.json",
            quality=PLAN.quantizers_of(experiment),
        output:
            multiext(
                f"{ROOT}/tables/{experiment}-quantizers",
                ".csv",
                ".md",
                ".tex",
                ".provenance.json",
            ),
            html=report(
                f"{ROOT}/tables/{experiment}-quantizers.html",
                caption="../../report/captions/quantizers.rst",
                category="Tables",
                subcategory=experiment,
                labels={"experiment": experiment, "shows": "quantisers"},
            ),
        log:
            f"{LOGS}/tables/{experiment}-quantizers.log",
        resources:
            mem_mb=growing(1000),
        params:
            lock=LOCK,
            code=code_of("aggregate"),
            experiment=experiment,
            stand_ins=PLAN.tables[experiment]["stand_ins"],
        shell:
            "{DIABLO} aggregate {input.plan} --what quantizers 2>&1 | tee {log}"
