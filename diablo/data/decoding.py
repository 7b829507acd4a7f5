"""How completions are made: one object for a protocol, a suite's spec and both engines. No torch here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How completions are made: greedy, by beams, or (with a temperature) `samples` drawn at random.

    `seed` starts the random draws; the same prompt, seed and backend give the same samples.
    """

    num_beams: int = 1
    max_new_tokens: int = 32
    stop: tuple[str, ...] = ()
    #: Tasks whose completions have another length.
    max_new_tokens_by_task: Mapping[str, int] = dataclasses.field(default_factory=dict)
    #: 0: nothing is drawn.
    temperature: float = 0.0
    #: The likeliest tokens that make up this share of the probability are drawn from.
    top_p: float = 1.0
    #: Completions of each prompt.
    samples: int = 1
    seed: int = 0
    #: Tasks, or categories of a task's records, that are drawn at another temperature.
    temperature_by_task: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", tuple(self.stop))
        lengths = [self.max_new_tokens, *self.max_new_tokens_by_task.values()]
        if self.num_beams < 1 or min(lengths) < 1:
            raise ValueError(
                f"num_beams={self.num_beams}, max_new_tokens={min(lengths)}: "
                "both must be at least 1"
            )
        temperatures = [self.temperature, *self.temperature_by_task.values()]
        if min(temperatures) < 0 or not 0 < self.top_p <= 1 or self.samples < 1:
            raise ValueError(
                f"temperature={min(temperatures)}, top_p={self.top_p}, samples={self.samples}: a "
                "temperature is not negative, top_p lies in (0, 1], and there is a sample at least"
            )
        if max(temperatures) > 0 and self.num_beams > 1:
            raise ValueError(
                f"num_beams={self.num_beams} with temperature={max(temperatures)}: beams are not drawn"
            )
        if self.samples > 1 and min(temperatures) == 0:
            raise ValueError(
                f"samples={self.samples} with temperature=0: they would all be the same; give a temperature"
            )

    @property
    def drawn(self) -> bool:
        """Whether completions are drawn at random; of one task, see `of`."""
        return self.temperature > 0

    def of(self, task: str) -> Decoding:
        """The decoding of one task, the same for all its prompts."""
        return dataclasses.replace(
            self,
            max_new_tokens=self.max_new_tokens_by_task.get(task, self.max_new_tokens),
            max_new_tokens_by_task={},
            temperature=self.temperature_by_task.get(task, self.temperature),
            temperature_by_task={},
        )

    def of_record(self, record: Mapping[str, Any]) -> Decoding:
        """The decoding of one record: its task's, at the temperature of its `category` if that has one."""
        own = self.of(record["task"])
        temperature = self.temperature_by_task.get(record.get("category", ""), own.temperature)
        return dataclasses.replace(own, temperature=temperature)

    def as_dict(self) -> dict[str, Any]:
        """As specs and provenance files have it; what only some decodings have, only where they do."""
        found: dict[str, Any] = {
            "num_beams": self.num_beams,
            "max_new_tokens": self.max_new_tokens,
            "stop": list(self.stop),
        }
        if self.max_new_tokens_by_task:
            found["max_new_tokens_by_task"] = dict(self.max_new_tokens_by_task)
        if self.drawn or self.temperature_by_task:
            for key in ("temperature", "top_p", "samples", "seed"):
                found[key] = getattr(self, key)
            if self.temperature_by_task:
                found["temperature_by_task"] = dict(self.temperature_by_task)
        return found
