"""The second turn of conversations: asked after the model's own answer to the first. No torch here."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from diablo.data.protocol import Protocol, protocol_of
from diablo.generation.prompts import Prompt, suite_prompts
from diablo.generation.run import generate
from diablo.io import read_json, read_jsonl, sha256_file, write_json, write_jsonl

#: Stands where a frame has its instruction.
_HERE = "\0"


def second_task(task: str) -> str:
    """The task under which completions of the second turn are stored."""
    return f"{task}_turn2"


def generate_turns(
    spec: Any,
    suite: Any,
    run_folder: str | Path,
    out_path: str | Path,
    work_folder: str | Path,
    **options: Any,
) -> int:
    """Write the completions of both turns: those of the second under the task `second_task`.

    A killed job goes on where it was, in either turn.

    Args: as :func:`diablo.generation.run.generate`.

    Returns:
        How many prompts were answered.

    Raises:
        ValueError: as there, and as :func:`second_prompts`.
    """
    out_path, work_folder = Path(out_path), Path(work_folder)
    made = [work_folder / f"turn{turn}.jsonl" for turn in (1, 2)]
    folders = [path.with_suffix("") for path in made]
    count = generate(spec, suite, run_folder, made[0], folders[0], keep=True, **options)
    first = read_jsonl(made[0])
    prompts = second_prompts(suite, first)
    options |= {"prompts": prompts, "keep": True}
    count += generate(spec, suite, run_folder, made[1], folders[1], **options)
    second = [{**row, "task": second_task(row["task"])} for row in read_jsonl(made[1])]
    facts = [read_json(path.with_suffix(".provenance.json")) for path in made]
    write_jsonl(out_path, [*first, *second])
    facts[0] |= {"second_turn": facts[1], "outputs": {out_path.name: sha256_file(out_path)}}
    write_json(out_path.with_suffix(".provenance.json"), facts[0])
    shutil.rmtree(work_folder)
    return count


def second_prompts(suite: Any, first: Iterable[Mapping[str, Any]]) -> list[Prompt]:
    """The prompts of the second turn, of the tests that have one (`instruction2`).

    Args:
        suite: SuiteSpec.
        first: rows of the first turn's generations.

    Raises:
        ValueError: if a test has no answer in `first`, no test has a second turn, or the protocol has none.
    """
    protocol = protocol_of(suite)
    answers = {(row["task"], row["id"]): row["completions"][0] for row in first}
    found = []
    for prompt in suite_prompts(suite):
        if not prompt.record.get("instruction2"):
            continue
        if (key := (prompt.task, prompt.id)) not in answers:
            raise ValueError(f"{prompt.task} {prompt.id!r}: the first turn was not generated")
        text = protocol.prompt_for_second_turn(prompt.record, prompt.text, answers[key])
        found.append(Prompt(text, _framed(protocol, prompt.record, text)))
    if not found:
        raise ValueError(f"{suite.data_path}: no test has a second turn; leave `second_turn` out")
    return found


def _framed(protocol: Protocol, record: Mapping[str, Any], text: str) -> dict[str, Any]:
    """The record that the protocol frames as `text`: its instruction is the conversation so far.

    (Prompts become tokens by their records.)
    """
    frame = protocol.prompt_for_evaluation({**record, "instruction": _HERE})
    before, _, after = frame.partition(_HERE)
    framed = {**record, "instruction": text.removeprefix(before).removesuffix(after)}
    if protocol.prompt_for_evaluation(framed) != text:
        raise ValueError(
            f"protocol {protocol.suite!r}, variant {protocol.variant!r}: `second_turn` must end as the "
            "prompt of a first turn does, which shows its {instruction} once"
        )
    return framed
