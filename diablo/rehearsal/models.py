"""Tiny random models as the Hub would have them: the paper's architectures, module names and kinds of tokenizer."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from diablo.data.catalog import Shapes
from diablo.data.models import quiet
from diablo.io import write_json
from diablo.rehearsal import rows

#: Larger files are split, with an index beside them, as the paper's models are.
SHARD = "10MB"


def write_model(name: str, shapes: Shapes, folder: Path) -> None:
    """Write config, weights (safetensors, several files) and tokenizer of a tiny model.

    Args:
        name: of the paper's model, as in `ARCHITECTURES`, with or without the rehearsal's suffix.
        shapes: its widths; the tokenizer has `vocab` tokens at most.
        folder: made here.

    Raises:
        ValueError: if the model has not `base_parameters`.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    make_config, make_tokenizer = ARCHITECTURES[name.removesuffix("-rehearsal")]
    torch.manual_seed(0)
    config = make_config(shapes)
    seq2seq = config.is_encoder_decoder
    model = (AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM).from_config(config)
    count = sum(parameter.numel() for parameter in model.parameters())
    if count != shapes.base_parameters:
        raise ValueError(
            f"{name}: base_parameters = {shapes.base_parameters}, but the model has {count}; correct "
            "workflow/rehearsal.yaml"
        )
    # T5 is published in float32, the others in 16 bits.
    with quiet():
        model.to(torch.float32 if seq2seq else torch.bfloat16).save_pretrained(
            folder, max_shard_size=SHARD
        )
    tokenizer, settings = make_tokenizer(shapes.vocab)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", settings)


def _llama(**differs: Any) -> Callable[[Shapes], Any]:
    def config(shapes: Shapes) -> Any:
        from transformers import LlamaConfig

        return LlamaConfig(**_causal(shapes), **{"bos_token_id": 1, "eos_token_id": 2, **differs})

    return config


def _mistral(shapes: Shapes) -> Any:
    from transformers import MistralConfig

    own = {"bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 32768}
    return MistralConfig(**_causal(shapes) | own, sliding_window=4096)


def _causal(shapes: Shapes) -> dict[str, Any]:
    head = shapes.hidden // shapes.heads
    return {
        "vocab_size": shapes.vocab,
        "hidden_size": shapes.hidden,
        "intermediate_size": shapes.ffn,
        "num_hidden_layers": shapes.layers,
        "num_attention_heads": shapes.heads,
        "num_key_value_heads": shapes.kv // head,
        "rms_norm_eps": 1e-5,
        "dtype": "bfloat16",
    }


def _t5(shapes: Shapes) -> Any:
    from transformers import T5Config

    widths: dict[str, Any] = {
        "vocab_size": shapes.vocab,
        "d_model": shapes.hidden,
        "d_kv": shapes.kv // shapes.heads,
        "d_ff": shapes.ffn,
        "num_heads": shapes.heads,
        "num_layers": shapes.layers,
        "num_decoder_layers": shapes.decoder_layers,
    }
    special = {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1}
    return T5Config(**widths | special)


def _text() -> Iterator[str]:
    """What the tokenizers learn from: the made-up rows."""
    for n in range(200):
        yield json.dumps([rows.commonsense_mix(n), rows.arithmetic(n), rows.program(n)])
        yield json.dumps([rows.instruction(n), rows.chat(n), rows.question(n)])


@functools.cache
def _sentencepiece_bpe(vocab: int) -> tuple[Any, dict[str, Any]]:
    """As Llama-2 and Mistral have it: a mark before words, single bytes for what is unknown, <s> in front."""
    from tokenizers import (
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )

    special = ["<unk>", "<s>", "</s>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    # For training alone: no token of theirs spans two words.
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    single = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=vocab, special_tokens=single, show_progress=False)
    tokenizer.train_from_iterator(_text(), trainer)
    # The single bytes are ordinary tokens; the trainer only had to be told of them.
    whole = json.loads(tokenizer.to_str())
    whole["added_tokens"] = [one for one in whole["added_tokens"] if one["content"] in special]
    tokenizer = Tokenizer.from_str(json.dumps(whole | {"pre_tokenizer": None}))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return tokenizer, {
        "tokenizer_class": "LlamaTokenizer",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "add_bos_token": True,
        "add_eos_token": False,
        "legacy": False,
        "clean_up_tokenization_spaces": False,
    }


@functools.cache
def _byte_level_bpe(vocab: int) -> tuple[Any, dict[str, Any]]:
    """As Llama-3 has it: bytes, no token for padding or the unknown."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    begin, end = "<|begin_of_text|>", "<|end_of_text|>"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[begin, end],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_text(), trainer)
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(
                single=f"{begin} $A", pair=f"{begin} $A {begin} $B", special_tokens=[(begin, 0)]
            ),
        ]
    )
    return tokenizer, {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": begin,
        "eos_token": end,
        "model_input_names": ["input_ids", "attention_mask"],
    }


def _unigram(vocab: int) -> tuple[Any, dict[str, Any]]:
    """As T5 has it: </s> behind every text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(_text(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return tokenizer, {
        "tokenizer_class": "T5Tokenizer",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "extra_ids": 0,
    }


_LLAMA3 = {"bos_token_id": 0, "eos_token_id": 1}
_SCALING = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}

#: By the paper's model: its config in small, and its kind of tokenizer.
ARCHITECTURES: dict[str, tuple[Callable[[Shapes], Any], Callable[[int], tuple[Any, dict]]]] = {
    "llama-13b": (_llama(max_position_embeddings=2048), _sentencepiece_bpe),
    "llama2-7b": (_llama(max_position_embeddings=4096), _sentencepiece_bpe),
    "llama2-13b": (_llama(max_position_embeddings=4096), _sentencepiece_bpe),
    "llama3-8b": (
        _llama(
            **_LLAMA3,
            max_position_embeddings=8192,
            rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        ),
        _byte_level_bpe,
    ),
    "llama3.2-3b": (
        _llama(
            **_LLAMA3,
            max_position_embeddings=131072,
            rope_parameters=_SCALING,
            tie_word_embeddings=True,
        ),
        _byte_level_bpe,
    ),
    "mistral-7b": (_mistral, _sentencepiece_bpe),
    "t5-base": (_t5, _unigram),
}
