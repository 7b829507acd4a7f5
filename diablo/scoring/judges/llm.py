"""The `llm` judge: one endpoint that says whether a completion refuses, and grades answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diablo.data.sources import cache_folder
from diablo.judging import JudgeConfig
from diablo.scoring.judges.asking import Asker, Question
from diablo.scoring.judges.case import Case, Verdict
from diablo.scoring.judges.prompts import REFUSED, load_prompts, read_label, read_rating


class LlmJudge:
    """A judge behind an endpoint. Its replies are kept in `judge/` of the cache folder.

    Args:
        config: the judge of config.yaml.
        cache: folder of downloads; None: the default one.

    Raises:
        ValueError: if the prompt file does not fit, or there is no key where one is named.
    """

    def __init__(self, config: JudgeConfig, cache: Path | None = None):
        self.prompts = load_prompts(config.prompts)
        self._asker = Asker(config, cache_folder(cache) / "judge")
        self._used: set[str] = set()

    def verdicts(self, cases: Sequence[Case]) -> list[Verdict | None]:
        """Whether each completion refuses (see `RefusalJudge`).

        Raises:
            JudgeError: if one of the questions got no reply.
        """
        questions = [
            self._question(
                "refusal",
                f"{case.task} {case.id!r}",
                {"question": case.question, "answer": case.completion},
            )
            for case in cases
        ]
        labels = [read_label(reply) for reply in self._asker.ask(questions)]
        return [None if label is None else Verdict(label == REFUSED, label) for label in labels]

    def ratings(self, graded: Sequence[tuple[str, str, Mapping[str, str]]]) -> list[float | None]:
        """Grades of answers, 1 to 10; None where a reply has none.

        Args:
            graded: for each answer the prompt's name, what names the example, and the prompt's fields.

        Raises:
            JudgeError: if one of the questions got no reply.
        """
        questions = [self._question(*each) for each in graded]
        return [read_rating(reply) for reply in self._asker.ask(questions)]

    def facts(self) -> dict[str, Any]:
        """What was asked of whom, and what it cost (`Asker.facts`)."""
        digests = {name: self.prompts.digest(name) for name in sorted(self._used)}
        return {
            **self._asker.facts(),
            "prompts_version": self.prompts.version,
            "prompts_sha256": digests,
        }

    def _question(self, name: str, where: str, fields: Mapping[str, str]) -> Question:
        self._used.add(name)
        return Question(where, getattr(self.prompts, name).format_map(fields))
