"""Windows of text: what the quantiser looks at, and what perplexity is measured on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from diablo.io import read_jsonl

#: Perplexity is measured on windows of so many tokens, whatever the calibration's are.
PERPLEXITY_WINDOW = 512


def calibration_windows(
    tokenizer: Any, data: str | Path, samples: int, length: int, seed: int
) -> list[torch.Tensor]:
    """Up to `samples` windows of `length` tokens of `<data>/train.jsonl`, its records shuffled by `seed`.

    No text is used twice: a short text gives fewer windows, one shorter than a window gives itself.
    """
    path = Path(data) / "train.jsonl"
    texts = read_texts(path)
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(seed)).tolist()
    ids = stream(tokenizer, [texts[i] for i in order], samples * length, path)
    return windows_of(ids, length)


def perplexity_windows(tokenizer: Any, data: str | Path, tokens: int) -> list[torch.Tensor]:
    """The first `tokens` tokens of `<data>/test.jsonl`, in windows of `PERPLEXITY_WINDOW`."""
    path = Path(data) / "test.jsonl"
    ids = stream(tokenizer, read_texts(path), tokens, path)
    return windows_of(ids, PERPLEXITY_WINDOW)


def read_texts(path: Path) -> list[str]:
    """Instruction and output of each record, empty ones left out.

    Raises:
        ValueError: if a record lacks one of them, or no text is left.
    """
    texts = []
    for number, record in enumerate(read_jsonl(path), start=1):
        for key in ("instruction", "output"):
            if not isinstance(record.get(key), str):
                raise ValueError(
                    f"{path}: record {number}: {key!r} is {record.get(key)!r}, not text"
                )
        texts.append(f"{record['instruction']}\n{record['output']}")
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise ValueError(f"{path}: it has no text to calibrate or measure on")
    return texts


def stream(tokenizer: Any, texts: list[str], tokens: int, path: Path) -> torch.Tensor:
    """The first `tokens` token ids (fewer, if there are fewer) of the texts, joined by blank lines.

    Raises:
        ValueError: if there are fewer than two tokens.
    """
    # A training set may have hundreds of thousands of records: take only as many as are needed.
    count = 64
    while True:
        ids = tokenizer("\n\n".join(texts[:count]), verbose=False).input_ids
        if len(ids) >= tokens or count >= len(texts):
            break
        count *= 2
    if len(ids) < 2:
        raise ValueError(f"{path}: its text has {len(ids)} token(s), too few to predict one")
    return torch.tensor(ids[:tokens])


def windows_of(ids: torch.Tensor, length: int) -> list[torch.Tensor]:
    """Consecutive windows of exactly `length` tokens; all of a text that is shorter than one."""
    if len(ids) <= length:
        return [ids]
    return list(ids[: len(ids) // length * length].split(length))
