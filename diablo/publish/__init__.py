"""What a run leaves for others: one merged model folder, or an adapter on the Hugging Face Hub with its card."""

from __future__ import annotations

from pathlib import Path

from diablo.data.protocol import unknown
from diablo.io import read_json, sha256_file


def run_spec(run: Path) -> Path:
    """`spec.json` of a run's folder, `results/<scale>/runs/<run>`.

    Raises:
        ValueError: if there is no such run; names the nearest one beside it.
    """
    spec = run / "spec.json"
    if spec.is_file():
        return spec
    beside = [path.parent.name for path in run.parent.glob("*/spec.json")]
    if beside:
        raise ValueError(unknown("run", run.name, beside, str(run.parent)))
    raise ValueError(
        f"{run}: no folder of a run; give results/<scale>/runs/<run>, which `snakemake` makes"
    )


def check_trained(run: Path, method: str) -> None:
    """Check that a run left something to publish, and that it and its spec are what its provenance speaks of.

    Raises:
        ValueError: if nothing was trained, if the spec is another than what was trained, or if a file of the
            adapter is missing, was changed or has no provenance. The message names the file.
    """
    if method == "zero-shot":
        raise ValueError(
            f"{run}: a zero-shot run trains nothing; its model is the base model itself"
        )
    made = run / "adapter" / "provenance.json"
    if not made.is_file():
        raise ValueError(f"{made}: missing; train the run with `snakemake` or `diablo finetune`")
    facts = read_json(made)
    for name, digest in (facts.get("inputs") or {}).items():
        own = Path(name).parts[-2:] == (run.name, "spec.json")
        if own and sha256_file(run / "spec.json") != digest:
            raise ValueError(
                f"{run / 'spec.json'}: was another when this was trained; run `snakemake` again, which "
                "writes it and trains what it asks for"
            )
    # By paths from the adapter's folder: the training's log, beside it, is among them.
    outputs = facts.get("outputs") or {}
    recorded = {made.parent / name: digest for name, digest in outputs.items()}
    for path in sorted(made.parent.rglob("*")):
        if path.is_file() and path != made and path not in recorded:
            raise ValueError(f"{path}: not recorded in {made}; train the run again to publish it")
    for path, digest in recorded.items():
        if not path.is_file() or sha256_file(path) != digest:
            raise ValueError(
                f"{path}: missing, or not what {made} says it was; train the run again to publish it"
            )
