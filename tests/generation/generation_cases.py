"""A tiny model and a small data set that the tests of generation and scoring share."""

from __future__ import annotations

from pathlib import Path

from diablo.data.protocol import load_protocol

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


def build_model(folder: Path) -> None:
    """Write a random 2-layer Llama and its tokenizer; its greedy continuations vary, some end early."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

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
    model.lm_head.weight.data[0] *= 3
    model.save_pretrained(folder)
