"""What the training tests train: records, a model, a tokenizer and settings, all tiny."""

from __future__ import annotations

TASKS = {"boolq": ("true", "false"), "piqa": ("solution1", "solution2")}
SETTINGS = {
    "run": "tiny",
    "suite": "commonsense",
    "variant": "paper",
    "method": "lora",
    "num_blocks": None,
    "rank": 2,
    "alpha": 4.0,
    "dropout": 0.0,
    "modules": ["q_proj", "v_proj", "down_proj"],
    "optimizer": "adamw",
    "lr": 1e-2,
    "weight_decay": 0.0,
    "schedule": "linear",
    "warmup_steps": 2,
    "warmup_ratio": None,
    "epochs": 2.0,
    "max_steps": None,
    "batch_size": 4,
    "micro_batch_size": 4,
    "max_length": 96,
    "max_grad_norm": 1.0,
    "precision": "fp32",
    "gradient_checkpointing": False,
    "seed": 3,
    "train_limit": None,
    "held_out": 0,
    "tuning": None,
    "calibration": None,
    "block_size": None,
    "chosen_blocks": None,
    "mask_adapter": None,
}
#: What each method needs beyond SETTINGS.
METHOD_SETTINGS = {
    "full": {"modules": [], "rank": None, "alpha": None},
    "zero-shot": {"modules": [], "rank": None, "alpha": None},
    "lora": {"dropout": 0.1},
    "dora": {"dropout": 0.1},
    "pissa": {"alpha": None},
    "milora": {"alpha": None},
    "lora-ga": {"alpha": None, "calibration": 8},
    # The fixture gives it a base model with LoftQ's factors.
    "loftq": {"lr": 0.05},
    "lori-d": {},
    # `mask_adapter`: the fixture trains a LoRI-D run for it.
    "lori-s": {"lr": 0.1},
    "smt": {"rank": None, "alpha": None, "block_size": 8, "chosen_blocks": 20, "calibration": 8},
    "diablo": {"rank": None, "alpha": None, "num_blocks": 4},
    "random-entries": {"rank": None, "alpha": None, "num_blocks": 4},
    "random-blocks": {"rank": None, "alpha": None, "num_blocks": 4},
    "random-inputs": {"rank": None, "alpha": None, "num_blocks": 4},
    "random-outputs": {"rank": None, "alpha": None, "num_blocks": 4},
    # `full_adapter`: the test trains a full run for it.
    "retained": {
        "rank": None,
        "alpha": None,
        "num_blocks": 4,
        "pattern": "diagonal",
        "gammas": [1.0, 4.0],
        "refine": 1,
        "held_out": 6,
    },
}


def make_records(count):
    """Records of two tasks, 3 : 1, with prompts of many lengths."""
    records = []
    for index in range(count):
        task = "piqa" if index % 4 == 3 else "boolq"
        label = TASKS[task][index // 4 % 2]
        records.append(
            {
                "id": f"{task}/{index}",
                "task": task,
                "instruction": "is " + "word " * (1 + index * 5 % 17) + f"number {index} ?",
                "output": f"the correct answer is {label}",
                "answer": label,
            }
        )
    return records


def make_model(**changes):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = {
        "vocab_size": 200,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.2,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return LlamaForCausalLM(LlamaConfig(**{**config, **changes}))


def make_tokenizer(texts):
    """One token per word."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["<unk>", "<s>", "</s>"]
    words.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=special))
    return PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
