"""Several processes of one job: what each sees, and how they end."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
import tempfile
from functools import partial

import pytest

from diablo.launch import launch

#: Jobs of the tests' own, in a module that looks at the GPUs when it is imported.
JOBS = """
import os, tempfile
from pathlib import Path

SEEN = os.environ["CUDA_VISIBLE_DEVICES"]

def look(folder):
    assert not list(Path(tempfile.gettempdir()).glob("diablo-*"))
    (folder / SEEN).touch()

def fail(folder):
    from torch import distributed
    distributed.destroy_process_group = (folder / "waited").touch
    raise ValueError("the reason")
"""


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    (tmp_path / "launched_jobs.py").write_text(JOBS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.delitem(sys.modules, "launched_jobs", raising=False)
    yield importlib.import_module("launched_jobs")
    sys.modules.pop("launched_jobs")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.mark.slow
def test_what_a_process_imports_sees_its_own_gpu_alone(jobs, folder):
    """An import may start CUDA: what is hidden later stays in sight."""
    launch(2, jobs.look, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["4", "7"]


@pytest.mark.slow
def test_a_process_that_fails_does_not_wait_for_the_others(jobs, folder):
    with pytest.raises(ValueError, match="the reason"):
        launch(2, jobs.fail, folder)
    assert not list(folder.iterdir())


@pytest.mark.parametrize(("visible", "count"), [(None, 1), ("0", 1), ("0,GPU-b", 2)])
def test_fewer_gpus_than_processes_are_refused(visible, count, monkeypatch):
    monkeypatch.setattr(
        "diablo.gpus.listed", lambda: {"0": "GPU-a", "1": "GPU-b"} if visible else {"0": "GPU-a"}
    )
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(ValueError, match=rf"the job needs 3 GPUs, but .* {count}; lower `gpus`"):
        launch(3, print)


def test_a_process_whose_parent_is_killed_while_it_starts_does_not_go_on(tmp_path):
    call = pickle.dumps(partial(print, "went on"))
    code = f"from diablo.launch import _process; _process(0, 1, -1, {str(tmp_path / 'store')!r}, None, {call!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
