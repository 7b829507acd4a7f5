"""Finished batches of an interrupted generation, kept so that a rerun does not repeat them."""

from __future__ import annotations

import json
import os
from pathlib import Path


class Partial:
    """An append-only file of finished batches; a killed job loses at most the batch it was in.

    Each line holds one batch: the indices of its prompts and, for each of their samples, text and why it
    ended. Only whole batches are reused: what a batch is padded to can change the last bits of a logit, so a resumed
    generation computes the very batches that an uninterrupted one does.

    Args:
        folder: work folder of the run (made if missing).
        key: hash of everything that the completions depend on; it names the file, so that no
            batch of another spec, suite, engine or adapter is ever reused.
    """

    def __init__(self, folder: Path, key: str):
        self.path = folder / f"generated-{key[:16]}.jsonl"
        self._done: dict[tuple[int, ...], list[list[list[str]]]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._load()

    def _load(self) -> None:
        good = 0
        for line in self.path.read_bytes().splitlines(keepends=True):
            try:
                batch = json.loads(line)
                rows, completions = tuple(batch["rows"]), batch["completions"]
            except (ValueError, KeyError, TypeError):
                break
            if not line.endswith(b"\n"):
                break
            self._done[rows] = completions
            good += len(line)
        # What follows was being written when the job was killed.
        os.truncate(self.path, good)

    def __getitem__(self, rows: list[int]) -> list[list[list[str]]] | None:
        """Completions of the batch with exactly these prompts, or None if it is not finished."""
        return self._done.get(tuple(rows))

    def add(self, rows: list[int], completions: list[list[list[str]]]) -> None:
        """Keep a finished batch (on disk before this returns)."""
        line = json.dumps({"rows": rows, "completions": completions}, ensure_ascii=False)
        with self.path.open("a", encoding="utf-8") as out:
            out.write(line + "\n")
            out.flush()
            os.fsync(out.fileno())
        self._done[tuple(rows)] = completions

    def delete(self) -> None:
        """Remove the file and those of earlier settings, and the folder if nothing else is in it."""
        for path in self.path.parent.glob("generated-*.jsonl"):
            path.unlink()
        if self.path.parent.is_dir() and not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()
