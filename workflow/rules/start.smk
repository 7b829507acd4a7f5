# Processes that accompany the jobs and end with this one: what they fork from and, in a rehearsal, the judge.


onstart:
    from diablo.forking.companions import start_server
    from diablo.rehearsal.judge import start_judge

    if SETTINGS.rehearse and not workflow.local_exec:
        # Its judge and its sources are on this machine alone, and so is what keeps it from the network.
        raise WorkflowError(
            "rehearse: a rehearsal runs where Snakemake runs; leave --executor and the cluster's profile out"
        )
    if SETTINGS.rehearse:
        start_judge(SETTINGS.judge.endpoint)
        # Nothing is fetched: what tries to is to fail, and at once.
        os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    # With a limit on the jobs of a second (default: 100) Snakemake looks at all ready jobs again each second, once for
    # every job that has ended so far: after some hundred jobs that takes a core. Here the cores are limit enough.
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None
    # Those that run a model import for some seconds. Few are sooner done than shared imports; those of a cluster are
    # elsewhere; and on a GPU each imports for itself, as CUDA outlives no fork.
    long = [
        job for job in workflow.dag.needrun_jobs() if "gpu" in job.rule.resources
    ]
    if workflow.local_exec and REQUESTS.device == "cpu" and len(long) > 3:
        start_server()
