"""A small suite of function-writing problems and completions for them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

from diablo.data.protocol import Entry
from diablo.generation.prompts import Prompt
from diablo.scoring import code
from diablo.scoring.options import Scored, ScoreOptions
from diablo.scoring.sandbox import Limits

ENTRIES = {
    "adding_pass1": Entry("adding", "pass@1"),
    "adding_pass2": Entry("adding", "pass@2"),
    "joining_pass1": Entry("joining", "pass@1"),
    "elsewhere": Entry("elsewhere", "pass@1"),
    "accuracy": Entry("adding", "acc"),
}
LIMITS = Limits(cpu_seconds=1, wall_seconds=10)


def prompts(count: int = 3) -> list[Prompt]:
    """`count` problems of the task adding and one of the task joining."""
    found = []
    for number in range(count):
        head = f"def add_{number}(x):\n"
        test = f"def check(candidate):\n    assert candidate(10) == {10 + number}\n"
        record = {"task": "adding", "id": f"a{number}", "prompt": head, "test": test}
        found.append(Prompt(head, {**record, "entry_point": f"add_{number}", "answer": ""}))
    test = "def check(candidate):\n    assert candidate(['a', 'b']) == 'ab'\n"
    record = {"task": "joining", "id": "j", "prompt": "def join(x):\n", "test": test}
    found.append(Prompt(record["prompt"], {**record, "entry_point": "join", "answer": ""}))
    return found


def right(number: int) -> str:
    return f"    return x + {number}\n"


WRONG = "    return x - 1\n"
JOINED = "    return ''.join(x)\n"


def with_protocol(entries: dict[str, Entry] = ENTRIES) -> None:
    """Have the suite's protocol declare these entries."""
    code.protocol_of = lambda suite: SimpleNamespace(entries=entries)


def score(asked: list[Prompt], completions: list[list[str]], folder: Path, **options) -> Scored:
    stored = {(p.task, p.id): (p.text, c) for p, c in zip(asked, completions, strict=True)}
    options.setdefault("workers", 2)
    tasks = list(dict.fromkeys(prompt.task for prompt in asked))
    suite = SimpleNamespace(suite="small", variant="peer", tasks=tasks)
    return code.score_code(suite, asked, stored, folder, ScoreOptions(**options), LIMITS)


def main() -> None:
    """Score many samples slowly, in a process that a test kills: `FOLDER COUNT`, a line an outcome."""
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    with_protocol()
    add = code.Outcomes.add

    def tell(self, key, result) -> None:
        add(self, key, result)
        print("outcome", flush=True)

    code.Outcomes.add = tell
    score(*many(count), folder, workers=1)


def many(count: int) -> tuple[list[Prompt], list[list[str]]]:
    """Problems with two different samples each, one of them right."""
    asked = prompts(count)[:-1]
    return asked, [[right(number), WRONG] for number in range(count)]


if __name__ == "__main__":
    main()
