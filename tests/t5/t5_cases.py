"""A tiny T5 with a tokenizer of T5's kind, and a small text-to-text data set."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from diablo.io import write_jsonl
from diablo.specs import RunSpec, SuiteSpec

LABELS = {"cola": ("unacceptable", "acceptable"), "mrpc": ("different", "equivalent")}
WORDS = [a + b for a in ("ba", "ku", "mo", "ti", "ze") for b in ("lor", "nik", "sud", "vex")]
MODULES = ["q", "k", "v", "o", "wi", "wo"]

PROTOCOL: dict[str, Any] = {
    "prompt": "{instruction}\nresult: ",
    "response": "{output}",
    "max_length": 32,
    "pattern": "(.+)",
    "max_new_tokens": 8,
}
TRAINING = {key: PROTOCOL[key] for key in ("prompt", "response", "max_length")}

SETTINGS: dict[str, Any] = {
    "run": "tiny",
    "scale": "demo",
    "model": "tiny-t5",
    "dataset": "pairs",
    "suite": "pairs",
    "variant": "own",
    "protocol": TRAINING,
    "method": "diablo",
    "modules": MODULES,
    "lr": 0.01,
    "warmup_steps": 2,
    "epochs": 2.0,
    "batch_size": 8,
    "micro_batch_size": 4,
    "max_length": 32,
    "seed": 3,
}

#: What each method needs beyond SETTINGS.
METHOD_SETTINGS: dict[str, dict[str, Any]] = {
    "full": {"modules": [], "lr": 0.005},
    "lora": {"rank": 8, "alpha": 16.0},
    "dora": {"rank": 8, "alpha": 16.0},
    "pissa": {"rank": 8},
    "milora": {"rank": 8},
    "lora-ga": {"rank": 8, "calibration": 16, "lr": 0.002},
    "lori-d": {"rank": 16, "alpha": 32.0},
    "lori-s": {"rank": 16, "alpha": 32.0, "lr": 0.05},
    "smt": {"block_size": 16, "chosen_blocks": 200, "calibration": 16, "lr": 0.02},
    "diablo": {"num_blocks": 4},
    "random-entries": {"num_blocks": 4},
    "random-blocks": {"num_blocks": 4},
    "random-inputs": {"num_blocks": 4},
    "random-outputs": {"num_blocks": 4},
}


def make_records(count: int = 32) -> list[dict]:
    """Texts of different lengths whose labels follow from nothing: they have to be learnt by heart."""
    draw = random.Random(0)
    records = []
    for index in range(count):
        task = "mrpc" if index % 4 == 3 else "cola"
        label = draw.choice(LABELS[task])
        text = " ".join(draw.choices(WORDS, k=draw.randrange(2, 6)))
        records.append(
            {
                "id": f"{task}/{index}",
                "task": task,
                "instruction": text,
                "output": label,
                "answer": label,
            }
        )
    return records


def make_tokenizer():
    """Unigram over words and letters, EOS after every text, as T5's own; it has no BOS."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = [*WORDS, "result:", "different", "equivalent", "un", "acceptable"]
    pieces = ["<pad>", "</s>", "<unk>", "acceptable", "▁", *(f"▁{word}" for word in words)]
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    scores = [(piece, -2.0) for piece in pieces] + [(letter, -9.0) for letter in letters]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def make_model(**changes: Any):
    """A random T5 of the first version: ReLU, and a tied head behind a scaled decoder."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    config = {
        "vocab_size": len(make_tokenizer()),
        "d_model": 64,
        "d_kv": 16,
        "d_ff": 128,
        "num_layers": 2,
        "num_heads": 4,
        "dropout_rate": 0.0,
        "decoder_start_token_id": 0,
    }
    return T5ForConditionalGeneration(T5Config(**{**config, **changes}))


def build(folder: Path, **changes: Any) -> Path:
    """Write `model/` and `data/` with the same records to train on and to test on."""
    make_model(**changes).save_pretrained(folder / "model")
    make_tokenizer().save_pretrained(folder / "model")
    for name in ("train", "test"):
        write_jsonl(folder / "data" / f"{name}.jsonl", make_records())
    return folder


def make_spec(folder: Path, **changes: Any) -> RunSpec:
    """A run on what `build` wrote."""
    where = {"model_path": str(folder / "model"), "data_path": str(folder / "data")}
    method = METHOD_SETTINGS[changes.get("method", "diablo")]
    return RunSpec(**{**SETTINGS, **where, **method, **changes})


def make_suite(folder: Path, **changes: Any) -> SuiteSpec:
    """The suite of all its test records."""
    values = {
        "suite": "pairs",
        "variant": "own",
        "dataset": "pairs",
        "data_path": str(folder / "data"),
        "tasks": list(LABELS),
        "decoding": {"max_new_tokens": PROTOCOL["max_new_tokens"]},
        "protocol": PROTOCOL,
    }
    return SuiteSpec(**{**values, **changes})
