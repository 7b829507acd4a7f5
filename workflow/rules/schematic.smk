# Figure 1: what full fine-tuning, LoRA and DiaBlo train of a weight. No data, the same at every scale.


rule draw_schematic:
    output:
        multiext(f"{ROOT}/figures/figure1", ".svg", ".csv", ".provenance.json"),
        png=report(
            f"{ROOT}/figures/figure1.png",
            caption="../../report/captions/schematic.rst",
            category="Figures",
            subcategory="figure1",
            labels={"experiment": "figure1", "shows": "schematic"},
        ),
    log:
        f"{LOGS}/figures/figure1.log",
    threads: 1
    resources:
        mem_mb=growing(1000),
    params:
        lock=LOCK,
        code=code_of("schematic"),
        out=ROOT,
    shell:
        "{DIABLO} schematic --out {params.out} 2>&1 | tee {log}"


rule figure1:
    input:
        rules.draw_schematic.output,
