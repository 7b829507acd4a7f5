"""log.jsonl, one line an optimiser step, and the progress bar."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback

from diablo.io import read_jsonl, write_jsonl


def resume_log(path: Path, steps: int) -> bool:
    """Cut a log back to its first `steps` lines; False (and an empty log) if it has not all of them.

    A killed run's log reaches beyond its checkpoint, and its last line may be a part of one.
    """
    whole = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    lines = [line for line in whole if line.endswith("\n")][:steps]
    complete = len(lines) == steps
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines) if complete else "", encoding="utf-8")
    return complete and [line["step"] for line in read_jsonl(path)] == list(range(1, steps + 1))


class StepLog(TrainerCallback):
    """Appends each step's facts to a file and shows them.

    Lines have `step`, `epoch`, `loss` (mean over the step's labelled tokens), `grad_norm` (global L2
    norm before clipping), `grad_norms` and `mean_grad_norms` (the same by group of parameters, and the
    mean over a group's matrices), `lr`, `tokens` (padding not counted), `computed` (padding counted), `targets`
    (labelled tokens), `examples`, `tokens_per_second`; and `skipped` where fp16 overflowed and the step was left out.
    """

    def __init__(self, path: Path, facts: dict[str, Any]):
        """`facts` is filled by the trainer before each step ends."""
        self.path = path
        self.facts = facts

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._file = self.path.open("a", encoding="utf-8")
        self._bar = tqdm(
            total=state.max_steps, initial=state.global_step, unit="step", dynamic_ncols=True
        )

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._started = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        speed = self.facts["tokens"] / (time.perf_counter() - self._started)
        line = {
            "step": state.global_step,
            "epoch": round(state.epoch, 6),
            **self.facts,
            "tokens_per_second": round(speed, 1),
        }
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        # What is handed to the system outlives the process; a checkpoint's steps are in the log.
        self._file.flush()
        self._bar.set_postfix_str(f"loss {line['loss']:.4f}, {speed:.0f} tokens/s", refresh=False)
        self._bar.update()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and the bar (also after an error)."""
        if hasattr(self, "_file"):
            self._file.close()
            self._bar.close()


def publish_log(path: Path, target: Path) -> list[dict]:
    """Copy a finished log to its place, atomically; returns its lines."""
    lines = read_jsonl(path)
    write_jsonl(target, lines)
    return lines


def logs(run_folder: Path, spec: Any) -> dict[str, Path]:
    """What a run writes beside its adapter, by path from the adapter's folder."""
    names = [
        "log.jsonl",
        *(["gradients.jsonl"] if getattr(spec, "gradient_examples", None) else []),
    ]
    return {f"../{name}": run_folder / name for name in names}
