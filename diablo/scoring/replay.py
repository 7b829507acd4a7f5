"""A model for lm-eval that answers from stored generations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lm_eval.api.model import LM


class Replay(LM):
    """Answers `generate_until` with what was generated for the same task and id.

    Args:
        stored: (task, id) -> (prompt, completion).
    """

    def __init__(self, stored: Mapping[tuple[str, str], tuple[str, str]]):
        super().__init__()
        self._stored = stored

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """The stored completions.

        Raises:
            ValueError: if there is none, or lm-eval asks it with another prompt; names the example.
        """
        answers = []
        for request in requests:
            key = (request.doc["task"], request.doc["id"])
            if key not in self._stored:
                raise ValueError(f"{key[0]} {key[1]!r}: nothing was generated for it")
            prompt, completion = self._stored[key]
            if request.args[0] != prompt:
                raise ValueError(
                    f"{key[0]} {key[1]!r}: lm-eval asks {request.args[0]!r}, "
                    f"generated was for {prompt!r}"
                )
            answers.append(completion)
        return answers

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        raise NotImplementedError("stored generations have no likelihoods")

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        raise NotImplementedError("stored generations have no likelihoods")
