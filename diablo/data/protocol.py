"""The protocol: one object used by training AND evaluation.

It says how a prompt is framed, where the loss is taken, how a sequence is truncated, how text is
decoded and how the answer is read back. The declarations are data (`protocols/<suite>.yaml`); the
variants are `paper`, `released` (the authors' code) and `peer` (the repositories of the baselines). A
user's own experiment brings its protocol along (`own_protocol`), in the specs that the jobs read.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from diablo.data.decoding import Decoding
from diablo.data.entries import Entry, Flaw
from diablo.data.naming import format_fields, unknown
from diablo.data.reading import Label, Pattern, Reading
from diablo.data.reading import reading as declared_reading

FOLDER = Path(__file__).with_name("protocols")

#: The variant of a user's own protocol, the only one that it has.
OWN = "own"

#: `released-without-NAME` is a variant without one of its known flaws, and so on with several.
WITHOUT = "-without-"


@dataclasses.dataclass(frozen=True)
class Protocol:
    """One variant of one suite's protocol; see `protocols/<suite>.yaml` for the fields' values.

    `test_sizes` has the number of examples in the paper's whole test set of each task. `extraction`
    is either that of all tasks with `labels`, or has one for each task, with its `kind`
    (`diablo.data.reading`).
    """

    suite: str
    variant: str
    describe: str
    train_prompt: str
    eval_prompt: str
    response: str
    tokenize: str
    mask_prompt: bool
    append_eos: bool
    max_length: int
    decoding: Decoding
    extraction: Mapping[str, Any]
    labels: Mapping[str, tuple[str, ...]]
    metric: str
    test_sizes: Mapping[str, int]
    unstated: tuple[str, ...]
    #: Whether the tokenizer's own tokens (BOS) come before a prompt.
    special_tokens: bool = True
    #: Of an example that is too long, the prompt is first cut to so many tokens, its start kept.
    max_prompt_length: int | None = None
    #: Reads the answer of any task, instead of labels: group 1 of the first match, or all of it.
    pattern: str | None = None
    #: Counted with the prompt when its tokens are masked, though the response stands between them.
    mask_suffix: str = ""
    #: Of these tasks' test sets, only whole batches of so many examples are asked.
    whole_batches: Mapping[str, int] = dataclasses.field(default_factory=dict)
    #: Tasks that are judged by math-verify too.
    strict: tuple[str, ...] = ()
    #: `train_prompt` and `eval_prompt` of records that have an `input` beside their instruction.
    with_input: Mapping[str, str] = dataclasses.field(default_factory=dict)
    #: What the response begins with in evaluation; its tokens are made apart, as a response's are.
    eval_start: str = ""
    #: What a second turn adds to the first one's prompt and completion.
    second_turn: str | None = None
    #: The known flaws that are in this variant; `without_flaw` takes one out.
    flaws: tuple[Flaw, ...] = ()
    #: Who scores the completions: `lm-eval`, `code`, `refusal` or `chat` (`diablo.scoring`).
    scorer: str = "lm-eval"
    #: What is measured, where it is not (only) the accuracy of each task.
    declared_entries: Mapping[str, Entry] = dataclasses.field(default_factory=dict)

    def without_flaw(self, name: str) -> Protocol:
        """This variant without one of its known flaws; ValueError if it has none of that name."""
        if name not in (flaw.name for flaw in self.flaws):
            where = f"protocol {self.suite!r}, variant {self.variant!r}"
            raise ValueError(unknown("flaw", name, (flaw.name for flaw in self.flaws), where))
        return load_protocol(self.suite, f"{self.variant}{WITHOUT}{name}")

    @property
    def tasks(self) -> list[str]:
        """Tasks whose answers this protocol reads; none where it reads any task by a pattern."""
        return [] if self.pattern is not None else list(self.labels or self.extraction)

    @property
    def entries(self) -> dict[str, Entry]:
        """A score file's entries by name: those declared, else the tasks and those judged once more."""
        if self.declared_entries:
            return dict(self.declared_entries)
        found = {task: Entry(task, self.metric) for task in self.tasks}
        return found | {strict_name(task): Entry(task, self.metric) for task in self.strict}

    def asked(self, tasks: Sequence[str]) -> list[str]:
        """Those of `tasks` that completions are made for; the others have an answer loss alone."""
        if self.pattern is not None:
            return list(tasks)
        return [task for task in tasks if task in {entry.task for entry in self.entries.values()}]

    def reading(self, task: str) -> Reading:
        """How a task's answer is read, and when it is right.

        Raises:
            ValueError: if the protocol does not know `task`.
        """
        if self.pattern is not None:
            return Pattern(pattern=self.pattern)
        if task not in self.tasks:
            raise ValueError(unknown("task", task, self.tasks, f"protocol {self.suite!r}"))
        if self.labels:
            return Label(**self.extraction, labels=self.labels[task])
        return declared_reading(self.extraction[task])

    @property
    def fields(self) -> list[str]:
        """Names of the record's fields that the evaluation prompt shows."""
        return format_fields(self.eval_prompt + self.eval_start)

    def prompt_for_training(self, record: Mapping[str, Any]) -> str:
        """The framed prompt of a training record (keys `instruction`, ...)."""
        return self._frame("train_prompt", record).format_map(record)

    def prompt_for_evaluation(self, record: Mapping[str, Any]) -> str:
        """The framed prompt that the model is given when it is evaluated."""
        return "".join(self.parts_for_evaluation(record))

    def parts_for_evaluation(self, record: Mapping[str, Any]) -> tuple[str, str]:
        """The evaluation prompt as its frame and what the response begins with."""
        frame = self._frame("eval_prompt", record).format_map(record)
        return frame, self.eval_start.format_map(record)

    def prompt_for_second_turn(self, record: Mapping[str, Any], first: str, completion: str) -> str:
        """The prompt of the second turn (`instruction2`), after the first one's prompt and completion.

        Raises:
            ValueError: if this protocol has one turn only.
        """
        if self.second_turn is None:
            raise ValueError(
                f"protocol {self.suite!r}, variant {self.variant!r}: has no second turn"
            )
        return first + completion.rstrip() + self.second_turn.format_map(record)

    def _frame(self, name: str, record: Mapping[str, Any]) -> str:
        return (self.with_input if record.get("input") else {}).get(name, getattr(self, name))

    def target(self, record: Mapping[str, Any]) -> str:
        """The text to be learnt (without the end-of-sequence token)."""
        return self.response.format_map(record)

    def extract(self, task: str, prompt: str, completion: str) -> str | None:
        """Read the answer from a completion; None where there is none.

        Raises:
            ValueError: if the protocol has neither a pattern nor an extraction for `task`.
        """
        return self.reading(task).extract(prompt, completion)

    def correct(self, task: str, extracted: str | None, gold: str) -> bool:
        """Whether what was read is the answer."""
        return self.reading(task).correct(extracted, gold)


def strict_name(task: str) -> str:
    """Name of the score entry of a task that is judged by math-verify."""
    return f"{task}_strict"


def own_protocol(
    suite: str,
    prompt: str,
    response: str,
    max_length: int,
    mask_prompt: bool = True,
    special_tokens: bool = True,
    pattern: str | None = None,
    describe: str | None = None,
    max_new_tokens: int = 1,
    stop: Sequence[str] = (),
    num_beams: int = 1,
) -> Protocol:
    """A user's own protocol: the same prompt in training and evaluation, the loss on the response.

    Args:
        prompt, response: format strings over a record's fields.
        pattern: regular expression that reads the answer; with `describe` and the decoding it
            matters to evaluation alone, so a RunSpec carries none of the three.
    """
    return Protocol(
        suite=suite,
        variant=OWN,
        describe=describe or "as the experiment's YAML says",
        train_prompt=prompt,
        eval_prompt=prompt,
        response=response,
        tokenize="separate",
        mask_prompt=mask_prompt,
        append_eos=True,
        max_length=max_length,
        decoding=Decoding(num_beams, max_new_tokens, tuple(stop)),
        extraction={},
        labels={},
        metric="acc",
        test_sizes={},
        unstated=(),
        special_tokens=special_tokens,
        pattern=pattern,
    )


def protocol_of(spec: Any) -> Protocol:
    """The protocol of a RunSpec or SuiteSpec: the one it brings along, else the declared one."""
    if spec.protocol is not None:
        return own_protocol(spec.suite, **spec.protocol)
    return load_protocol(spec.suite, spec.variant)


@functools.cache
def load_protocol(suite: str, variant: str) -> Protocol:
    """The protocol of `suite` in one variant, `released-without-NAME` for one without a known flaw.

    A flaw that only other suites have may be named too: it changes nothing here.

    Raises:
        ValueError: if the suite, the variant or the flaw is not declared.
    """
    path = FOLDER / f"{suite}.yaml"
    if not path.is_file():
        suites = [file.stem for file in FOLDER.glob("*.yaml")]
        raise ValueError(unknown("suite", suite, suites, "protocols"))
    declared = _declared(path)
    base, *left_out = variant.split(WITHOUT)
    variants = declared["variants"]
    if base not in variants:
        raise ValueError(unknown("protocol variant", base, variants, str(path)))
    known = [name for file in FOLDER.glob("*.yaml") for name in _flaws(_declared(file), base)]
    for name in left_out:
        if name not in known:
            raise ValueError(unknown("flaw", name, known, f"protocol variant {variant!r}"))
    fields = {key: value for key, value in variants[base].items() if key != "flaws"}
    flaws = [flaw for name, flaw in _flaws(declared, base).items() if name not in left_out]
    for flaw in flaws:
        for key, value in flaw.sets.items():
            fields[key] = {**fields.get(key, {}), **value} if isinstance(value, dict) else value
    fields["decoding"] = Decoding(**fields["decoding"])
    fields["unstated"] = tuple(fields["unstated"])
    labels = {task: tuple(names) for task, names in declared.get("labels", {}).items()}
    return Protocol(
        suite=suite,
        variant=variant,
        labels=labels,
        metric=declared["metric"],
        test_sizes=declared["test_sizes"],
        strict=tuple(declared.get("strict", ())),
        flaws=tuple(flaws),
        scorer=declared.get("scorer", "lm-eval"),
        declared_entries={
            name: Entry(**entry) for name, entry in declared.get("entries", {}).items()
        },
        **fields,
    )


@functools.cache
def _declared(path: Path) -> dict[str, Any]:
    """A suite's declaration; with `like`, another suite's, of which only `tasks` are kept."""
    declared = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    if "like" not in declared:
        return declared
    whole, tasks = _declared(path.with_name(f"{declared['like']}.yaml")), declared["tasks"]
    kept: dict[str, Any] = {"suite": declared["suite"]}
    for key in ("labels", "test_sizes"):
        if key in whole:
            kept[key] = {task: whole[key][task] for task in tasks if task in whole[key]}
    if "entries" in whole:
        kept["entries"] = {n: e for n, e in whole["entries"].items() if e["task"] in tasks}
    return whole | kept


def _flaws(declared: Mapping[str, Any], variant: str) -> dict[str, Flaw]:
    """The known flaws of a suite's variant by name."""
    flaws = declared["variants"].get(variant, {}).get("flaws", {})
    return {name: Flaw(name, **flaw) for name, flaw in flaws.items()}
