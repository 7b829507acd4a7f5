"""A user's own comparison as docs/own-comparison.md shows it, in a folder of its own."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml
from workspace import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "tests" / "generation"))

DOCUMENT = REPOSITORY / "docs" / "own-comparison.md"
#: What a Llama of two layers writes to its config.json.
CONFIG = {
    "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 128, "intermediate_size": 256,
    "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 300, "tie_word_embeddings": True,
}  # fmt: skip


def documented() -> str:
    """The YAML file that the documentation shows."""
    (block,) = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    return block


def write(path: Path, records: list[Any]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def sums(first: range) -> list[dict[str, Any]]:
    """Sums of two digits; others for other first numbers."""
    return [{"question": f"{a} + {b}", "answer": a + b} for a in first for b in range(6)]


def comparison(folder: Path) -> Path:
    """The documented folder with its data, and a model that is good for planning alone; the YAML."""
    model = folder / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text(json.dumps(CONFIG))
    (model / "model.safetensors").touch()
    (model / "tokenizer.json").touch()
    write(folder / "train.jsonl", sums(range(4)))
    write(folder / "test.jsonl", sums(range(4, 6)))
    path = folder / "my_table.yaml"
    path.write_text(documented())
    return path


def tiny_model(folder: Path) -> None:
    """A random Llama of two layers with a byte-level tokenizer, in place of the planning one."""
    import torch
    from generation_cases import build_tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM

    shutil.rmtree(folder)
    size = build_tokenizer(folder)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(**CONFIG | {"vocab_size": size}, bos_token_id=None, eos_token_id=0)
    )
    model.save_pretrained(folder)


def edit(path: Path, change) -> None:
    """Change the YAML file as a value."""
    value = yaml.safe_load(path.read_text())
    change(value)
    path.write_text(yaml.safe_dump(value, sort_keys=False))
