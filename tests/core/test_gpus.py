"""The lease of GPUs: exclusive, without deadlock, freed by a kill, and true to what was assigned."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diablo import gpus
from diablo.gpus import VISIBLE, candidates, lease, listed

FOUR = {str(index): f"GPU-{letter}" for index, letter in enumerate("abcd")}
#: Seconds between two looks, and until a test gives up.
POLL, LONG = 0.01, 120


@pytest.fixture(autouse=True)
def nothing_assigned(monkeypatch):
    for name in (VISIBLE, "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)


def test_a_job_sees_its_own_gpus_alone(tmp_path):
    with lease(1, FOUR, tmp_path) as first:
        assert first == ["0"]
        assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
        assert os.environ.pop(VISIBLE) == "0"
        with lease(2, FOUR, tmp_path) as second:
            assert second == ["1", "2"]
            assert os.environ[VISIBLE] == "1,2"
        os.environ[VISIBLE] = "0"
    assert VISIBLE not in os.environ
    assert "CUDA_DEVICE_ORDER" not in os.environ


def test_an_assignment_is_not_overruled(tmp_path, monkeypatch):
    monkeypatch.setenv(VISIBLE, "2,3")
    with lease(2, FOUR, tmp_path) as chosen:
        assert chosen == ["2", "3"]
        # As the user has it: the order in which CUDA counts is the user's matter, too.
        assert "CUDA_DEVICE_ORDER" not in os.environ
    assert os.environ[VISIBLE] == "2,3"
    with pytest.raises(ValueError, match=r"needs 3 GPUs, but CUDA_VISIBLE_DEVICES = 2,3 shows 2"):
        lease(3, FOUR, tmp_path).__enter__()


def test_more_than_there_are_is_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match=r"needs 5 GPUs, but this machine has 4; lower `gpus`"):
        lease(5, FOUR, tmp_path).__enter__()


@pytest.mark.parametrize("visible", ["", "-1", "NoDevFiles", "7"])
def test_hidden_gpus_are_left_alone(tmp_path, monkeypatch, visible):
    monkeypatch.setenv(VISIBLE, visible)
    with lease(2, FOUR, tmp_path) as chosen:
        assert chosen == []
        assert os.environ[VISIBLE] == visible


@pytest.mark.parametrize("visible", ["0", "0,1", "NoDevFiles"])
def test_without_a_gpu_there_is_none_to_wait_for(visible):
    assert candidates({}, visible) == {}


def test_other_users_can_lock_the_same_gpus(tmp_path):
    folder, before = tmp_path / "locks", os.umask(0o077)
    try:
        with lease(1, FOUR, folder):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o1777
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o644}


def test_without_a_gpu_nothing_happens(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert listed() == {}
    with lease(2, folder=tmp_path / "locks") as chosen:
        assert chosen == []
    assert VISIBLE not in os.environ
    assert not (tmp_path / "locks").exists()


def test_gpus_are_counted_by_nvidia_smi(tmp_path, monkeypatch):
    listing = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1b-2c)\n  MIG 1g.10gb     Device  0: (UUID: MIG-9)\nGPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-3d)\n"
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n[ \"$1\" = -L ] && cat <<'END'\n{listing}END\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert listed() == {"0": "GPU-1b-2c", "1": "GPU-3d"}


@pytest.mark.parametrize(
    ("visible", "locks"),
    [
        (None, FOUR),
        ("1", {"1": "GPU-b"}),
        ("GPU-c, 0", {"GPU-c": "GPU-c", "0": "GPU-a"}),
        # One GPU under two names is one lock; what is not known has a lock of its own name.
        ("GPU-d,MIG-7", {"GPU-d": "GPU-d", "MIG-7": "MIG-7"}),
        # There is no fifth GPU: who leased it would compute on the CPU.
        ("3,4", {"3": "GPU-d"}),
    ],
)
def test_the_lock_is_the_gpus_whatever_it_is_called(visible, locks):
    assert candidates(FOUR, visible) == locks


def test_jobs_that_were_assigned_one_gpu_under_two_names_exclude_each_other(tmp_path, monkeypatch):
    monkeypatch.setenv(VISIBLE, "GPU-b")
    with lease(1, FOUR, tmp_path):
        monkeypatch.setenv(VISIBLE, "1,3")
        with lease(1, FOUR, tmp_path) as chosen:
            assert chosen == ["3"]
        monkeypatch.setenv(VISIBLE, "GPU-b")


class Job:
    """A process that asks for GPUs and, once it has them, holds them until it is told to end."""

    CODE = """if True:
        import sys
        from pathlib import Path
        from diablo.gpus import lease
        with lease(int(sys.argv[2]), {found}, Path(sys.argv[1]), {poll}) as chosen:
            print(*chosen, flush=True)
            sys.stdin.read()
    """

    def __init__(self, folder, count, visible=None):
        code = self.CODE.format(found=FOUR, poll=POLL)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(folder), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **({VISIBLE: visible} if visible else {})},
        )

    def chosen(self):
        """What it got; waits for it."""
        return self.process.stdout.readline().split()

    def waits(self):
        """Why it waits; waits until it says so."""
        return self.process.stderr.readline()

    def end(self):
        self.process.stdin.close()
        assert self.process.wait() == 0


def test_kill_dash_9_frees_gpus_and_those_in_line_go_on(tmp_path):
    holders = [Job(tmp_path, 2) for _ in range(2)]
    assert sorted(entry for job in holders for entry in job.chosen()) == list(FOUR)
    first = Job(tmp_path, 3)
    assert "of 4 GPUs 0 are free, the job needs 3" in first.waits()
    second = Job(tmp_path, 1)
    assert "first in line" in second.waits()
    for holder in holders:
        holder.process.send_signal(signal.SIGKILL)
        holder.process.wait()
    assert first.chosen() == ["0", "1", "2"]
    assert second.chosen() == ["3"]
    first.end()
    second.end()


def test_a_line_for_one_gpu_holds_up_nobody_who_may_have_another(tmp_path):
    holder = Job(tmp_path, 1, "0")
    assert holder.chosen() == ["0"]
    waiting = Job(tmp_path, 1, "GPU-a")
    assert "of 1 GPUs 0 are free" in waiting.waits()
    other = Job(tmp_path, 1, "1")
    assert other.chosen() == ["1"]
    holder.end()
    assert waiting.chosen() == ["GPU-a"]
    waiting.end()
    other.end()


def _jobs(folder, counts, log):
    """Hold so many GPUs, one job after the other; each GPU's file is made and deleted by its holder alone."""
    for count in counts:
        os.environ.pop(VISIBLE, None)
        with lease(count, FOUR, folder / "locks", POLL) as chosen:
            for entry in chosen:
                (folder / entry).touch(exist_ok=False)
            for entry in chosen:
                (folder / entry).unlink()
            log.put(len(chosen))


def test_many_jobs_at_once_share_no_gpu_and_all_end(tmp_path):
    asked = [[4, 1, 2], [1, 1, 1, 1], [3, 2], [2, 4]]
    spawn = multiprocessing.get_context("spawn")
    log = spawn.SimpleQueue()
    processes = [spawn.Process(target=_jobs, args=(tmp_path, counts, log)) for counts in asked]
    for process in processes:
        process.start()
    for process in processes:
        process.join(LONG)
        assert process.exitcode == 0
    every = [count for counts in asked for count in counts]
    assert sorted(log.get() for _ in every) == sorted(every)


@settings(max_examples=50)
@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=6),
    st.lists(st.sampled_from("0123"), max_size=3, unique=True),
)
def test_leases_side_by_side_are_disjoint_and_as_large_as_asked(tmp_path_factory, counts, busy):
    """Within one process: what is taken beside what others hold, and what is given back."""
    folder = tmp_path_factory.mktemp("locks")
    others = [gpus._try_lock(folder / FOUR[entry]) for entry in busy]
    free = [entry for entry in FOUR if entry not in busy]
    for count in counts:
        if count <= len(free):
            with lease(count, FOUR, folder, POLL) as chosen:
                assert chosen == free[:count]
                assert all(gpus._try_lock(folder / FOUR[entry]) is None for entry in chosen)
    for lock in others:
        os.close(lock)
