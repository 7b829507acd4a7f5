"""What the jobs read: one run and one suite, fully resolved, as pydantic models. No torch here."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from diablo.io import sha256_json
from diablo.settings import Precision, Quantizer, Storage
from diablo.validation import Strict


class RunSpec(Strict):
    """One fine-tuning run, fully resolved: the only input that `diablo finetune` reads.

    A field that came later than the others is left out of the JSON where it says nothing: the names of
    runs, and files that were written before, stay what they are.
    """

    run: str
    scale: str
    model: str
    model_path: str
    dataset: str | None
    data_path: str | None
    suite: str
    variant: str
    method: str
    num_blocks: int | None = None
    block_size: int | None = None
    chosen_blocks: int | None = None
    rank: int | None = None
    alpha: float | None = None
    dropout: float = 0.0
    modules: list[str] = []
    #: Indices of the only layers that train; None: all.
    layers: list[int] | None = Field(None, exclude_if=lambda value: value is None)
    optimizer: str = "adamw"
    lr: float = 1e-4
    weight_decay: float = 0.0
    schedule: str = "linear"
    warmup_steps: int = 0
    #: Of the run's own steps, instead of a number of them.
    warmup_ratio: float | None = Field(None, exclude_if=lambda value: value is None)
    epochs: float = 1.0
    max_steps: int | None = None
    batch_size: int = 16
    micro_batch_size: int = 16
    max_length: int = 256
    max_grad_norm: float = 1.0
    precision: Precision = "fp32"
    gradient_checkpointing: bool = False
    seed: int = 0
    train_limit: int | None = None
    #: Of the training examples, so many are left out and measure the learning rate instead.
    held_out: int = 0
    #: Runs with other learning rates; the best one's replaces `lr` before this run starts, and
    #: `tuning` then says what was tried: `held_out`, `trials` (run, lr, loss), `chosen`.
    trials: list[str] = []
    tuning: dict[str, Any] | None = None
    #: Training examples whose gradient the method looks at before it starts.
    calibration: int | None = None
    #: LoRI-S: folder of the LoRI-D adapter that its mask is read from.
    mask_adapter: str | None = None
    #: Before training and at each epoch's end, the full weights' gradient on so many training examples.
    gradient_examples: int | None = Field(None, exclude_if=lambda value: value is None)
    #: Retained updates: what is kept of the update in the folder of the model that full fine-tuning left,
    #: which factors are tried on the examples held out there, and how often between them.
    pattern: str | None = Field(None, exclude_if=lambda value: value is None)
    full_adapter: str | None = Field(None, exclude_if=lambda value: value is None)
    gammas: list[float] | None = Field(None, exclude_if=lambda value: value is None)
    refine: int | None = Field(None, exclude_if=lambda value: value is None)
    #: Name of the QuantSpec that made the base model at `model_path`; None: the model as published.
    quantized: str | None = None
    #: What training takes from a user's own protocol; None: the declared one of `suite`.
    protocol: dict[str, Any] | None = None

    @property
    def suite_key(self) -> str:
        """Name of the SuiteSpec that scores the run."""
        return f"{self.suite}-{self.variant}"

    @property
    def digest(self) -> str:
        """Hash of everything that defines the run (all fields but its own name)."""
        return sha256_json(self.model_dump(exclude={"run"}))


class ProbeSpec(Strict):
    """What is decomposed of the runs of one experiment, fully resolved: `diablo ranks` reads it."""

    name: str
    #: Decoder layer, from 0 on, and how it was chosen.
    layer: int
    layer_from: str
    examples: int
    seed: int
    thresholds: list[float]


class QuantSpec(Strict):
    """One quantised base model, fully resolved: all that `diablo quantize` reads."""

    name: str
    model: str
    model_path: str
    quantizer: Quantizer
    bits: int = 4
    #: Inputs that share a scale; None: one scale an output row.
    group_size: int | None = None
    symmetric: bool = False
    act_order: bool = True
    true_sequential: bool = True
    #: Added to the Hessian's diagonal, of its mean.
    damp: float = 0.01
    #: MagR's penalty; None: its authors' value for the group size.
    alpha: float | None = None
    #: MagR's proximal gradient steps.
    iterations: int = 200
    #: Factor on the range of the grid.
    shrink: float = 1.0
    modules: list[str] | None = None
    #: Data set folder whose training text calibrates, and whose test text gives the perplexity.
    calibration_path: str | None = None
    samples: int = 128
    length: int = 2048
    #: At most so many tokens of the test text give the perplexity.
    perplexity_tokens: int = 8192
    seed: int = 0
    #: LoftQ: rank of the adapter, and how often quantising and decomposing alternate.
    rank: int | None = None
    loftq_iterations: int = 5
    form: Storage = "fake"
    precision: Precision = "fp32"

    @property
    def digest(self) -> str:
        """Hash of everything that defines the quantised model (all fields but its own name)."""
        return sha256_json(self.model_dump(exclude={"name"}))


class SuiteSpec(Strict):
    """One suite's evaluation, fully resolved: tasks, data, cap and decoding."""

    suite: str
    variant: str
    dataset: str
    data_path: str
    tasks: list[str]
    limit_per_task: int | None = None
    decoding: dict[str, Any]
    #: Each test has a second turn, which is asked after the answer to the first.
    second_turn: bool = Field(False, exclude_if=lambda value: not value)
    notes: list[str] = []
    #: A user's own protocol; None: the declared one of `suite`.
    protocol: dict[str, Any] | None = None
