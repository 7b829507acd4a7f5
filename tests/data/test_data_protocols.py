"""The protocols of code, safety, chat and GLUE: frames, tokens, switches, entries."""

from __future__ import annotations

import dataclasses
import types

import pytest

from diablo.audit.facts import load_facts
from diablo.data.encode import IGNORE, encode_answer, encode_example, encode_prompt
from diablo.data.protocol import load_protocol
from diablo.generation.prompts import suite_answers, suite_prompts
from diablo.io import write_jsonl

SUITES = ("humaneval", "hexphi", "mtbench", "glue")
TASKS = ("mrpc", "cola", "sst2", "qnli", "mnli")
SWITCHES = {
    "raw_completion": ("D-17", {"eval_prompt", "with_input"}),
    "other_frame": ("D-16", {"eval_prompt", "with_input"}),
    "dropped_last_batch": ("D-11", {"whole_batches"}),
    "other_template": ("D-29", {"eval_prompt", "second_turn"}),
}
RECORD = {"id": "1", "task": "t", "instruction": "Add.", "output": "3", "prompt": "", "answer": "3"}


class Characters:
    """One token a character, and BOS; a text that starts with white space loses one sign of it."""

    eos_token_id = 0

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [1] * add_special_tokens + [ord(letter) for letter in text]}


class Joining(Characters):
    """As GPT-2's: the last of several spaces is one token with the word behind them."""

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return super().__call__(text.replace(" def", "\u0120"), add_special_tokens)


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("variant", ["paper", "released", "peer"])
def test_every_variant_is_whole(suite, variant):
    protocol = load_protocol(suite, variant)
    assert protocol.describe
    assert bool(protocol.unstated) is (variant != "peer")
    assert {entry.task for entry in protocol.entries.values()} <= set(protocol.tasks)
    assert set(protocol.test_sizes) <= set(protocol.tasks)
    for task in protocol.tasks:
        assert protocol.reading(task).extract("p", "") in (None, "", "p")
    assert protocol.mask_prompt
    assert protocol.append_eos
    assert {flaw.name for flaw in protocol.flaws} <= (
        set(SWITCHES) if variant == "released" else set()
    )


@pytest.mark.parametrize("suite", SUITES)
def test_the_paper_s_variant_has_one_frame(suite):
    protocol = load_protocol(suite, "paper")
    for record in (RECORD, {**RECORD, "input": "1 2"}):
        prompt = protocol.prompt_for_training(record)
        assert prompt == protocol.prompt_for_evaluation(record)
        assert ("1 2" in prompt) is ("input" in record and bool(protocol.with_input))


@pytest.mark.parametrize(
    ("suite", "name"), [(s, f.name) for s in SUITES for f in load_protocol(s, "released").flaws]
)
def test_each_switch_changes_its_own_fields_alone(suite, name):
    released = load_protocol(suite, "released")
    without = released.without_flaw(name)
    changed = {
        field.name
        for field in dataclasses.fields(released)
        if getattr(released, field.name) != getattr(without, field.name)
    }
    identifier, fields = SWITCHES[name]
    assert changed - {"variant", "flaws"} == fields
    (flaw,) = (flaw for flaw in released.flaws if flaw.name == name)
    assert flaw.id == identifier
    assert identifier in {entry.id for entry in load_facts().register.entries}


@pytest.mark.parametrize("suite", SUITES)
def test_without_any_flaw_the_released_variant_is_the_paper_s(suite):
    protocol, paper = load_protocol(suite, "released"), load_protocol(suite, "paper")
    for flaw in protocol.flaws:
        protocol = protocol.without_flaw(flaw.name)
    words = {name: getattr(paper, name) for name in ("variant", "describe", "unstated")}
    assert dataclasses.replace(protocol, **words) == paper


@pytest.mark.parametrize("suite", ["humaneval", "hexphi"])
def test_lori_s_frames_have_twenty_spaces_and_no_token_before_the_text(suite):
    protocol = load_protocol(suite, "paper")
    plain, with_input = (
        protocol.prompt_for_training(r) for r in (RECORD, {**RECORD, "input": "1"})
    )
    space = " " * 20
    assert plain.endswith(
        f"request. \n\n{space}### Instruction:\n{space}Add.\n\n{space}### Response:\n{space}"
    )
    assert (
        f"request.\n\n{space}### Instruction:\n{space}Add.\n\n{space}### Input:\n{space}1\n\n"
        in with_input
    )
    made = encode_example(Characters(), protocol, RECORD, 512)
    assert made["input_ids"][0] == ord("B")
    assert made["labels"] == [IGNORE] * len(plain) + [ord("3"), 0]
    assert (protocol.max_length, protocol.max_prompt_length) == (512, 256)


def test_a_function_s_head_has_the_tokens_that_training_taught():
    protocol, tokenizer = load_protocol("humaneval", "paper"), Joining()
    head, body = "def solve(x):", "\n    return x"
    taught = encode_example(tokenizer, protocol, {**RECORD, "output": head + body}, 10_000)
    asked = {**RECORD, "prompt": head, "output": body}
    prompt, answer = encode_answer(tokenizer, protocol, asked)
    assert prompt == encode_prompt(tokenizer, protocol, asked)
    assert [*prompt, *answer, 0] == taught["input_ids"]
    whole = protocol.prompt_for_evaluation(asked)
    assert (
        prompt != tokenizer(whole, add_special_tokens=False)["input_ids"]
    )  # " def" is one token there


def test_peers_ask_for_the_bare_head():
    released, peer = (load_protocol("humaneval", variant) for variant in ("released", "peer"))
    record = {**RECORD, "prompt": "def f():"}
    assert (
        released.prompt_for_evaluation(record) == peer.prompt_for_evaluation(record) == "def f():"
    )
    framed = released.without_flaw("raw_completion").prompt_for_evaluation(record)
    assert framed == released.prompt_for_training(record) + "def f():"
    assert peer.fields == ["prompt"]


def test_twenty_samples_and_stop_strings():
    for variant in ("paper", "released", "peer"):
        decoding = load_protocol("humaneval", variant).decoding
        assert (decoding.temperature, decoding.top_p, decoding.samples) == (0.2, 0.95, 20)
        assert len(decoding.stop) == 8
        assert "\nclass" in decoding.stop


def test_hex_phi_s_other_frame_and_dropped_batch():
    released, peer = (load_protocol("hexphi", variant) for variant in ("released", "peer"))
    said = "while being safe.\n\nHuman: Add.\n\nAssistant:"
    for protocol in (released, peer):
        assert protocol.prompt_for_evaluation({**RECORD, "input": "1"}).endswith(said)
        assert protocol.extract("hexphi", "prompt ", "no") == "no"
    assert released.whole_batches == {"hexphi": 8}
    assert 330 // 8 * 8 == 328
    assert released.without_flaw("dropped_last_batch").whole_batches == {}


def test_second_turns():
    paper, peer = (load_protocol("mtbench", variant) for variant in ("paper", "peer"))
    record = {**RECORD, "instruction2": "Again."}
    first = paper.prompt_for_evaluation(record)
    second = paper.prompt_for_second_turn(record, first, " 3.\n")
    assert second == f"{first} 3.\n\n### Instruction:\nAgain.\n\n### Response:\n"
    second = peer.prompt_for_second_turn(record, peer.prompt_for_evaluation(record), " 3. ")
    assert second == "[INST] Add. [/INST] 3. </s><s>[INST] Again. [/INST]"
    with pytest.raises(ValueError, match="'glue', variant 'paper': has no second turn"):
        load_protocol("glue", "paper").prompt_for_second_turn(record, "", "")


def test_chat_is_learnt_behind_a_space():
    protocol = load_protocol("mtbench", "paper")
    made = encode_example(Characters(), protocol, RECORD, 1024)
    assert "".join(map(chr, made["input_ids"][1:-1])).endswith("### Response:\n 3")
    assert [label for label in made["labels"] if label != IGNORE] == [ord(" "), ord("3"), 0]


@pytest.mark.parametrize("task", TASKS)
def test_one_task_of_glue_is_glue_s(task):
    whole, part = load_protocol("glue", "paper"), load_protocol(f"glue_{task}", "paper")
    assert part.tasks == [task]
    assert part.reading(task) == whole.reading(task)
    assert part.test_sizes == {task: whole.test_sizes[task]}
    assert part.entries == {n: e for n, e in whole.entries.items() if e.task == task}
    extra = {"mrpc": ["mrpc_f1"], "cola": ["cola_matthews"]}
    assert list(part.entries) == [task, *extra.get(task, [])]
    assert (
        part.prompt_for_evaluation(RECORD)
        == whole.prompt_for_evaluation(RECORD)
        == "Add.\nresult: "
    )


def test_entries_say_what_is_measured_and_what_it_needs():
    entries = {n: e for suite in SUITES for n, e in load_protocol(suite, "paper").entries.items()}
    assert [entries[f"humaneval_pass{k}"].metric for k in (1, 5, 10)] == [
        "pass@1",
        "pass@5",
        "pass@10",
    ]
    assert [entries[f"humaneval_pass{k}"].of_samples for k in (1, 5, 10)] == [1, 5, 10]
    assert entries["functions_pass1"].task == "functions"
    assert [entries[name].turn for name in ("mtbench", "mtbench_turn2")] == [1, 2]
    assert entries["mrpc"].of_samples is None
    needs = {name for name, entry in entries.items() if entry.needs == "judge"}
    assert needs == {"hexphi_llm", "harmless_llm", "mtbench", "mtbench_turn2"}
    assert {n for n, e in entries.items() if e.lower_is_better} == {"harmless", "harmless_llm"}
    assert {n for n, e in entries.items() if e.unit == "points"} == {"mtbench", "mtbench_turn2"}


def test_held_out_instructions_have_a_loss_and_are_not_asked(tmp_path):
    protocol = load_protocol("mtbench", "paper")
    assert protocol.tasks == ["mtbench", "held_out"]
    assert protocol.asked(protocol.tasks) == ["mtbench"]
    rows = [
        {**RECORD, "id": "1", "task": "mtbench", "output": "", "answer": ""},
        {**RECORD, "id": "2", "task": "mtbench"},
        {**RECORD, "id": "3", "task": "held_out"},
    ]
    write_jsonl(tmp_path / "test.jsonl", rows)
    suite = types.SimpleNamespace(
        suite="mtbench",
        variant="paper",
        data_path=tmp_path,
        tasks=["mtbench", "held_out"],
        limit_per_task=None,
        protocol=None,
    )
    assert [prompt.id for prompt in suite_prompts(suite)] == ["1", "2"]
    assert [prompt.id for prompt in suite_answers(suite)] == ["2", "3"]
    write_jsonl(tmp_path / "test.jsonl", rows[:1])
    suite.tasks = ["mtbench"]
    with pytest.raises(ValueError, match="no record of suite 'mtbench' has a gold answer"):
        suite_answers(suite)
