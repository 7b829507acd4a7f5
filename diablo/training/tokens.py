"""Encoded training examples, kept between the runs that train on the same ones.

The methods of a table train on the same records with the same tokenizer: the first run encodes, the
others read. A file's name is the hash of all that its content follows from, so none is ever stale.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from diablo.data import encode as encoder
from diablo.data import protocol as protocols
from diablo.io import atomic_path, read_jsonl, sha256_file, sha256_json

from . import examples
from .examples import Encoded, encode, select, split

#: What the encoding runs through; a change of one of these files is another key.
CODE = (encoder.__file__, protocols.__file__, examples.__file__, __file__)

#: What an example has.
TEXTS = ("input_ids", "labels")

#: Files of a model folder that no tokenizer reads.
NOT_TOKENIZER = ("*.safetensors", "*.bin", "*.pt", "*.gguf", "*.index.json", "provenance.json")


def token_folder(work_folder: str | Path) -> Path:
    """Where the runs of a scale share their tokens: `tokens/` in the `.work` that holds a run's
    work folder, or beside a work folder that lies elsewhere."""
    work = Path(work_folder)
    shared = next((parent for parent in work.parents if parent.name == ".work"), work.parent)
    return shared / "tokens"


def cached_encode(
    tokenizer: Any,
    protocol: Any,
    data_path: str | Path,
    model_path: str | Path,
    limit: int | None,
    seed: int,
    max_length: int,
    cache_folder: str | Path,
    held_out: int = 0,
    encoder_decoder: bool = False,
) -> Encoded:
    """`encode` of the selected records, less those held out, of `<data_path>/train.jsonl`, read from the cache if it is there.

    Several jobs may do this at once: each writes the same file under a name of its own and renames
    it. A file that cannot be read is made again.

    Args:
        tokenizer: of `model_path`, as loaded from it.
        protocol: `diablo.data.protocol.Protocol`; all its fields are part of the key.
        data_path, model_path: folders, as in RunSpec.
        limit, seed, held_out: of `select` and `split`.
        max_length, encoder_decoder: of `encode`; the length in tokens.
        cache_folder: see `token_folder`; made if missing, may be deleted at any time.

    Returns:
        Exactly what `encode` returns; the examples are views of two common tensors.

    Raises:
        ValueError: as `encode` does; nothing is written then.
    """
    data = Path(data_path) / "train.jsonl"
    key = cache_key(protocol, data, model_path, limit, seed, max_length, held_out, encoder_decoder)
    path = Path(cache_folder) / f"{key}.safetensors"
    encoded = load(path)
    if encoded is None:
        records, _ = split(select(read_jsonl(data), limit, seed), held_out, seed)
        encoded = encode(tokenizer, protocol, records, max_length, encoder_decoder)
        save(encoded, path)
    return encoded


def cache_key(
    protocol: Any,
    data: Path,
    model_path: str | Path,
    limit: int | None,
    seed: int,
    max_length: int,
    held_out: int = 0,
    encoder_decoder: bool = False,
) -> str:
    """SHA-256 of all that the encoded examples follow from: data, tokenizer, settings, code."""
    folder = Path(model_path)
    files = [
        path
        for path in sorted(folder.iterdir() if folder.is_dir() else [])
        if path.is_file() and not any(path.match(pattern) for pattern in NOT_TOKENIZER)
    ]
    return sha256_json(
        {
            "data": sha256_file(data),
            # A model that is no folder is a hub name: the name has to do.
            "tokenizer": [[path.name, sha256_file(path)] for path in files] or str(model_path),
            "protocol": dataclasses.asdict(protocol),
            # Without a limit all are taken, whatever the seed.
            "select": None if limit is None and not held_out else [limit, seed, held_out],
            "max_length": max_length,
            "encoder_decoder": encoder_decoder,
            "code": [sha256_file(path) for path in CODE],
            "packages": [
                importlib.metadata.version(name) for name in ("tokenizers", "transformers")
            ],
        }
    )


def save(encoded: Encoded, path: Path) -> None:
    """Write encoded examples: of `input_ids` and of `labels` all end to end (int32), and `<name>_lengths`.

    The metadata has both counts and a SHA-256 of the tensors.
    """
    tensors = {}
    for name in TEXTS:
        texts = [example[name] for example in encoded.examples]
        tensors[name] = torch.cat(texts).to(torch.int32)
        tensors[f"{name}_lengths"] = torch.tensor([len(text) for text in texts])
    counts = {"truncated": encoded.truncated, "dropped": encoded.dropped}
    metadata = {name: str(count) for name, count in counts.items()}
    metadata["sha256"] = _digest(tensors, metadata)
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata)


def load(path: Path) -> Encoded | None:
    """What `save` wrote, ids and labels int64 again; None if there is no file or it is damaged."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
            names = [name + ending for name in TEXTS for ending in ("", "_lengths")]
            tensors = {name: file.get_tensor(name) for name in names}
        if metadata.pop("sha256") != _digest(tensors, metadata):
            raise ValueError("its content is not what was written")
        truncated, dropped = int(metadata["truncated"]), int(metadata["dropped"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        print(f"{path}: unreadable ({error}); encoding again", file=sys.stderr)
        return None
    texts = [tensors[name].long().split(tensors[f"{name}_lengths"].tolist()) for name in TEXTS]
    examples = [dict(zip(TEXTS, example, strict=True)) for example in zip(*texts, strict=True)]
    return Encoded(examples, truncated, dropped)


def _digest(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> str:
    """A flipped bit would train on another token, and nothing else would notice."""
    digest = hashlib.sha256(sha256_json(metadata).encode())
    for name in sorted(tensors):
        digest.update(tensors[name].numpy().data)
    return digest.hexdigest()
