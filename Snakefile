# Entry point: one target rule per table and figure of the paper; the chain is in workflow/rules/.
from snakemake.utils import min_version

min_version("9.0")


configfile: "config.yaml"


report: "report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/resources.smk"
include: "workflow/rules/rehearse.smk"
include: "workflow/rules/start.smk"
include: "workflow/rules/download.smk"
include: "workflow/rules/quantize.smk"
include: "workflow/rules/finetune.smk"
include: "workflow/rules/generate.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/analyse.smk"
include: "workflow/rules/aggregate.smk"
include: "workflow/rules/speed.smk"
include: "workflow/rules/theorems.smk"
include: "workflow/rules/audit.smk"
include: "workflow/rules/schematic.smk"
include: "workflow/rules/claims.smk"


rule all:
    default_target: True
    input:
        [table_outputs(name) for name in PLAN.tables],
        rules.test_theorems.output,
        rules.audit_paper.output,
        rules.draw_schematic.output,
        rules.judge_claims.output,


# table1, table2, ... figure7: every file in workflow/experiments/ and workflow/figures/ is a target of its name.
for experiment in PLAN.tables:

    rule:
        name:
            experiment
        input:
            table_outputs(experiment),


rule serving:
    input:
        serving_outputs,


rule speed:
    input:
        rules.render_speed.output,


rule theorems:
    input:
        rules.test_theorems.output,


rule audit:
    input:
        rules.audit_paper.output,


rule claims:
    input:
        rules.judge_claims.output,
