"""Digests that tell Snakemake when a result is outdated: of the code, and of the protocol, that made it.

The rules have them as parameters. Comments, docstrings and formatting change neither.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diablo.closure import Closure
from diablo.code_graph import Graph
from diablo.data.protocol import Protocol, load_protocol
from diablo.io import sha256_json
from diablo.methods import RETAINED, get_method
from diablo.scoring import SCORERS

#: Fields of a protocol that tables show and no number depends on, or that are used by way of what they
#: set: `flaws` other fields, `decoding` and `max_length` what the scale leaves of them in the specs.
SHOWN = ("describe", "unstated", "test_sizes", "flaws", "decoding", "max_length")

ROOT = Path(__file__).resolve().parent.parent

#: What no result depends on. Fetched files are checked against hashes, wherever they are found; which GPU
#: a job has changes nothing; a provenance describes a result and changes none; which protocol is used is a
#: digest of its own.
APART = (
    "diablo.data.access",
    "diablo.data.hub",
    "diablo.data.sources",
    "diablo.gpus",
    "diablo.provenance",
    "diablo/data/protocols",
)

#: The only fields of a protocol that encoding a training example reads.
TRAINING = (
    "train_prompt",
    "response",
    "tokenize",
    "mask_prompt",
    "append_eos",
    "special_tokens",
    "max_prompt_length",
    "mask_suffix",
    "with_input",
)


@functools.cache
def graph(root: Path = ROOT) -> Graph:
    """The project's source as it is now; read once in a process."""
    return Graph(root, APART)


@functools.cache
def verb_digest(
    verb: str, method: str | None = None, scorer: str | None = None, root: Path = ROOT
) -> str:
    """Digest of all code that `diablo VERB` runs through, and of its options.

    Args:
        method, scorer: the run's method and the suite's scorer, if the verb looks them up in a registry:
            the other ones' files are left out.

    Raises:
        ValueError: if there is no such verb, method or scorer.
    """
    name = verb.replace("-", "_")
    found = verb_closure(name, method, scorer, root).found
    return sha256_json([options(verb, root), found])


def verb_closure(
    name: str, method: str | None = None, scorer: str | None = None, root: Path = ROOT
) -> Closure:
    """What a verb's function in `diablo.verbs` reaches; see :func:`verb_digest`."""
    chosen: dict[str, set[str]] = {}
    apart: set[str] = set()
    # A retained update looks at another run's method too.
    if method is not None and method != RETAINED:
        chosen["diablo.methods"] = {get_method(method).module}
        apart.add("diablo.training.retained")
    if scorer is not None:
        chosen["diablo.scoring"] = {SCORERS[scorer][0]}
    return Closure(graph(root), chosen, apart).follow(("diablo.verbs", name))


@functools.cache
def code_digest(*entries: str, root: Path = ROOT) -> str:
    """Digest of all code that functions (`module:name`) run through.

    Raises:
        ValueError: if one is not there.
    """
    targets = [tuple(entry.split(":")) for entry in entries]
    return sha256_json(Closure(graph(root)).follow(*targets).found)  # type: ignore[arg-type]


def function_digest(function: Any) -> str:
    """`code_digest` of a function of this project, such as a registry's."""
    function = inspect.unwrap(function)
    return code_digest(f"{function.__module__}:{function.__qualname__}")


def options(verb: str, root: Path = ROOT) -> list[str]:
    """The statements that declare a verb's options, without their help.

    Raises:
        ValueError: if there is no such verb.
    """
    module = graph(root).module("diablo.cli")
    assert module is not None, "the command line"
    found, current = [], None
    for statement in module.definitions["parser"][0].body:  # type: ignore[attr-defined]
        call = getattr(statement, "value", None)
        if not isinstance(call, ast.Call):
            continue
        if getattr(call.func, "id", None) == "verb":
            current = call.args[0].value  # type: ignore[attr-defined]
        elif current == verb:
            kept = [k for k in call.keywords if k.arg not in ("help", "metavar")]
            found.append(ast.dump(ast.Call(call.func, call.args, kept)))
        if current == verb and not found:
            found.append(verb)
    if not found:
        raise ValueError(f"{verb}: no verb of diablo.cli")
    return found


@functools.cache
def protocol_digest(suite: str, variant: str, training: bool = False) -> str:
    """Digest of what results depend on in a declared protocol, or of the part that training does.

    Raises:
        ValueError: if it is not declared.
    """
    return sha256_json(protocol_facts(load_protocol(suite, variant), training))


def protocol_facts(protocol: Protocol, training: bool = False) -> Mapping[str, Any]:
    """A protocol's fields that a result depends on, or only those that training does."""
    fields = dataclasses.asdict(protocol)
    if not training:
        return {key: value for key, value in fields.items() if key not in SHOWN}
    facts = {key: fields[key] for key in TRAINING}
    facts["with_input"] = fields["with_input"].get("train_prompt")
    return facts
