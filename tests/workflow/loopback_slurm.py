"""A SLURM cluster of one node on loopback: its own munge, controller and node daemon in a temporary folder.

As a program: `python tests/workflow/loopback_slurm.py FOLDER COMMAND...` runs a command with a cluster.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")

# In a container: no systemd and no cgroups, so processes are found by their parents and memory is counted,
# not enforced. The node has what is written here, whatever the machine has; its GPUs are a count alone.
# A finished job stays on record, as there is no accounting that would know of it. Jobs of the partition `urgent`
# send others back into the queue.
CONFIG = """
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=86400
KillWait=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MpiDefault=none
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=64000 Gres=gpu:2 State=UNKNOWN
PartitionName=loopback Nodes={host} Default=YES PriorityTier=1
PartitionName=urgent Nodes={host} PriorityTier=2
"""


def missing() -> list[str]:
    """What SLURM needs and this machine has not: programs, or the right to run jobs as their user."""
    found = [name for name in PROGRAMS if shutil.which(name) is None]
    return found + ["root"] * (os.geteuid() != 0)


@contextmanager
def loopback_slurm(folder: Path) -> Iterator[dict[str, str]]:
    """A running cluster, as the environment in which SLURM's commands find it.

    Raises:
        RuntimeError: a daemon ended or did not answer; with the end of its log.
    """
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    controller, daemon = _free_ports(2)
    text = CONFIG.format(host=host, controller=controller, daemon=daemon, folder=folder)
    config = folder / "slurm.conf"
    config.write_text(text)
    # Any two devices do: nothing computes on them.
    (folder / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")
    env = {**os.environ, "SLURM_CONF": str(config), "USER": "root"}
    env["PATH"] = f"{_with_configuration('srun', config)}{os.pathsep}{env['PATH']}"
    munge = [f"--{name}={folder}/munge.{name.split('-')[0]}" for name in ("socket", "key-file", "log-file", "pid-file", "seed-file")]  # fmt: skip
    with ExitStack() as stack:
        for command, ready in (
            (["munged", "--foreground", "--force", *munge], (folder / "munge.socket").is_socket),
            (
                ["slurmctld", "-D", "-f", str(config)],
                lambda: "is UP" in _said(env, "scontrol", "ping"),
            ),
            (["slurmd", "-D", "-f", str(config)], lambda: "idle" in _said(env, "sinfo", "-ho%t")),
        ):
            stack.enter_context(_daemon(command, folder, env, ready))
        try:
            yield env
        finally:
            # Job steps outlive the daemons.
            subprocess.run(["scancel", "--user=root"], env=env)
            deadline = time.monotonic() + 30
            while _said(env, "squeue", "-h") and time.monotonic() < deadline:
                pass


def _with_configuration(name: str, config: Path) -> Path:
    """A folder with a program that knows where the configuration is: the job step's Snakemake drops SLURM_CONF."""
    folder = config.parent / "bin"
    folder.mkdir()
    program = folder / name
    program.write_text(f'#!/bin/sh\nSLURM_CONF={config} exec {shutil.which(name)} "$@"\n')
    program.chmod(0o755)
    return folder


@contextmanager
def _daemon(
    command: list[str], folder: Path, env: dict[str, str], ready: Callable[[], bool]
) -> Iterator[None]:
    name = command[0]
    with (folder / f"{name}.out").open("wb") as out:
        started = subprocess.Popen(command, env=env, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 120
        while not ready():
            try:
                started.wait(timeout=0.2)
                raise RuntimeError(f"{name} ended: {_tail(folder, name)}")
            except subprocess.TimeoutExpired:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{name} does not answer: {_tail(folder, name)}") from None
        yield
    finally:
        started.terminate()
        started.wait()


def _tail(folder: Path, name: str) -> str:
    return (folder / f"{name}.out").read_text(errors="replace")[-2000:]


def _said(env: dict[str, str], *command: str) -> str:
    return subprocess.run(command, env=env, capture_output=True, text=True).stdout


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


if __name__ == "__main__":
    with loopback_slurm(Path(sys.argv[1]).resolve()) as environment:
        raise SystemExit(subprocess.run(sys.argv[2:], env=environment).returncode)
