"""A tiny random model with its tokenizer and a small data set, for the fast tests of this folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from diablo.data.protocol import load_protocol
from diablo.experiments import RunSpec, SuiteSpec
from diablo.io import write_json, write_jsonl

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

TASKS = ["boolq", "piqa", "social_i_qa"]


def records(tasks: list[str] = TASKS, each: int = 7) -> list[dict]:
    """Records of very different lengths, with labels in turn."""
    labels = load_protocol("commonsense", "paper").labels
    return [
        {
            "id": f"{task}/{i}",
            "task": task,
            "instruction": f"Question {i} of {task}: " + "is it so, and why? " * (i % 4),
            "output": f"the correct answer is {labels[task][i % 2]}",
            "answer": labels[task][i % 2],
        }
        for task in tasks
        for i in range(each)
    ]


def build_tokenizer(folder: Path) -> int:
    """Write a byte-level BPE tokenizer with an end-of-sequence token; returns its size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([record["instruction"] for record in records()], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")
    fast.save_pretrained(folder)
    return len(fast)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """Folder of a random 2-layer Llama whose greedy continuations vary and sometimes end early."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny-model")
    size = build_tokenizer(folder)
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.5,
        eos_token_id=0,
        bos_token_id=None,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    # Make the end of sequence likely enough that some, not all, sequences end before the limit.
    model.lm_head.weight.data[0] *= 1.5
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    write_jsonl(folder / "test.jsonl", records())
    return folder


@pytest.fixture
def make_suite(dataset):
    """SuiteSpec over the small data set; keyword arguments replace fields or decoding keys."""

    def make(num_beams=1, max_new_tokens=12, stop=(), **fields) -> SuiteSpec:
        decoding = {"num_beams": num_beams, "max_new_tokens": max_new_tokens, "stop": list(stop)}
        values = {
            "suite": "commonsense",
            "variant": "paper",
            "dataset": "small",
            "data_path": str(dataset),
            "tasks": TASKS,
            "decoding": decoding,
        }
        return SuiteSpec(**{**values, **fields})

    return make


@pytest.fixture
def make_run(tiny_model, tmp_path):
    """(spec, run folder) of a zero-shot run of the tiny model; keyword arguments replace fields."""

    def make(run="tiny", **fields) -> tuple[RunSpec, Path]:
        values = {
            "run": run,
            "scale": "demo",
            "model": "tiny",
            "model_path": str(tiny_model),
            "dataset": None,
            "data_path": None,
            "suite": "commonsense",
            "variant": "paper",
            "method": "zero-shot",
        }
        folder = tmp_path / "runs" / run
        (folder / "adapter").mkdir(parents=True, exist_ok=True)
        write_json(folder / "adapter" / "provenance.json", {"method": "zero-shot"})
        return RunSpec(**{**values, **fields}), folder

    return make
