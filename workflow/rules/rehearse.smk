# A rehearsal (rehearse: true): files in place of what would be downloaded, and the processes that help its jobs.


rule rehearse_sources:
    output:
        f"{ROOT}/sources/provenance.json",
    log:
        f"{LOGS}/sources.log",
    resources:
        mem_mb=2500,
    params:
        code=code_of("rehearse"),
    shell:
        "{DIABLO} rehearse --out $(dirname {output}) 2>&1 | tee {log}"


if SETTINGS.rehearse:
    # With a limit on the jobs of a second (default: 100) Snakemake looks at all ready jobs again each second, once for
    # every job that has ended so far: among a thousand jobs of a second that takes longer than the jobs.
    workflow.scheduling_settings.max_jobs_per_timespan = None
