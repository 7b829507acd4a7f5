"""The settings of a DiaBlo adapter: what ``adapter_config.json`` holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from peft.config import PeftConfig

from .patterns import DIAGONAL, PATTERNS
from .register import extend_peft_type

IMPLEMENTATIONS = ("auto", "inplace", "adapter")
BIASES = ("none", "all", "diablo_only")


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _check_positive(value: Any, where: str) -> None:
    if not _is_whole(value, 1):
        raise ValueError(f"{where} must be a whole number of at least 1, but it is {value!r}.")


def _check_positions(positions: Any) -> None:
    if not isinstance(positions, dict) or not positions:
        raise ValueError(
            "block_positions must map the name of each module with chosen blocks to their positions, "
            f"but it is {positions!r}."
        )
    for module, chosen in positions.items():
        where = f"block_positions[{module!r}]"
        if not isinstance(chosen, list | tuple) or not chosen:
            raise ValueError(f"{where} must be a list of at least one position, not {chosen!r}.")
        seen = set()
        for position in chosen:
            pair = isinstance(position, list | tuple) and len(position) == 2
            if not pair or not all(_is_whole(index, 0) for index in position):
                raise ValueError(
                    f"{where} must hold [input block, output block], two whole numbers of at least 0, "
                    f"but one is {position!r}."
                )
            if tuple(position) in seen:
                raise ValueError(f"{where} has {list(position)} twice.")
            seen.add(tuple(position))


@dataclass
class DiabloConfig(PeftConfig):
    """Settings of a DiaBlo adapter (section 3.1 of the paper): ``Y = X W + X D``.

    ``D`` is block diagonal: for a layer of ``m1`` inputs and ``m2`` outputs, ``num_blocks`` = N
    blocks of shape ``(d1, d2) = (ceil(m1 / N), ceil(m2 / N))``, trainable from zero. N is kept also
    where it divides neither width; what sticks out of the matrix is padding without effect.

    With another ``pattern`` as many entries train elsewhere in the weight, at places that are drawn
    once and kept in the adapter's file. With ``block_positions`` the places are given instead, and only
    modules with positions get an adapter; with ``block_size`` too, the blocks are squares, as Sparse
    Matrix Tuning has them, and ``num_blocks`` has no meaning.

    Raises:
        ValueError: a number of blocks below 1, an unknown ``pattern``, a ``block_size`` without
            positions or for a pattern that has no squares, positions without a pattern that has any,
            positions that are no pairs of whole numbers or not distinct, a dropout outside [0, 1), an
            unknown ``implementation`` or ``bias``, ``implementation="inplace"`` with a dropout, or
            ``layers_to_transform`` / ``layers_pattern`` beside a ``target_modules`` that is a string.
    """

    num_blocks: int = field(
        default=64,
        metadata={
            "help": "N, the number of diagonal blocks of every target weight; more means fewer parameters."
        },
    )
    target_modules: list[str] | str | None = field(
        default=None,
        metadata={
            "help": "Names, or a regular expression, of the linear layers to train, or 'all-linear'."
        },
    )
    exclude_modules: list[str] | str | None = field(
        default=None,
        metadata={
            "help": "Names, or a regular expression, of layers to leave out of target_modules."
        },
    )
    layers_to_transform: list[int] | int | None = field(
        default=None,
        metadata={"help": "Only these layer indices (only with a list of target_modules)."},
    )
    layers_pattern: list[str] | str | None = field(
        default=None,
        metadata={"help": "The name of the layer list, where it is not one that PEFT knows."},
    )
    dropout: float = field(
        default=0.0,
        metadata={"help": "Dropout on the adapter's input, never on the base layer's."},
    )
    implementation: Literal["auto", "inplace", "adapter"] = field(
        default="auto",
        metadata={
            "help": (
                "'adapter' adds X D to the base layer's output and works on any base layer; 'inplace' "
                "keeps W + D in the weight's own blocks (plain floating-point nn.Linear, no dropout); "
                "'auto' takes 'inplace' where it can."
            )
        },
    )
    init_weights: bool = field(
        default=True,
        metadata={
            "help": "True starts D at zero; False at small random numbers, which is for tests."
        },
    )
    bias: Literal["none", "all", "diablo_only"] = field(
        default="none", metadata={"help": "Which biases are trained: 'none', 'all', 'diablo_only'."}
    )
    modules_to_save: list[str] | None = field(
        default=None,
        metadata={"help": "Other modules to train in full and save with the adapter."},
    )
    num_blocks_pattern: dict[str, int] | None = field(
        default_factory=dict,
        metadata={
            "help": "Layer name or regular expression -> its own number of blocks, first match wins."
        },
    )
    block_size: int | None = field(
        default=None,
        metadata={
            "help": "Edge of a chosen block; it must divide both widths of every layer that has one."
        },
    )
    block_positions: dict[str, list[list[int]]] | None = field(
        default=None,
        metadata={
            "help": (
                "Full module name -> the [input block, output block] of each of its chosen blocks, "
                "counted from 0. The names are target_modules too unless those are given."
            )
        },
    )
    pattern: Literal["diagonal", "blocks", "inputs", "outputs", "entries"] = field(
        default="diagonal",
        metadata={
            "help": (
                "What trains: 'diagonal' blocks (DiaBlo); 'blocks' of the same shape elsewhere in the "
                "num_blocks by num_blocks grid; whole 'inputs' (columns of a torch weight); whole "
                "'outputs' (its rows); single 'entries'. Each as many entries as 'diagonal' has."
            )
        },
    )
    pattern_seed: int = field(
        default=0,
        metadata={"help": "Of the places that are drawn, together with each module's name."},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = extend_peft_type()
        self.num_blocks_pattern = self.num_blocks_pattern or {}
        if self.target_modules is None and isinstance(self.block_positions, dict):
            self.target_modules = list(self.block_positions)
        if self.block_size is not None and self.pattern == DIAGONAL:
            self.pattern = "blocks"
        # JSON knows no sets; PEFT matches names against sets.
        if isinstance(self.target_modules, list):
            self.target_modules = set(self.target_modules)  # type: ignore[assignment]
        if isinstance(self.exclude_modules, list):
            self.exclude_modules = set(self.exclude_modules)  # type: ignore[assignment]
        self._check()

    def _check(self) -> None:
        _check_positive(self.num_blocks, "num_blocks")
        for pattern, value in (self.num_blocks_pattern or {}).items():
            _check_positive(value, f"num_blocks_pattern[{pattern!r}]")
        self._check_pattern()
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), but it is {self.dropout}.")
        if self.implementation not in IMPLEMENTATIONS:
            raise ValueError(
                f"implementation must be one of {', '.join(IMPLEMENTATIONS)}, "
                f"but it is {self.implementation!r}."
            )
        if self.bias not in BIASES:
            raise ValueError(f"bias must be one of {', '.join(BIASES)}, but it is {self.bias!r}.")
        if self.implementation == "inplace" and self.dropout > 0:
            raise ValueError(
                f"implementation='inplace' cannot drop the adapter's input alone, but dropout is "
                f"{self.dropout}. Set dropout=0, or implementation='adapter'."
            )
        if isinstance(self.target_modules, str):
            for name in ("layers_to_transform", "layers_pattern"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"{name}={getattr(self, name)!r} needs target_modules to be a list, but it is "
                        f"the string {self.target_modules!r}."
                    )

    def _check_pattern(self) -> None:
        if self.pattern not in PATTERNS:
            raise ValueError(
                f"pattern must be one of {', '.join(PATTERNS)}, but it is {self.pattern!r}."
            )
        if not _is_whole(self.pattern_seed, 0):
            raise ValueError(
                f"pattern_seed must be a whole number of at least 0, but it is {self.pattern_seed!r}."
            )
        given = self.block_positions is not None
        if (self.block_size is not None and not given) or (given and self.pattern == DIAGONAL):
            raise ValueError(
                "block_size and block_positions need each other, but they are "
                f"{self.block_size!r} and {self.block_positions!r}. (With a pattern other than "
                f"{DIAGONAL!r}, positions alone will do.)"
            )
        if self.block_size is not None:
            _check_positive(self.block_size, "block_size")
            if self.pattern != "blocks":
                raise ValueError(
                    f"block_size={self.block_size} is the edge of squares, but pattern is "
                    f"{self.pattern!r}; drop one of the two."
                )
        if given:
            _check_positions(self.block_positions)
            if self.num_blocks_pattern:
                raise ValueError(
                    f"num_blocks_pattern={self.num_blocks_pattern!r} is for diagonal and drawn blocks; "
                    "drop it, or block_positions."
                )
