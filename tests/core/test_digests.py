"""What a rule's code digest depends on, on a package made for it and on the project itself."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from diablo.closure import Closure
from diablo.code_graph import Graph
from diablo.data.encode import encode_example
from diablo.data.protocol import Protocol, load_protocol
from diablo.digests import (
    ROOT,
    TRAINING,
    code_digest,
    graph,
    options,
    protocol_digest,
    protocol_facts,
    verb_digest,
)

FILES = {
    "__init__.py": "",
    "train.py": '''"""Trains."""
from pkg import shared
from pkg.shared import used as renamed


def train(x: int) -> int:
    """Do it."""
    from pkg.lazy import late  # only when it is called

    return late(renamed(x)) + shared.constant


def other():
    return draw()


def draw():
    from pkg.colours import RED

    return RED
''',
    "shared.py": "from math import sqrt as root\n\nconstant = 3\n\n\ndef used(x):\n    return root(x)\n\n\ndef unused(x):\n    return x\n",
    "lazy.py": "import importlib\n\n\ndef late(x):\n    return importlib.import_module(f'pkg.kinds.{x}').run()\n",
    "colours.py": "RED = 'red'\n",
    "kinds/__init__.py": "REGISTRY = []\nREGISTRY.append(1)\n",
    "kinds/first.py": "def run():\n    return 1\n",
    "files.py": "from pathlib import Path\n\nTEXT = Path(__file__).with_name('text.yaml')\n",
    "text.yaml": "a: 1\n",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "pkg" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def reached(root: Path, *entry: str) -> dict[str, str]:
    return Closure(Graph(root)).follow(entry or ("pkg.train", "train")).found  # type: ignore[arg-type]


def test_imports_in_functions_names_in_strings_and_what_runs_on_import(package: Path) -> None:
    assert set(reached(package)) == {
        *("pkg.train:train", "pkg.shared:used", "pkg.shared:constant", "pkg.shared>root"),
        *("pkg.lazy:late", "pkg.lazy>importlib", "pkg.kinds.first:run", "pkg.kinds:<import>"),
        "pkg.kinds:REGISTRY",
    }
    assert "pkg.colours:RED" in reached(package, "pkg.train", "other")
    assert "pkg/text.yaml" in reached(package, "pkg.files", "TEXT")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("train.py", '"""Do it."""', '"""Do something else."""'),
        ("train.py", '"""Trains."""\n', ""),
        ("train.py", "  # only when it is called", ""),
        ("train.py", "(x: int) -> int", "(x: float) -> float"),
        ("train.py", "late(renamed(x)) + shared", "(late( renamed(x) )\n        + shared"),
        ("shared.py", "def unused(x):\n    return x", "def unused(x):\n    return 2 * x"),
        ("colours.py", "'red'", "'blue'"),
    ],
)
def test_what_changes_nothing_keeps_it(package: Path, file: str, old: str, new: str) -> None:
    before, path = reached(package), package / "pkg" / file
    assert old in path.read_text()
    text = path.read_text().replace(old, new)
    path.write_text(text.replace(".constant", ".constant)") if "(late(" in new else text)
    assert reached(package) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("train.py", "+ shared", "- shared"),
        ("shared.py", "constant = 3", "constant = 4"),
        ("shared.py", "sqrt as root", "exp as root"),
        ("lazy.py", "pkg.kinds.{x}').run", "pkg.kinds.{x}').walk"),
        ("kinds/first.py", "return 1", "return 2"),
        ("kinds/__init__.py", "append(1)", "append(2)"),
    ],
)
def test_what_runs_is_another_digest(package: Path, file: str, old: str, new: str) -> None:
    before, path = reached(package), package / "pkg" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert reached(package) != before


def test_an_entry_that_is_not_there_is_refused(package: Path) -> None:
    with pytest.raises(ValueError, match=r"pkg\.train:walk: there is no such function"):
        reached(package, "pkg.train", "walk")
    with pytest.raises(ValueError, match="fly: no verb"):
        options("fly", ROOT)


@pytest.mark.slow
def test_the_order_of_questions_changes_no_answer() -> None:
    """A process asks for several verbs, in an order that depends on what is to be done."""
    verbs = ("finetune", "score", "aggregate")
    found = set()
    for order in itertools.islice(itertools.permutations(verbs), 4):
        graph.cache_clear()
        verb_digest.cache_clear()
        asked = {verb: verb_digest(verb) for verb in order}
        found.add(tuple(asked[verb] for verb in verbs))
    assert len(found) == 1


def test_training_and_drawing_share_nothing_that_draws() -> None:
    def modules(verb: str) -> set[str]:
        return Closure(graph()).follow(("diablo.verbs", verb)).modules

    trains = modules("finetune")
    assert {"diablo.training.finetune", "diablo.tuner.ops", "diablo.methods.smt"} <= trains
    assert not any(name.startswith(("diablo.tables", "diablo.report")) for name in trains)
    assert "diablo.scoring.lm_tasks" not in trains
    assert {"diablo.scoring.lm_tasks", "diablo.scoring.code"} <= modules("score")
    assert "diablo.tables.figure" in modules("aggregate")
    assert not any(name.startswith("diablo.training") for name in modules("aggregate"))


@pytest.mark.parametrize("verb", ["audit", "schematic"])
@pytest.mark.slow
def test_a_job_executes_no_definition_that_is_not_in_its_closure(verb: str, tmp_path: Path) -> None:
    """The set is checked against Python itself: what a real job calls is in it."""
    script = (
        "import sys, diablo.cli\n"
        "called = set()\n"
        # What only makes a class or a constant that the job does not use changes nothing of it.
        "def importing(frame):\n"
        "    while frame and frame.f_code.co_name != '_find_and_load':\n"
        "        frame = frame.f_back\n"
        "    return frame is not None\n"
        "def note(frame, event, argument):\n"
        "    name = frame.f_globals.get('__name__', '')\n"
        "    qualified = frame.f_code.co_qualname\n"
        # Functions alone: bodies of classes run on import, and dataclasses make theirs by `exec`.
        "    function = frame.f_code.co_flags & 1 and qualified[:1] not in '<' + '_' * ('__' in qualified[:2])\n"
        "    if name.startswith('diablo.') and function and not importing(frame):\n"
        "        called.add(f\"{name}:{qualified.split('.')[0]}\")\n"
        "sys.setprofile(note)\n"
        f"diablo.cli.main([{verb!r}, '--out', {str(tmp_path)!r}])\n"
        "sys.setprofile(None)\n"
        "print('CALLED', *sorted(called))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("CALLED")]
    found = Closure(Graph(ROOT)).follow(("diablo.verbs", verb)).found
    apart = ("diablo.provenance:", "diablo.gpus:", "diablo.cli:")
    called = {one for one in line.split()[1:] if not one.startswith(apart)}
    assert len(called) > 5
    assert called <= set(found)


class Watched(Protocol):
    """A protocol that remembers which of its fields were read."""

    def __getattribute__(self, name: str):
        if name in FIELDS:
            READ.add(name)
        return super().__getattribute__(name)


FIELDS = {field.name for field in dataclasses.fields(Protocol)}
READ: set[str] = set()


class Letters:
    """A tokenizer of letters."""

    eos_token_id = 0

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) for letter in text]}


SUITES = sorted(path.stem for path in (ROOT / "diablo/data/protocols").glob("*.yaml"))


@pytest.mark.parametrize("suite", SUITES)
def test_training_reads_the_fields_that_its_digest_has_and_no_other(suite: str) -> None:
    fields = {
        field.name: getattr(load_protocol(suite, "paper"), field.name)
        for field in dataclasses.fields(Protocol)
    }
    record = dict.fromkeys(("instruction", "output", "answer", "input", "id", "task"), "x")
    record |= {"prompt": "x", "entry_point": "f", "canonical_solution": "x", "sentence": "x"}
    for pair in (False, True):
        watched = Watched(**fields)
        READ.clear()
        encode_example(Letters(), watched, record, 99, pair)
        assert READ - {"with_input"} <= set(TRAINING)


def test_a_protocol_s_words_are_no_part_of_it_and_what_scores_does_not_train() -> None:
    protocol = load_protocol("commonsense", "paper")
    told = dataclasses.replace(protocol, describe="in other words", unstated=())
    read = dataclasses.replace(protocol, eval_start="Well, ")
    framed = dataclasses.replace(protocol, train_prompt="{instruction}")
    facts = [protocol_facts(one) for one in (protocol, told, read, framed)]
    assert facts[0] == facts[1]
    assert facts[0] != facts[2] != facts[3]
    trained = [protocol_facts(one, training=True) for one in (protocol, told, read, framed)]
    assert trained[0] == trained[1] == trained[2] != trained[3]
    assert protocol_digest("commonsense", "paper") != protocol_digest("commonsense", "released")


def test_every_builder_has_a_digest_of_its_own() -> None:
    from diablo.data.prepare import BUILDERS, MODEL_BUILDERS
    from diablo.digests import function_digest

    digests = [function_digest(one) for one in (*BUILDERS.values(), *MODEL_BUILDERS.values())]
    assert len(set(digests)) == len(digests)
    assert code_digest("diablo.tuning:tuned") not in digests
