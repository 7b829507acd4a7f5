"""Fixtures for all tests: the mirror, the real small model, one thread."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Before anything imports torch: tests run beside each other and are compared bit for bit.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from hypothesis import settings

from diablo.data.catalog import load_catalog
from diablo.data.prepare import download_model
from diablo.data.sources import cache_folder, locked
from diablo.io import read_json

# How long an example takes says nothing of it: a busy machine would fail any deadline.
settings.register_profile("project", deadline=None)
settings.load_profile("project")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """One torch thread, in tests that have torch; the others do not import it for this."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The mirror with the real data sets; tests that need it are skipped without DIABLO_MIRROR."""
    folder = os.environ.get("DIABLO_MIRROR")
    if not folder:
        pytest.skip("needs a mirror of the data sets: set DIABLO_MIRROR to its folder")
    return Path(folder)


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """Folder of the real small model, converted once into the cache. Use it in slow tests only."""
    folder = cache_folder() / "models" / "smollm2-135m"
    pinned = [source.sha256 for source in load_catalog().model("smollm2-135m").sources]
    made = folder / "provenance.json"
    with locked(folder):
        if not made.is_file() or list(read_json(made)["sources"].values()) != pinned:
            download_model("smollm2-135m", folder)
    return folder
