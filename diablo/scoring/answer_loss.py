"""The answer loss: how well a trained model predicts the gold answers of examples it has not seen.

Teacher forcing: the evaluation prompt, then the gold answer's tokens (of an encoder-decoder, in its
decoder), whose negative log-likelihood is taken (the end-of-sequence token left out). It moves long before an accuracy does, and separates
methods where accuracies are near chance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diablo.data.encode import encode_answer
from diablo.data.protocol import Protocol, protocol_of
from diablo.generation.engines import dtype_of
from diablo.generation.prompts import suite_answers
from diablo.io import read_jsonl, write_json
from diablo.methods.base import is_encoder_decoder
from diablo.provenance import Provenance

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: Padded tokens of one forward pass.
TOKEN_BUDGET = {"cpu": 2048, "cuda": 32768}


def measure_suite(
    spec: Any, suite: Any, run_folder: str | Path, threads: int | None = None
) -> dict[str, Any]:
    """Write `losses/<suite>.json`: the answer loss of a run on the examples that are scored.

    Args:
        spec: RunSpec.
        suite: SuiteSpec; the same examples as in `scores/<suite>.json`, of those that have a gold answer,
            and the tasks that nothing else is measured on.
        run_folder: holds `adapter/`.
        threads: CPU threads; None leaves torch's choice.

    Returns:
        What was written; `value` is in nats per answer token.

    Raises:
        ValueError: if data or adapter are missing, or a prompt has no place in the model.
    """
    data = Path(suite.data_path) / "test.jsonl"
    records = [prompt.record for prompt in suite_answers(suite)]
    found = _measure(spec, records, run_folder, data, threads)
    losses = {"run": spec.run, "suite": suite.suite, "variant": suite.variant, **found}
    write_json(Path(run_folder) / "losses" / f"{suite.suite}.json", losses)
    return losses


def measure_held_out(
    spec: Any, run_folder: str | Path, threads: int | None = None
) -> dict[str, Any]:
    """Write `held_out.json`: a trial's answer loss on the training examples that it left out.

    Raises:
        ValueError: if the run held nothing out; otherwise as :func:`measure_suite`.
    """
    if not spec.held_out:
        raise ValueError(
            f"run {spec.run}: held_out is 0, so there is nothing to measure; give --suite"
        )
    data, records = held_out_records(spec)
    losses = {"run": spec.run, **_measure(spec, records, run_folder, data, threads)}
    write_json(Path(run_folder) / "held_out.json", losses)
    return losses


def held_out_records(spec: Any) -> tuple[Path, list[dict[str, Any]]]:
    """(the training file, the records of it that a run leaves out of its training)."""
    from diablo.training.examples import select, split

    data = Path(spec.data_path) / "train.jsonl"
    chosen = select(read_jsonl(data), spec.train_limit, spec.seed)
    return data, split(chosen, spec.held_out, spec.seed)[1]


def _measure(
    spec: Any,
    records: Sequence[Mapping[str, Any]],
    run_folder: str | Path,
    data: Path,
    threads: int | None,
) -> dict[str, Any]:
    import torch
    from transformers import AutoTokenizer

    from diablo.methods import load_for_inference

    if threads is not None:
        torch.set_num_threads(threads)
    adapter = Path(run_folder) / "adapter"
    provenance = Provenance("measure", [data, adapter / "provenance.json"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_for_inference(spec, adapter, device, dtype_of(spec))
    tokenizer = AutoTokenizer.from_pretrained(spec.model_path)
    value, tasks = task_losses(model, tokenizer, protocol_of(spec), records)
    print(f"answer loss of {spec.run}: {value:.4f} nats per token (n = {len(records)})")
    provenance.add(device=device, dtype=dtype_of(spec))
    return {"value": value, "tasks": tasks, "provenance": provenance.finish()}


def task_losses(
    model: PreTrainedModel,
    tokenizer: Any,
    protocol: Protocol,
    records: Sequence[Mapping[str, Any]],
) -> tuple[float, dict[str, dict[str, Any]]]:
    """(the answer loss, what it is made of by task): the unweighted mean of the tasks' nats per token.

    Raises:
        ValueError: see :func:`answer_losses`.
    """
    losses = answer_losses(model, tokenizer, protocol, records)
    by_task: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record, (nll, tokens) in zip(records, losses, strict=True):
        by_task[record["task"]].append({"id": record["id"], "nll": nll, "tokens": tokens})
    tasks = {task: _summary(examples) for task, examples in by_task.items()}
    return sum(task["value"] for task in tasks.values()) / len(tasks), tasks


def _summary(examples: list[dict[str, Any]]) -> dict[str, Any]:
    tokens = sum(example["tokens"] for example in examples)
    nll = sum(example["nll"] for example in examples)
    return {"n": len(examples), "tokens": tokens, "value": nll / tokens, "examples": examples}


def answer_losses(
    model: PreTrainedModel,
    tokenizer: Any,
    protocol: Protocol,
    records: Sequence[Mapping[str, Any]],
) -> list[tuple[float, int]]:
    """(summed negative log-likelihood in nats, tokens) of each record's gold answer, in order.

    Raises:
        ValueError: if a prompt with its answer is longer than the model has positions, or an answer
            is empty; names the record.
    """
    import torch

    room = getattr(model.config, "max_position_embeddings", None)
    pairs = is_encoder_decoder(model)
    rows = []
    for record in records:
        prompt, answer = encode_answer(tokenizer, protocol, record, pairs)
        sizes = (len(prompt), len(answer))
        if not answer or (room is not None and (max if pairs else sum)(sizes) > room):
            raise ValueError(
                f"{record['task']} {record['id']!r}: {len(prompt)} prompt tokens and {len(answer)} "
                f"answer tokens; there must be an answer, and room for both ({room} positions)"
            )
        rows.append((prompt, answer))
    found: list[tuple[float, int]] = [(0.0, 0)] * len(rows)
    budget = TOKEN_BUDGET[model.device.type]
    with torch.inference_mode():
        for group in _batches([len(prompt) + len(answer) for prompt, answer in rows], budget):
            sums = _batch_losses(model, [rows[index] for index in group])
            for index, nll in zip(group, sums, strict=True):
                found[index] = (nll, len(rows[index][1]))
    return found


def _batches(lengths: list[int], budget: int) -> list[list[int]]:
    """Indices grouped by like length, longest first, at most `budget` padded tokens a group."""
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if groups and lengths[groups[-1][0]] * (len(groups[-1]) + 1) <= budget:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _batch_losses(
    model: PreTrainedModel, rows: Sequence[tuple[list[int], list[int]]]
) -> list[float]:
    import torch
    from torch.nn import functional as F

    from diablo.training.examples import IGNORE, padded_pairs, padded_rows
    from diablo.training.loss import labelled_logits

    pairs, examples = is_encoder_decoder(model), []
    for prompt, answer in rows:
        ids, labels = (
            (prompt, answer) if pairs else (prompt + answer, [IGNORE] * len(prompt) + answer)
        )
        examples.append({"input_ids": torch.tensor(ids), "labels": torch.tensor(labels)})
    batch = (padded_pairs if pairs else padded_rows)(examples, 0)
    device = model.device
    inputs = {key: tensor.to(device) for key, tensor in batch["inputs"].items()}
    logits = labelled_logits(model, batch["positions"].to(device), inputs)
    each = F.cross_entropy(logits.float(), batch["targets"].to(device), reduction="none").double()
    sums = torch.zeros(len(rows), dtype=torch.float64, device=device)
    # Row by row, as the positions are.
    sizes = torch.tensor([len(answer) for _, answer in rows])
    owner = torch.arange(len(rows)).repeat_interleave(sizes).to(device)
    return sums.index_add(0, owner, each).tolist()
