"""The protocol: one object used by training AND evaluation.

It says how a prompt is framed, where the loss is taken, how a sequence is truncated, how text is
decoded and how the answer is read back. The declarations are data (`protocols/<suite>.yaml`); the
variants are `paper`, `released` (the authors' code) and `peer` (the repositories of the baselines). A
user's own experiment brings its protocol along (`own_protocol`), in the specs that the jobs read.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).with_name("protocols")

#: The variant of a user's own protocol, the only one that it has.
OWN = "own"


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How completions are made. `num_beams=1` is greedy decoding; sampling is not used here."""

    num_beams: int = 1
    max_new_tokens: int = 32
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", tuple(self.stop))
        if self.num_beams < 1 or self.max_new_tokens < 1:
            raise ValueError(
                f"num_beams={self.num_beams}, max_new_tokens={self.max_new_tokens}: "
                "both must be at least 1"
            )


@dataclasses.dataclass(frozen=True)
class Protocol:
    """One variant of one suite's protocol; see `protocols/<suite>.yaml` for the fields' values.

    `test_sizes` has the number of examples in the paper's whole test set of each task.
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

    @property
    def fields(self) -> list[str]:
        """Names of the record's fields that the evaluation prompt shows."""
        return format_fields(self.eval_prompt)

    def prompt_for_training(self, record: Mapping[str, Any]) -> str:
        """The framed prompt of a training record (keys `instruction`, ...)."""
        return self.train_prompt.format_map(record)

    def prompt_for_evaluation(self, record: Mapping[str, Any]) -> str:
        """The framed prompt that the model is given when it is evaluated."""
        return self.eval_prompt.format_map(record)

    def target(self, record: Mapping[str, Any]) -> str:
        """The text to be learnt (without the end-of-sequence token)."""
        return self.response.format_map(record)

    def extract(self, task: str, prompt: str, completion: str) -> str | None:
        """Read the answer from a completion; None where there is none.

        Raises:
            ValueError: if the protocol has neither a pattern nor labels for `task`.
        """
        if self.pattern is not None:
            found = re.search(self.pattern, completion)
            answer = found and found.group(1 if found.re.groups else 0)
            return None if answer is None else answer.strip()
        if task not in self.labels:
            raise ValueError(unknown("task", task, self.labels, f"protocol {self.suite!r}"))
        text = completion
        if self.extraction["text"] == "prompt+completion":
            text = prompt + completion
        if self.extraction["after"]:
            text = text.split(self.extraction["after"])[-1]
        text = text.replace(self.extraction["remove"], "") if "remove" in self.extraction else text
        match = re.search("|".join(map(re.escape, self.labels[task])), text)
        return match.group() if match else None


def unknown(kind: str, name: object, valid: Any, where: str) -> str:
    """Message for an unknown name: what, where, and the nearest valid one."""
    names = sorted(map(str, valid))
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{where}: unknown {kind} {str(name)!r}; {hint}valid: {', '.join(names)}"


def format_fields(template: str) -> list[str]:
    """Names of the fields of a format string, each once, in order.

    Raises:
        ValueError: if it is no format string, or a field has no name.
    """
    names = []
    for _, name, _, _ in string.Formatter().parse(template):
        if name is not None:
            first = re.split(r"[.\[]", name)[0]
            if not first or first.isdigit():
                raise ValueError(f"{{{name}}} names no field of a record (write {{{{ for a brace)")
            names.append(first)
    return list(dict.fromkeys(names))


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
    """The protocol of `suite` in one variant.

    Raises:
        ValueError: if the suite or the variant is not declared.
    """
    path = FOLDER / f"{suite}.yaml"
    if not path.is_file():
        suites = [file.stem for file in FOLDER.glob("*.yaml")]
        raise ValueError(unknown("suite", suite, suites, "protocols"))
    declared = yaml.safe_load(path.read_text(encoding="utf-8"))
    variants = declared["variants"]
    if variant not in variants:
        raise ValueError(unknown("protocol variant", variant, variants, str(path)))
    fields = dict(variants[variant])
    fields["decoding"] = Decoding(**fields["decoding"])
    fields["unstated"] = tuple(fields["unstated"])
    labels = {task: tuple(names) for task, names in declared["labels"].items()}
    return Protocol(
        suite=suite,
        variant=variant,
        labels=labels,
        metric=declared["metric"],
        test_sizes=declared["test_sizes"],
        **fields,
    )
