"""Parts of the transformers engine: batches, common starts, log-probabilities."""

from __future__ import annotations

from diablo.data.protocol import Decoding
from diablo.generation.prompts import suite_prompts
from diablo.generation.transformers_engine import TransformersEngine, batches, common_start


def test_batches_respect_budget_and_cover_all():
    lengths = [5, 900, 30, 31, 29, 5, 400]
    for decoding in (Decoding(), Decoding(num_beams=4)):
        grouped = batches(lengths, decoding, "cpu")
        assert sorted(index for rows in grouped for index in rows) == list(range(7))
        for rows in grouped:
            longest = lengths[rows[0]]
            assert longest == max(lengths[index] for index in rows)
            size = len(rows) * (longest + 32) * decoding.num_beams
            assert size <= 3072 or len(rows) == 1
    assert len(batches([10] * 100, Decoding(), "cuda")) == 1


def test_next_logprobs_do_not_depend_on_padding(make_run, make_suite, tiny_model):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    engine = TransformersEngine(model, tokenizer, [0])
    ids = [tokenizer(prompt.text).input_ids for prompt in suite_prompts(make_suite())]
    ids.append(ids[0][: len(ids[0]) // 2])  # shorter by much, and a prefix of another
    together = engine.next_logprobs(ids)
    for row, prompt in zip(together, ids, strict=True):
        alone = model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
        torch.testing.assert_close(row, alone, rtol=1e-4, atol=1e-4)


def test_common_start_leaves_something_to_compute():
    assert common_start([[1, 2, 3], [1, 2, 4]]) == [1, 2]
    assert common_start([[1, 2, 3], [1, 2]]) == [1]
    assert common_start([[5, 6], [5, 6]]) == [5]
    assert common_start([[5, 6]]) == [5]
    assert common_start([[1], [2]]) == []
