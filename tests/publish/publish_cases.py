"""A tiny random model with a tokenizer of whole words, and the records it is asked about."""

from __future__ import annotations

from pathlib import Path

TASKS = ["boolq", "piqa"]
LABELS = {"boolq": ("true", "false"), "piqa": ("solution1", "solution2")}


def records(each: int = 6) -> list[dict]:
    return [
        {
            "id": f"{task}/{index}",
            "task": task,
            "instruction": f"Question number {index} of {task}?",
            "output": f"the correct answer is {LABELS[task][index % 2]}",
            "answer": LABELS[task][index % 2],
        }
        for task in TASKS
        for index in range(each)
    ]


def build_model(folder: Path) -> None:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    texts = [f"{record['instruction']} {record['output']}" for record in records()]
    words.train_from_iterator(
        texts, trainers.WordLevelTrainer(special_tokens=["<unk>", "</s>", "<pad>"])
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", eos_token="</s>", pad_token="<pad>"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
