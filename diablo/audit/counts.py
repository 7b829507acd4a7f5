"""#Params recomputed from the models' widths, under every convention that the paper's numbers may follow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from diablo.audit.findings import Finding, Verdict
from diablo.audit.paper import Line, Paper, title
from diablo.audit.shrunk import shrunk_parameters
from diablo.settings import MODULES
from diablo.shapes import Shapes, Width, diablo_parameters, lora_b_parameters, lora_parameters

#: Rows that have LoRA's factors, whatever else they have.
FACTORS = ("lora", "dora", "pissa", "milora", "lora-ga", "loftq", "apiq")
OWN, LORA, HALF, HALF_PRINTED, SHRUNK = (
    "its own count",
    "LoRA's count, without magnitudes",
    "half of LoRA's count",
    "half of LoRA's printed share",
    "N made smaller, as the released code does",
)
TRUE, SQUARE = "K and V as they are", "K and V as square"
BASE, WITH_ADAPTERS, MILLION, BINARY = (
    "of the base",
    "of base and adapters",
    "in 10^6",
    "in 2^20",
)


@dataclass(frozen=True)
class Count:
    """A row's #Params under one convention.

    Attributes:
        counting: what is counted; widths: K and V; modules: letters; unit: of the printed number.
        params: trainable parameters; value: what would be printed, in per cent or millions.
    """

    counting: str
    widths: str
    modules: str
    unit: str
    params: Fraction
    value: Fraction

    def describe(self, declared: str) -> str:
        """The convention in words, without what is as it should be."""
        words = [self.counting, self.unit]
        if self.widths != TRUE:
            words.insert(1, self.widths)
        if self.modules != declared:
            words.insert(1, self.modules.upper())
        return ", ".join(words)


def fits(printed: str, value: Fraction) -> bool:
    """Whether a printed `1.04%` or `220.50M` can be a rounding of `value` (ties may go either way)."""
    digits = len(printed[:-1].partition(".")[2])
    return abs(Fraction(printed[:-1]) - value) <= Fraction(1, 2 * 10**digits)


def countings(line: Line, widths: list[Width]) -> dict[str, Fraction]:
    """What a row's method may be counted as, by name.

    Raises:
        ValueError: for a method that has no count of its own here.
    """
    row = line.row
    if row.method == "diablo":
        blocks = row.num_blocks or 0
        counted = {OWN: Fraction(diablo_parameters(widths, blocks))}
        if (shrunk := shrunk_parameters(widths, blocks)) != counted[OWN]:
            counted[SHRUNK] = Fraction(shrunk)
        return counted
    factors = Fraction(lora_parameters(widths, row.rank or 0))
    if row.method == "dora":
        return {OWN: factors + sum(m2 for _, m2 in widths), LORA: factors}
    if row.method in ("lori-d", "lori-s"):
        return {OWN: Fraction(lora_b_parameters(widths, row.rank or 0)), HALF: factors / 2}
    if row.method in FACTORS:
        return {OWN: factors}
    raise ValueError(f"{line.place}: no count for method {row.method!r}")


def conventions(line: Line) -> list[Count]:
    """The row's count under every convention, the plain one first."""
    declared, printed = line.settings.modules or "", line.row.params or ""
    found = []
    for modules in dict.fromkeys([declared, *(("qkvud", "qkvogud") if declared != "all" else ())]):
        names = [MODULES[letter] for letter in modules] if modules != "all" else line.shapes.modules
        for word, shapes in _shapes(line.shapes):
            base = line.shapes.base_parameters
            for counting, params in countings(line, shapes.widths(names)).items():
                units = (BASE, WITH_ADAPTERS) if printed.endswith("%") else (MILLION, BINARY)
                for unit in units:
                    value = _in(unit, params, base)
                    found.append(Count(counting, word, modules, unit, params, value))
    return found


def _shapes(shapes: Shapes) -> Iterator[tuple[str, Shapes]]:
    yield TRUE, shapes
    if shapes.kv != shapes.hidden:
        yield SQUARE, replace(shapes, kv=shapes.hidden)


def _in(unit: str, params: Fraction, base: int) -> Fraction:
    return {
        BASE: 100 * params / base,
        WITH_ADAPTERS: 100 * params / (base + params),
        MILLION: params / 10**6,
        BINARY: params / 2**20,
    }[unit]


def count_parameters(paper: Paper) -> list[Finding]:
    """Every printed #Params beside the row's counts."""
    lines = [line for line in paper.lines(parts=False) if line.row.params]
    return [_row(line, _lora_printed(line)) for line in lines]


def _lora_printed(line: Line) -> Fraction | None:
    """LoRA's printed share in the same group."""
    for row in line.group.rows:
        if row.method == "lora" and row.params and row.params.endswith("%"):
            return Fraction(row.params[:-1])
    return None


def _row(line: Line, lora_printed: Fraction | None) -> Finding:
    """One row's printed #Params beside its counts."""
    printed, method = line.row.params or "", line.row.method
    id_, statement = f"counts/{line.id}", f"{line.place}: #Params {printed}"
    source = f"paper, {title(line.experiment.name)}; widths in workflow/catalog.yaml"
    if method in ("full", "zero-shot"):
        fraction = Fraction(100 if method == "full" else 0)
        verdict: Verdict = "agrees" if fits(printed, fraction) else "disagrees"
        return Finding(id_, statement, f"{float(fraction):g}%", verdict, source)
    if method == "smt":
        size, base = line.settings.block_size or 256, line.shapes.base_parameters
        blocks = Fraction(printed[:-1]) / 100 * base / size**2
        evidence = f"about {round(blocks)} blocks of {size} x {size}; their number is not stated"
        return Finding(id_, statement, evidence, "cannot tell", source)
    counts = conventions(line)
    declared, plain = line.settings.modules or "", counts[0]
    matching = [
        f"{count.describe(declared)} = {_print(count)}"
        for count in counts
        if fits(printed, count.value)
    ]
    if method.startswith("lori") and lora_printed and fits(printed, lora_printed / 2):
        matching.append(HALF_PRINTED)
    ours = [count for count in counts if count.unit == plain.unit and count.modules == declared]
    others = "; ".join(
        f"{count.describe(declared)} {float(count.params) / 1e6:.2f}e6 = {_print(count)}"
        for count in ours
    )
    words = "; ".join(matching) if matching else f"none{_would_fit(line)}"
    return Finding(
        id=id_,
        statement=statement,
        evidence=f"{others}. Fits: {words}",
        verdict="agrees" if fits(printed, plain.value) else "disagrees",
        source=source,
        entries=_entries(line, counts, matching),
    )


def _would_fit(line: Line) -> str:
    """The ranks, or the N that divide all widths, whose own count would be printed so."""
    key = "num_blocks" if line.row.method == "diablo" else "rank"
    edges = {m for width in line.shapes.widths(line.modules()) for m in width}
    sizes = [
        size
        for size in range(1, 257)
        if (key == "rank" or not any(m % size for m in edges))
        and fits(line.row.params or "", _resized(line, key, size))
    ]
    name = "N" if key == "num_blocks" else "r"
    found = (
        f"{name} = {', '.join(map(str, sizes))} would fit" if sizes else f"no {name} up to 256 fits"
    )
    return f" ({found})"


def _resized(line: Line, key: str, size: int) -> Fraction:
    row = line.row.model_copy(update={key: size})
    return conventions(replace(line, row=row))[0].value


def _print(count: Count) -> str:
    percent = count.unit in (BASE, WITH_ADAPTERS)
    return f"{float(count.value):.3f}%" if percent else f"{float(count.value):.2f}M"


def _entries(line: Line, counts: list[Count], matching: list[str]) -> tuple[str, ...]:
    """The register's entries that a row belongs to, from which conventions it fits and does not fit."""
    printed, method, plain = line.row.params or "", line.row.method, counts[0]
    if not matching:
        return ("D-07",)
    fitting = [count for count in counts if fits(printed, count.value)]
    as_declared = [count for count in fitting if count.modules == plain.modules]
    if not fitting:
        return ("D-34",)
    if not printed.endswith("%"):
        several = line.shapes.kv != line.shapes.hidden
        return ("D-09",) if several and as_declared else ("D-08",)
    own = [count for count in as_declared if count.unit == BASE]
    if not own:
        return ("D-33",)
    differs = not fits(printed, plain.value)
    return ("D-09",) if differs or line.shapes.kv != line.shapes.hidden or method == "dora" else ()
