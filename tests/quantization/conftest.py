"""The tiny model, its tokenizer and its text on disk."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    from quantization_cases import records, tiny_llama
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from diablo.io import write_jsonl

    folder = tmp_path_factory.mktemp("tiny-quantised")
    write_jsonl(folder / "data" / "train.jsonl", records(60))
    write_jsonl(folder / "data" / "test.jsonl", records(80)[60:])
    words = Tokenizer(models.WordLevel(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["<unk>", "<s>", "</s>"]
    texts = [f"{r['instruction']} {r['output']}" for r in records(80)]
    words.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=special))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    tiny_llama().save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder
