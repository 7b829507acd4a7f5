"""The cards and the assumptions of an estimate, read from the two YAML files beside this one."""

from __future__ import annotations

import functools
from pathlib import Path

from pydantic import Field, model_validator

from diablo.data.naming import unknown
from diablo.experiments import Device
from diablo.validation import Strict, load_yaml

HERE = Path(__file__).parent

RULES = ("download", "quantize", "finetune", "generate", "measure", "score")


class Gpu(Strict):
    """One card, as its data sheet says: GB are 1e9 bytes, peaks are dense."""

    title: str
    memory_gb: float = Field(gt=0)
    bf16_tflops: float = Field(gt=0)
    fp32_tflops: float = Field(gt=0)
    bandwidth_gbs: float = Field(gt=0)
    benchmark: str | None = Field(description="file in benchmarks/results, recorded on this card")
    source: str


class Gpus(Strict):
    """All cards; `reference` is the one whose measured rates are scaled for those not measured."""

    reference: str
    gpus: dict[str, Gpu]

    @model_validator(mode="after")
    def _measured_reference(self) -> Gpus:
        if self.reference not in self.gpus or self.gpus[self.reference].benchmark is None:
            raise ValueError(f"reference {self.reference!r} is no card with a benchmark file")
        return self

    def named(self, name: str) -> Gpu:
        """The card called `name`; ValueError names the nearest valid one."""
        if name not in self.gpus:
            raise ValueError(unknown("GPU", name, self.gpus, "--gpu"))
        return self.gpus[name]


class Tokens(Strict):
    """Mean tokens of a suite's training example and test prompt, and new ones of a completion."""

    train: int = Field(gt=0)
    prompt: int = Field(gt=0)
    new: int = Field(gt=0)


class Memory(Strict):
    """See `assumptions.yaml`; bytes but where the name says GB."""

    usable: float = Field(gt=0, le=1)
    hidden_bytes: float
    kv_bytes: float
    ffn_bytes: float
    logits_gb: float
    of_frozen: dict[str, float]
    packed: float = Field(ge=1)
    padded: float = Field(ge=1)
    packed_bytes: float


class Together(Strict):
    """See `assumptions.yaml`."""

    whole: float = Field(gt=0, le=1)
    sharded: float = Field(gt=0, le=1)


class Generation(Strict):
    """See `assumptions.yaml`."""

    bandwidth_share: float = Field(gt=0, le=1)
    slots: int = Field(gt=0)
    step_floor_ms: float
    host_ms: float
    beam_recomputed: int


class Quantise(Strict):
    """See `assumptions.yaml`."""

    rate_share: float = Field(gt=0, le=1)
    svd_share: float = Field(gt=0, le=1)
    column_ms: float


class Jobs(Strict):
    """See `assumptions.yaml`."""

    start_s: float
    read_gbs: float = Field(gt=0)
    unknown_file_mb: float
    completion_kb: float


class Asked(Strict):
    """See `assumptions.yaml`, by device where there are two."""

    gpu: str
    base_gb: dict[Device, float]
    copies: float = Field(ge=1)
    least_minutes: dict[Device, int]


class Range(Strict):
    """Factors on an estimate, and the reason for them."""

    low: float = Field(gt=0, le=1)
    high: float = Field(ge=1)
    why: str


class Unmeasured(Strict):
    """A further factor where a card was not measured."""

    factor: float = Field(ge=1)
    why: str


class Assumptions(Strict):
    """All that an estimate takes for granted."""

    train_examples: dict[str, int]
    test_examples: dict[str, dict[str, int]]
    unknown_train: int
    unknown_test: int
    tokens: dict[str, Tokens]
    memory: Memory
    together: Together
    generation: Generation
    quantise: Quantise
    jobs: Jobs
    requests: Asked
    ranges: dict[str, Range]
    unmeasured_card: Unmeasured

    def tokens_of(self, suite: str) -> Tokens:
        """Mean tokens of a suite; `glue_*` share one entry, an unknown suite has that of `other`."""
        name = "glue" if suite.startswith("glue_") else suite
        return self.tokens.get(name, self.tokens["other"])


@functools.cache
def load_gpus() -> Gpus:
    """The cards of `gpus.yaml`."""
    return load_yaml(Gpus, HERE / "gpus.yaml")


@functools.cache
def load_assumptions() -> Assumptions:
    """The assumptions of `assumptions.yaml`."""
    return load_yaml(Assumptions, HERE / "assumptions.yaml")
