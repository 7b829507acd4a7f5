"""A run's adapter merged into a plain model folder, which needs neither PEFT nor this project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diablo.generation.engines import dtype_of, merged_folder
from diablo.io import atomic_path
from diablo.provenance import Provenance
from diablo.publish import check_trained


def merge(spec: Any, run: Path, out: Path) -> None:
    """Write the model that a run's evaluation decodes with: weights, config, tokenizer, provenance.json.

    Weights have the type that the frozen ones had in training; a quantised base is dequantised to it first.

    Args:
        spec: RunSpec.
        run: its folder.
        out: folder to write, which must not be there.

    Raises:
        ValueError: if `out` is there, or the run or its base model is not (fit to be merged).
    """
    if out.exists():
        raise ValueError(f"{out}: is there already; remove it, or give another --out")
    check_trained(run, spec.method)
    dtype = dtype_of(spec)
    made = Path(spec.model_path) / "provenance.json"
    adapter = sorted(path for path in (run / "adapter").rglob("*") if path.is_file())
    inputs = [run / "spec.json", *adapter, *([made] if made.is_file() else [])]
    provenance = Provenance("merge", inputs)
    with atomic_path(out) as folder:
        with merged_folder(spec, run / "adapter", folder.parent / "work", dtype) as merged:
            merged.rename(folder)
        provenance.add(run=spec.run, method=spec.method, base_model=spec.model, dtype=dtype)
        provenance.write(folder / "provenance.json")
