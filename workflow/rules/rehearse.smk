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


onstart:
    if SETTINGS.rehearse:
        from diablo.rehearsal.helpers import start

        # They end when this process does, however it ends: it holds the other end of their standard input.
        start(SETTINGS, used_device(SETTINGS))
        # With a limit on the jobs of a second (default: 100) Snakemake looks at all ready jobs again each second,
        # once for every job that has ended so far: among a thousand short jobs that takes longer than the jobs.
        workflow.scheduler.job_rate_limiter = None
