# What jobs ask a scheduler for, where it follows from the model: by `diablo estimate`'s own sizes and rates.
from diablo.estimate.requests import Requests, grown

REQUESTS = Requests.of(PLAN, DEVICE, SETTINGS.backend)


# None where the plan is for a CPU.
def one_gpu(wildcards):
    return int(REQUESTS.device == "gpu")


# As many as the job computes on. Not in the spec and no param: what a run's result is does not depend on it.
def gpus_of(verb):
    return lambda wildcards: REQUESTS.gpus(verb, wildcards.run)


# Where it does not follow from the model; by attempt too, as a retry is to have more of what the last one lacked.
def growing(mb):
    return lambda wildcards, attempt: grown(mb, attempt)


def worked_on(wildcards):
    return wildcards.get("run") or wildcards.quantized


def mem_of(verb, least):
    def mem_mb(wildcards, attempt):
        return REQUESTS.mem_mb(verb, worked_on(wildcards), least, attempt)

    return mem_mb


# For the eye, and for `--resources gpu_mem_mb=...` of one machine: SLURM and Kubernetes count cards.
def gpu_mem_of(verb):
    return lambda wildcards: REQUESTS.gpu_mem_mb(verb, worked_on(wildcards))


def runtime_of(verb):
    def runtime(wildcards, attempt):
        return REQUESTS.minutes(verb, worked_on(wildcards), attempt)

    return runtime
