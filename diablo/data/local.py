"""A user's own files: JSONL with train and test records, and the folder of a Llama-like model.

What planning checks of them (the first records, the model's config.json) and how they are built in
front of the other jobs. Nothing here imports torch.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from diablo.data.catalog import Dataset, Model, Shapes
from diablo.data.commonsense import Record, Splits
from diablo.data.models import link_or_copy
from diablo.data.protocol import format_fields, unknown
from diablo.data.source_kinds import LocalSource
from diablo.data.sources import Folder
from diablo.io import read_json, sha256_file

#: Model types whose layers are a Llama's: q, k, v, o, gate, up and down, each a linear layer.
LLAMA_LIKE = ("llama", "mistral", "qwen2")

#: Files of a model folder that are used, in a Hugging Face folder's own names.
MODEL_FILES = ("*.json", "*.jinja", "*.model", "*.txt", "*.safetensors")

_TOKENIZERS = ("tokenizer.json", "tokenizer.model")


def numbered(path: Path) -> Iterator[tuple[int, Record]]:
    """(line number, record) of a JSONL file.

    Raises:
        ValueError: if a line is no JSON object; names file and line.
    """
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}:{number}: not valid JSON ({error})") from error
            if not isinstance(record, dict):
                raise ValueError(
                    f"{path}:{number}: must be an object with fields, not {line[:40]!r}"
                )
            yield number, record


@functools.cache
def count_records(path: Path) -> int:
    """Records of a JSONL file: lines that are not blank."""
    with path.open("rb") as lines:
        return sum(1 for line in lines if line.strip())


@functools.cache
def count_by_task(path: Path, task: str | None) -> Counter[str]:
    """Records of a JSONL file by their `task`; those without one are of `task`."""
    return Counter(str(record.get("task", task)) for _, record in numbered(path))


def check_file(path: Path, templates: Mapping[str, str], task: str | None) -> None:
    """Refuse a data file that cannot be used, by its first record.

    Args:
        templates: the format strings that its records must fit, by name.
        task: of records without `task`; None if each must have one.

    Raises:
        ValueError: no file, nothing in it, or a record that lacks a field; says what to do.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file (paths are relative to the experiment's YAML)")
    first = next(numbered(path), None)
    if first is None:
        raise ValueError(f"{path}: has no records; give one JSON object a line")
    as_record(path, *first, "first", templates, task)


def check_tasks(path: Path, columns: Iterable[str], task: str | None) -> None:
    """Refuse a test file without records for some column; reads no further than it must."""
    missing, seen = set(columns), set()
    for _, record in numbered(path):
        seen.add(name := record.get("task", task))
        missing.discard(name)
        if not missing:
            return
    raise ValueError(unknown("task", sorted(missing)[0], seen, f"columns, looked up in {path}"))


def as_record(
    path: Path,
    number: int,
    record: Record,
    split: str,
    templates: Mapping[str, str],
    task: str | None,
) -> Record:
    """The record with `id`, `task` and `answer` as texts, checked against the format strings."""
    where = f"{path}:{number}"
    if "task" not in record and task is None:
        raise ValueError(f"{where}: has no `task`, and the experiment has several columns")
    named = {field: name for name, text in templates.items() for field in format_fields(text)}
    for field, name in (named | {"answer": "answer"}).items():
        if field not in record and field not in ("id", "task"):
            raise ValueError(unknown("field", field, record, f"{where}: {name}"))
    answer = record["answer"]
    if isinstance(answer, bool) or not isinstance(answer, str | int | float) or answer == "":
        raise ValueError(f"{where}: answer = {answer!r} must be a text or a number")
    record = {
        "id": str(record.get("id", f"{split}/{number}")),
        "task": str(record.get("task", task)),
        **{key: value for key, value in record.items() if key not in ("id", "task")},
        "answer": str(answer).strip(),
    }
    for name, text in templates.items():
        try:
            text.format_map(record)
        except (KeyError, IndexError, AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"{where}: {name} cannot be filled in: {error!r}") from None
    return record


def build_jsonl(dataset: Dataset, files: dict[str, Path]) -> tuple[Splits, dict[str, Any]]:
    """Read a user's train and test file.

    Args:
        dataset: an entry of `diablo.own`; options `prompt` and `response` (format strings) and
            `task` (of records without one, or None).

    Raises:
        ValueError: a record does not fit or has the id of another one, or test questions occur in
            the training file; says how many and which is the first.
    """
    templates = {name: dataset.options[name] for name in ("prompt", "response")}
    splits: Splits = {}
    for source in dataset.sources:
        assert isinstance(source, LocalSource), "diablo.own makes no others"
        assert source.split is not None, "diablo.own gives it"
        path, split = files[source.name], source.split
        lines: dict[tuple[str, str], int] = {}
        splits[split] = []
        for number, line in numbered(path):
            record = as_record(path, number, line, split, templates, dataset.options["task"])
            before = lines.setdefault((record["task"], record["id"]), number)
            if before != number:
                raise ValueError(f"{path}:{number}: line {before} has the id {record['id']!r} too")
            splits[split].append(record)
    _refuse_overlap(splits, templates["prompt"])
    return splits, {}


def _refuse_overlap(splits: Splits, prompt: str) -> None:
    def asked(record: Record) -> str:
        return prompt.format_map(record).strip()

    trained = {asked(record): record["id"] for record in splits["train"]}
    both = [record for record in splits["test"] if asked(record) in trained]
    if both:
        raise ValueError(
            f"{len(both)} of {len(splits['test'])} test questions occur in the training file too, "
            f"the first is {both[0]['id']!r} ({trained[asked(both[0])]!r} in training): remove them "
            "from one of the two files"
        )


def model_files(folder: Path) -> list[Path]:
    """The files of a model folder that are used, weights included."""
    found = {path for pattern in MODEL_FILES for path in folder.glob(pattern) if path.is_file()}
    # Of a model that this project wrote: its own provenance is not the copy's.
    return sorted(path for path in found if path.name != "provenance.json")


def model_shapes(folder: Path) -> Shapes:
    """Widths and number of parameters of a model folder, from its config.json.

    Raises:
        ValueError: if a file is missing or the model is no plain Llama-like decoder; says why.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give the folder of a Hugging Face model")
    names = [file.name for file in model_files(folder)]
    if not any(name.endswith(".safetensors") for name in names):
        raise ValueError(f"{folder}: has no weights (*.safetensors)")
    if not any(name in names for name in _TOKENIZERS):
        raise ValueError(f"{folder}: has no tokenizer ({' or '.join(_TOKENIZERS)})")
    return _shapes(read_json(path), path)


def _shapes(config: Mapping[str, Any], path: Path) -> Shapes:
    kind = config.get("model_type")
    if kind not in LLAMA_LIKE:
        raise ValueError(
            f"{path}: model_type {kind!r} is no Llama-like decoder ({', '.join(LLAMA_LIKE)}); the "
            "modules q, k, v, o, g, u, d and the counts of parameters are theirs"
        )
    if config.get("quantization_config"):
        raise ValueError(f"{path}: the model is quantised; give its weights in 16 or 32 bits")
    keys = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads")
    sizes = {key: _size(config, key, path) for key in (*keys, "vocab_size")}
    layers, hidden, ffn, heads = (sizes[key] for key in keys)
    head = config.get("head_dim") or hidden // heads
    if head * heads != hidden:
        raise ValueError(
            f"{path}: {heads} heads of {head} are not hidden_size = {hidden}; such a model's q and o "
            "are not square, which is not supported"
        )
    kv = (config.get("num_key_value_heads") or heads) * head
    # q, k, v and o; gate, up and down; two norms.
    per_layer = 2 * hidden * (hidden + kv) + 3 * hidden * ffn + 2 * hidden
    if kind == "qwen2":
        per_layer += hidden + 2 * kv
    elif kind == "llama":
        per_layer += (2 * hidden + 2 * kv) * bool(config.get("attention_bias"))
        per_layer += (2 * ffn + hidden) * bool(config.get("mlp_bias"))
    embeddings = sizes["vocab_size"] * hidden * (1 if config.get("tie_word_embeddings") else 2)
    return Shapes(
        layers=layers,
        hidden=hidden,
        kv=kv,
        ffn=ffn,
        heads=heads,
        vocab=sizes["vocab_size"],
        base_parameters=embeddings + layers * per_layer + hidden,
    )


def _size(config: Mapping[str, Any], key: str, path: Path) -> int:
    value = config.get(key)
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{path}: {key} = {value!r} must be a positive number")
    return value


def build_folder(model: Model, out: Path, mirror: Folder, cache: Folder) -> dict[str, Any]:
    """Link (or copy) a user's model folder to `out`; the SHA-256 of each file for the provenance."""
    folder = Path(model.sources[0].name)
    files: Sequence[Path] = model_files(folder)
    out.mkdir()
    for path in files:
        # A snapshot in the Hub's cache consists of symbolic links.
        link_or_copy(path.resolve(), out / path.name)
    return {"folder": str(folder), "sources": {path.name: sha256_file(path) for path in files}}
