# A rehearsal (rehearse: true): files in place of what would be downloaded, and the processes that help its jobs.


rule rehearse_sources:
    output:
        f"{ROOT}/sources/provenance.json",
    log:
        f"{LOGS}/sources.log",
    resources:
        mem_mb=growing(2500),
    params:
        declared=rehearsed_digest,
        code=code_of("rehearse"),
    shell:
        "{DIABLO} rehearse --out $(dirname {output}) 2>&1 | tee {log}"
