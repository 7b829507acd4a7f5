"""A row's hyper-parameters, its quantiser and a probe as pydantic models; how layers of settings are merged.

Nothing here imports torch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from diablo.data.protocol import unknown
from diablo.validation import Strict

Precision = Literal["fp32", "fp16", "bf16", "bf16-pure"]
Quantizer = Literal["rtn", "gptq", "magr", "nf4", "loftq"]
Storage = Literal["fake", "packed"]
#: Parts of a weight, as `diablo.tuner.patterns` has them.
KeptPattern = Literal["diagonal", "blocks", "inputs", "outputs", "entries"]

#: The paper's letters for a Llama's linear layers.
MODULES = {
    "q": "q_proj",
    "k": "k_proj",
    "v": "v_proj",
    "o": "o_proj",
    "g": "gate_proj",
    "u": "up_proj",
    "d": "down_proj",
}

#: Instead of letters: every linear layer but embeddings and head, of either kind of model.
ALL_LINEAR = "all"

#: Two ways to say one thing: of several layers of settings, the closest that has either decides.
WARMUP = ("warmup_steps", "warmup_ratio")


class Settings(Strict):
    """Hyper-parameters of a fine-tuning run; None means: not said here, look further up."""

    modules: str | None = Field(None, description="letters of the paper, such as qkvud, or all")
    layers: str | None = Field(
        None,
        pattern=r"^[1-9]\d*/[1-9]\d*$",
        description="only a part of the model: 1/4, the first quarter",
    )
    optimizer: Literal["adamw"] | None = None
    lr: float | None = Field(None, gt=0)
    weight_decay: float | None = Field(None, ge=0)
    schedule: Literal["linear", "cosine", "constant"] | None = None
    warmup_steps: int | None = Field(None, ge=0)
    warmup_ratio: float | None = Field(None, gt=0, lt=1, description="of the run's own steps")
    epochs: float | None = Field(None, gt=0)
    steps: int | None = Field(None, ge=1, description="stop after this many optimiser steps")
    batch_size: int | None = Field(None, ge=1, description="examples per optimiser step")
    micro_batch_size: int | None = Field(None, ge=1, description="examples per forward pass")
    max_length: int | None = Field(None, ge=8, description="tokens")
    max_grad_norm: float | None = Field(None, gt=0)
    precision: Precision | None = None
    dropout: float | None = Field(None, ge=0, lt=1)
    gradient_checkpointing: bool | None = None
    calibration: int | None = Field(
        None,
        ge=1,
        description="training examples whose gradient a method looks at before it starts",
    )
    block_size: int | None = Field(None, ge=1, description="edge of SMT's square blocks")
    gpus: int | None = Field(
        None, ge=1, description="GPUs of a run's jobs; no result depends on them but for rounding"
    )

    @model_validator(mode="after")
    def _known_letters(self) -> Settings:
        for letter in "" if self.modules == ALL_LINEAR else self.modules or "":
            if letter not in MODULES:
                valid = [*MODULES, f"{ALL_LINEAR} (alone)"]
                raise ValueError(unknown("module letter", letter, valid, f"modules={self.modules}"))
        return self

    @model_validator(mode="after")
    def _part_of_layers(self) -> Settings:
        if self.layers is not None:
            part, parts = map(int, self.layers.split("/"))
            if part > parts:
                raise ValueError(f"layers = {self.layers}: there is no part {part} of {parts}")
        return self

    @model_validator(mode="after")
    def _one_warmup(self) -> Settings:
        if self.warmup_steps is not None and self.warmup_ratio is not None:
            raise ValueError(
                f"warmup_steps = {self.warmup_steps} and warmup_ratio = {self.warmup_ratio}: give one of the two"
            )
        return self

    def over(self, *below: Settings) -> Settings:
        """These settings where given, else those of `below`, first one first."""
        merged: dict[str, Any] = {}
        for layer in (self, *below):
            decided = WARMUP if any(key in merged for key in WARMUP) else ()
            for key in Settings.model_fields:
                value = getattr(layer, key)
                if value is not None and key not in decided:
                    merged.setdefault(key, value)
        return Settings(**merged)


class Retain(Strict):
    """How the factor γ of a retained part of a full update is searched, with one budget for every row.

    The full fine-tuning leaves out `held_out` training examples; of the factors tried the one with the
    least answer loss on them is taken.
    """

    held_out: int = Field(ge=1, description="training examples, the same for every row of a seed")
    gammas: list[float] = Field(min_length=2, description="factors that are tried first, rising")
    refine: int = Field(
        0, ge=0, description="then so often the two midpoints beside the best one, on a log scale"
    )

    @model_validator(mode="after")
    def _rising_gammas(self) -> Retain:
        if min(self.gammas) <= 0 or sorted(set(self.gammas)) != self.gammas:
            raise ValueError(f"gammas: {self.gammas} must be positive and rising, each given once")
        return self


class Quantize(Strict):
    """How the base model of a row is quantised (`diablo.quantization`)."""

    quantizer: Quantizer
    bits: int = Field(ge=2, le=8)
    group_size: int | None = Field(None, ge=2, description="inputs a scale; null: one an output")
    symmetric: bool = False
    act_order: bool = Field(
        True, description="columns with large inputs first, as GPTQ's README has it"
    )
    true_sequential: bool = True
    damp: float = Field(0.01, ge=0)
    alpha: float | None = Field(None, ge=0, description="MagR's penalty")
    iterations: int = Field(200, ge=1, description="MagR's steps")
    shrink: float = Field(1.0, gt=0, le=1, description="factor on the range of the grid")
    form: Storage = Field("fake", description="exact grid values in floating point, or packed bits")

    @model_validator(mode="after")
    def _nf4_is_fixed(self) -> Quantize:
        if self.quantizer == "nf4" and (self.bits, self.group_size) != (4, 64):
            raise ValueError(
                f"nf4 has 4 bits and groups of 64, not {self.bits} bits and groups of {self.group_size}"
            )
        return self

    @property
    def label(self) -> str:
        """`gptq4g64`, `rtn2` (one scale an output), `nf4`; with `-packed` where that is asked for."""
        group = f"g{self.group_size}" if self.group_size else ""
        name = "nf4" if self.quantizer == "nf4" else f"{self.quantizer}{self.bits}{group}"
        return name + ("-packed" if self.form == "packed" else "")


class Probe(Strict):
    """What is decomposed of a fine-tuned model (kind effective-rank): one decoder layer's X and g_Y."""

    layer: int | None = Field(None, ge=0, description="from 0 on; null: drawn with the seed")
    seed: int = Field(0, description="draws the layer and the examples")
    examples: int = Field(ge=1, description="training examples, whose tokens are the rows")
    thresholds: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        min_length=1, description="shares of the sum of singular values that a rank has to reach"
    )
    blocks: list[Annotated[int, Field(ge=1)]] = Field(
        min_length=1, description="numbers of blocks N at which Theorem 2's condition is evaluated"
    )
