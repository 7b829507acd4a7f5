"""The "fine-tuning" of a retained update: no step is done, γ is searched, and the adapter written.

`W0 + γ (mask ∘ ΔW)` keeps of a full fine-tuning what a pattern covers. The γ of the least answer loss is
taken, on the training examples that the full fine-tuning left out: no test example is looked at.
"""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer

from diablo.analysis.retain import kept_update, model_layouts, retain, search
from diablo.generation.engines import dtype_of
from diablo.io import atomic_path, read_json, write_json, write_jsonl
from diablo.methods import get_method
from diablo.methods.base import load_base
from diablo.methods.retained import fill
from diablo.precision import check_bf16
from diablo.provenance import Provenance
from diablo.scoring.answer_loss import held_out_records, task_losses


def retain_update(spec: Any, run_folder: Path, protocol: Any) -> None:
    """Search γ; write `adapter/` (an adapter, retained.json, provenance.json) and an empty `log.jsonl`.

    The losses are those of the model as it is served, in its type; ΔW is the difference of float32
    weights, which γ would otherwise multiply the rounding of.

    Args:
        spec: RunSpec with `pattern`, `full_adapter`, `gammas`, `refine` and the `held_out` of the full run.

    Raises:
        ValueError: if the full run is not there, or is not the one that left these examples out; the
            message names the file.
        FloatingPointError: no γ gives a finite loss.
    """
    method = get_method(spec.method)
    method.check(spec)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    check_bf16(spec.run, spec.precision, device)
    full = Path(spec.full_adapter)
    check_full_run(spec, full)
    data, records = held_out_records(spec)
    inputs = [run_folder / "spec.json", data, full / "provenance.json"]
    provenance = Provenance("finetune", inputs, spec.seed)

    model = load_base(spec.model_path, "cpu", torch.float32)
    base_parameters = sum(p.numel() for p in model.parameters())
    layouts = model_layouts(model, spec.modules, spec.pattern, spec.num_blocks, spec.seed)
    start = _weights(model, layouts)
    tuned = _weights(load_base(str(full), "cpu", torch.float32), layouts)
    kept = kept_update(start, tuned, layouts)

    tokenizer = AutoTokenizer.from_pretrained(spec.model_path)
    model = model.to(device, getattr(torch, dtype_of(spec))).eval()  # type: ignore[arg-type]

    def loss(gamma: float) -> float:
        retain(model, start, tuned, layouts, gamma)
        value, _ = task_losses(model, tokenizer, protocol, records)
        print(f"gamma {gamma:g}: {value:.4f} nats per token (n = {len(records)})", flush=True)
        return value

    found = search(loss, spec.gammas, spec.refine or 0)
    record = {
        "pattern": spec.pattern,
        "num_blocks": spec.num_blocks,
        "seed": spec.seed,
        "gamma": found.chosen,
        "at_edge": found.at_edge,
        "held_out": len(records),
        # JSON has no infinity.
        "tried": [[gamma, value if isfinite(value) else None] for gamma, value in found.tried],
        "full_run": full.parent.name,
    }
    # Diagonal blocks may reach over the edge of a weight: what does keeps nothing.
    entries = sum(
        int(layout.read(torch.ones(layout.out_features, layout.in_features)).sum())
        for layout in layouts.values()
    )
    provenance.add(
        method=spec.method,
        retained=record,
        # Nothing trains: so many entries differ from the base model's.
        trainable_parameters=entries,
        base_parameters=base_parameters,
        dtype={"weights": dtype_of(spec), "autocast": None},
    )
    # W0 is of no further use, and D has float32.
    adapter = method.prepare(model.to("cpu", torch.float32), spec)  # type: ignore[arg-type]
    fill(adapter, {name: found.chosen * update for name, update in kept.items()})  # type: ignore[arg-type]
    write_jsonl(run_folder / "log.jsonl", [])
    with atomic_path(run_folder / "adapter") as folder:
        method.save(adapter, folder)
        write_json(folder / "retained.json", record)
        provenance.write(folder / "provenance.json", {"../log.jsonl": run_folder / "log.jsonl"})


def check_full_run(spec: Any, full: Path) -> None:
    """ValueError unless `full` was fully fine-tuned from the same model, without the held-out examples."""
    for path in (full / "provenance.json", full.parent / "spec.json"):
        if not path.is_file():
            raise ValueError(
                f"{path}: no such file; run {spec.run} keeps a part of this full fine-tuning: run "
                "`diablo finetune` for it first"
            )
    theirs = read_json(full.parent / "spec.json")
    wanted = {"method": "full"}
    same = ("model_path", "data_path", "train_limit", "held_out", "seed")
    for key, value in {**wanted, **{key: getattr(spec, key) for key in same}}.items():
        if theirs.get(key) != value:
            raise ValueError(
                f"{full.parent / 'spec.json'}: {key} is {theirs.get(key)!r}, but run {spec.run} needs "
                f"{value!r}: the examples that choose γ must be those that this full fine-tuning left out"
            )


def _weights(model: torch.nn.Module, names: Any) -> dict[str, Tensor]:
    """Copies of the weights of linear layers, by their keys in the state dict."""
    found = {}
    for name in names:
        weight = model.get_submodule(name).get_parameter("weight")
        found[f"{name}.weight"] = weight.detach().clone()
    return found
