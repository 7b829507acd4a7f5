"""Snakemake's Kubernetes executor for pods that share a volume with Snakemake, at the same path.

The plugin that does the work takes it that pods share nothing, and copies declared files alone through object
storage. Jobs here also read and write what lies beside those: weights, checkpoints, partial generations.
"""

import shlex
from dataclasses import replace

import snakemake_executor_plugin_kubernetes as pods
from snakemake_executor_plugin_kubernetes import ExecutorSettings

__all__ = ["Executor", "ExecutorSettings", "common_settings"]

common_settings = replace(
    pods.common_settings,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    auto_deploy_default_storage_provider=False,
)


class Executor(pods.Executor):
    """Jobs that start where Snakemake was started, instead of in an empty folder."""

    def get_job_exec_prefix(self, job):
        return f"cd {shlex.quote(str(self.workflow.workdir_init))}"
