"""config.yaml: what is run, at which scale and with what limits."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from diablo.data.protocol import WITHOUT, unknown
from diablo.experiments import Tune
from diablo.judging import JudgeConfig
from diablo.validation import Strict, load_yaml, validate

ScaleName = Literal["demo", "mini", "paper"]
Variant = Literal["paper", "released", "peer"]


class Limits(Strict):
    """Caps, printed wherever a number depends on them."""

    train: int | None = Field(
        None, ge=2, description="training examples in total; Table 5 holds at least one of them out"
    )
    test_per_task: int | None = Field(None, ge=1, description="test examples of each task")
    steps: int | None = Field(None, ge=1, description="optimiser steps")
    probe: int | None = Field(
        None,
        ge=1,
        exclude_if=lambda value: value is None,
        description="training examples whose activations or gradients Figures 3 and 4 look at",
    )


class Filters(Strict):
    """Which rows are run: rows (`diablo-n64`), methods (`lora`) or groups (`llama2-7b`)."""

    only: list[str] = []
    skip: list[str] = []


class Config(Strict):
    """config.yaml, validated. Every key has a default, so an empty file is a valid config."""

    scale: ScaleName = "demo"
    experiments: str | None = Field(
        None, description="a user's own: a YAML file or a folder of them"
    )
    mirror: str | None = None
    cache: str | None = None
    protocol: str = Field(
        "paper",
        description="paper, released or peer; released-without-FLAW leaves a known flaw out",
    )
    device: Literal["auto", "cpu", "gpu"] = "auto"
    seeds: list[int] = Field([0], min_length=1)
    filters: Filters = Filters()
    limits: Limits = Limits()
    epochs: float | None = Field(None, gt=0)
    tune: Tune | None = None
    backend: Literal["auto", "vllm", "transformers"] = "auto"
    unsafe_execution: bool = Field(
        False, description="run model-written code even where this system has no sandbox"
    )
    judge: JudgeConfig | None = Field(None, description="a model that rates and judges completions")
    refusal_phrases: str | None = Field(None, description="a list of one's own, a YAML file")
    second_turn: bool = Field(False, description="of conversations; needs a judge")
    results: str = "results"
    rehearse: bool = Field(
        False, description="scale paper with tiny random models and made-up examples"
    )

    @property
    def root(self) -> str:
        """Folder of the scale's results; a rehearsal has one of its own."""
        return f"{self.results}/{self.scale}" + ("-rehearsal" if self.rehearse else "")

    @model_validator(mode="after")
    def _what_is_rehearsed(self) -> Config:
        if self.rehearse and self.scale != "paper":
            raise ValueError(
                f"rehearse: only scale paper is rehearsed, not {self.scale}; say `scale: paper` too"
            )
        if self.rehearse and self.experiments:
            raise ValueError(
                "rehearse: experiments of your own are not rehearsed; leave `experiments` out"
            )
        return self

    @model_validator(mode="after")
    def _known_variant(self) -> Config:
        variants = typing.get_args(Variant)
        if self.protocol.split(WITHOUT)[0] not in variants:
            raise ValueError(unknown("protocol variant", self.protocol, variants, "protocol"))
        return self

    @model_validator(mode="after")
    def _distinct_seeds(self) -> Config:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: {self.seeds} has a seed twice; give each once")
        return self

    @model_validator(mode="after")
    def _rated_turn(self) -> Config:
        if self.second_turn and self.judge is None:
            raise ValueError(
                "second_turn: nothing but a judge rates a second turn; give `judge`, or leave it out"
            )
        return self


def read_config(path: Path, instead: Mapping[str, Any] | None = None) -> Config:
    """The config in a file.

    Args:
        instead: keys that are to be others; of a key that is a mapping, only what is given.

    Raises:
        ValueError: if there is no such file, or if it, by itself or with `instead`, is not valid.
    """
    if not path.is_file():
        raise ValueError(
            f"{path}: no such file; give --config FILE, or run this where config.yaml is"
        )
    config = load_yaml(Config, path)
    if not instead:
        return config
    given = config.model_dump(exclude_unset=True)
    for key, value in instead.items():
        if isinstance(value, dict) and isinstance(given.get(key), dict):
            value = {**given[key], **value}
        given[key] = value
    return validate(Config, given, str(path))
