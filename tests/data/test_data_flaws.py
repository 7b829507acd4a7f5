"""The released code's known flaws: only in its variant, each with a switch that changes one thing."""

from __future__ import annotations

import dataclasses
import re

import pytest

from diablo.data.encode import IGNORE, encode_example
from diablo.data.protocol import FOLDER, load_protocol
from diablo.generation.prompts import load_prompts
from diablo.io import write_jsonl

SUITES = ("metamath", "math10k", "gsm8k")
#: Fields of a protocol that each switch changes, and the id in the register of disagreements.
SWITCHES = {
    "train_indent": ("D-06", {"train_prompt"}),
    "eval_indent": ("D-06", {"eval_prompt"}),
    "masked_tokens": ("D-06", {"mask_suffix"}),
    "trailing_spaces": ("D-06", {"response"}),
    "dropped_last_batch": ("D-11", {"whole_batches"}),
    "beams": ("D-12", {"decoding"}),
    "last_number": ("D-13", {"extraction"}),
    "letters_as_numbers": ("D-13", {"extraction"}),
}
RECORD = {"instruction": "What is 1 + 1?", "output": "two. The answer is: 2"}


class Characters:
    """One token a character, and BOS."""

    eos_token_id = 0

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [1] * add_special_tokens + [ord(letter) for letter in text]}


def learnt(protocol) -> str:
    """The text that has a loss, without the end of sequence."""
    made = encode_example(Characters(), protocol, RECORD, 10_000)
    assert made["labels"][-1] == 0
    return "".join(chr(label) for label in made["labels"][:-1] if label != IGNORE)


@pytest.mark.parametrize("suite", SUITES)
def test_only_the_released_variant_has_flaws(suite):
    assert {flaw.name for flaw in load_protocol(suite, "released").flaws} <= set(SWITCHES)
    for variant in ("paper", "peer"):
        protocol = load_protocol(suite, variant)
        assert protocol.flaws == ()
        assert protocol.decoding.num_beams == 1
        assert protocol.mask_suffix == ""
        # LoRI's own loader drops the last partial batch.
        dropped = {"gsm8k": 64} if (suite, variant) == ("gsm8k", "peer") else {}
        assert protocol.whole_batches == dropped
        assert protocol.response == "{output}"
        assert "  " not in protocol.train_prompt + protocol.eval_prompt
    paper = load_protocol(suite, "paper")
    assert paper.train_prompt == paper.eval_prompt
    assert paper.unstated


@pytest.mark.parametrize(
    ("suite", "name"), [(s, f.name) for s in SUITES for f in load_protocol(s, "released").flaws]
)
def test_each_switch_changes_its_own_fields_alone(suite, name):
    released = load_protocol(suite, "released")
    without = released.without_flaw(name)
    same = {"variant", "flaws"}
    changed = {
        field.name
        for field in dataclasses.fields(released)
        if getattr(released, field.name) != getattr(without, field.name)
    }
    identifier, fields = SWITCHES[name]
    assert changed - same == fields
    assert without.variant == f"released-without-{name}"
    assert [f.name for f in without.flaws] == [f.name for f in released.flaws if f.name != name]
    (flaw,) = (flaw for flaw in released.flaws if flaw.name == name)
    assert (flaw.id, bool(flaw.what)) == (identifier, True)


def test_without_any_flaw_the_released_frame_is_the_same_in_training_and_evaluation():
    protocol = load_protocol("metamath", "released")
    for flaw in protocol.flaws:
        protocol = protocol.without_flaw(flaw.name)
    assert protocol.flaws == ()
    assert protocol.train_prompt == protocol.eval_prompt == load_protocol("metamath", "paper").eval_prompt  # fmt: skip
    assert learnt(protocol) == RECORD["output"]


def test_indents():
    released = load_protocol("metamath", "released")
    lines = {f: getattr(released, f).split("\n")[2:] for f in ("train_prompt", "eval_prompt")}
    indents = {f: {len(re.match(" *", line)[0]) for line in text if line} for f, text in lines.items()}  # fmt: skip
    assert indents == {"train_prompt": {12}, "eval_prompt": {16}}


def test_masked_tokens_and_trailing_spaces():
    released = load_protocol("metamath", "released")
    # One token a character: the line break and 12 spaces behind the response are as many tokens of it.
    tail = "\n" + " " * 12
    assert learnt(released) == (RECORD["output"] + tail)[13:]
    assert learnt(released.without_flaw("masked_tokens")) == RECORD["output"] + tail
    assert learnt(released.without_flaw("trailing_spaces")) == RECORD["output"][13:]


@pytest.mark.slow
def test_one_or_two_tokens_are_masked_with_a_real_tokenizer(smollm2):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    released = load_protocol("metamath", "released")
    counts = []
    for protocol in (released, released.without_flaw("masked_tokens")):
        made = encode_example(tokenizer, protocol, RECORD, 10_000)
        counts.append(sum(label != IGNORE for label in made["labels"]))
    assert counts[1] - counts[0] in (1, 2)


def records(count: int) -> list[dict]:
    return [{**RECORD, "id": f"gsm8k/{n}", "task": "gsm8k", "answer": "2"} for n in range(count)]


def test_dropped_last_batch(tmp_path):
    released = load_protocol("metamath", "released")
    whole = released.without_flaw("dropped_last_batch")
    write_jsonl(tmp_path / "test.jsonl", records(1319))
    assert len(load_prompts(tmp_path, released, ["gsm8k"])) == 1312
    assert len(load_prompts(tmp_path, whole, ["gsm8k"])) == 1319
    assert len(load_prompts(tmp_path, released, ["gsm8k"], limit=10)) == 10
    write_jsonl(tmp_path / "test.jsonl", records(15))
    with pytest.raises(ValueError, match=r"'gsm8k' has 15 records, but .* whole batches of 16"):
        load_prompts(tmp_path, released, ["gsm8k"])


def test_beams_and_lengths():
    released = load_protocol("metamath", "released")
    assert released.decoding.num_beams == 4
    assert released.without_flaw("beams").decoding.num_beams == 1
    assert [released.decoding.of(t).max_new_tokens for t in ("gsm8k", "math")] == [256, 512]
    peer = load_protocol("metamath", "peer").decoding
    assert [peer.of(t).max_new_tokens for t in ("gsm8k", "math")] == [1024, 2048]
    assert peer.of("math").stop == peer.stop != ()


def test_last_number():
    released = load_protocol("metamath", "released")
    without = released.without_flaw("last_number")
    for completion, read in [("so 5 apples", "5"), ("The answer is: 4 of 9", "9")]:
        assert released.extract("gsm8k", "1", completion) == read
    assert without.extract("gsm8k", "1", "so 5 apples") is None
    assert without.extract("gsm8k", "1", "The answer is: 4 of 9") == "4"


def test_letters_as_numbers():
    released = load_protocol("math10k", "released")
    without = released.without_flaw("letters_as_numbers")
    for protocol, right in ((released, False), (without, True)):
        assert protocol.correct("aqua", protocol.extract("aqua", "", "so B"), "B") is right
    assert released.reading("aqua").refusal("B") is None


def test_unknown_flaws_are_refused_and_those_of_other_suites_change_nothing():
    with pytest.raises(ValueError, match="unknown flaw 'beam'; did you mean 'beams'"):
        load_protocol("metamath", "released").without_flaw("beam")
    with pytest.raises(ValueError, match="unknown flaw 'beam'; did you mean 'beams'"):
        load_protocol("metamath", "released-without-beam")
    with pytest.raises(ValueError, match="unknown flaw 'beams'"):
        load_protocol("metamath", "paper").without_flaw("beams")
    other = load_protocol("commonsense", "released-without-beams")
    assert dataclasses.replace(other, variant="released") == load_protocol("commonsense", "released")  # fmt: skip


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("variant", ["paper", "released", "peer"])
def test_tasks_sizes_and_entries(suite, variant):
    protocol = load_protocol(suite, variant)
    assert set(protocol.tasks) == set(protocol.test_sizes)
    assert set(protocol.strict) <= set(protocol.tasks)
    assert "aqua_strict" not in protocol.entries
    assert list(protocol.entries)[: len(protocol.tasks)] == protocol.tasks
    assert "gsm8k_strict" in protocol.entries
    assert (FOLDER / f"{suite}.yaml").is_file()


@pytest.mark.parametrize("suite", ["commonsense", "commonsense_lori"])
def test_bare_evaluation_prompt(suite):
    released = load_protocol(suite, "released")
    assert [(flaw.name, flaw.id) for flaw in released.flaws] == [("bare_eval_prompt", "D-05")]
    assert released.prompt_for_evaluation(RECORD) == "What is 1 + 1?\n"
    without = released.without_flaw("bare_eval_prompt")
    assert without.eval_prompt == without.train_prompt == released.train_prompt
