"""What the lm-eval task files in `tasks/` refer to: documents, answer extraction, the metric.

Suites without task files get the same tasks from here (`suite_task`). The wording, the extraction and
what counts as right come from the protocol (`diablo.data.protocol`), the records and the subset from
`diablo.generation.prompts`: an lm-eval user gets exactly the prompts that the pipeline asks. lm-eval
itself is not imported here.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from diablo.data.protocol import Protocol, load_protocol, protocol_of
from diablo.data.reading import Reading
from diablo.generation.prompts import load_prompts, suite_decoding

if TYPE_CHECKING:
    import datasets

#: Environment variable with the data set folder, where `--metadata` has none.
DATA_VARIABLE = "DIABLO_TASK_DATA"


def documents(
    suite: str,
    variant: str,
    task: str,
    data: str | None = None,
    limit_per_task: int | None = None,
    **_other_metadata: Any,
) -> dict[str, datasets.Dataset]:
    """The test documents of one task (`custom_dataset` of the task files).

    Args:
        suite, variant, task: from the task file's `dataset_kwargs`.
        data: data set folder with a `test.jsonl`, from `--metadata`; else `DIABLO_TASK_DATA`.
        limit_per_task: the pipeline's reproducible subset, from `--metadata`.
        _other_metadata: lm-eval also hands over the model's arguments; they mean nothing here.

    Returns:
        {"test": columns suite, variant, task, id, prompt, answer}.

    Raises:
        ValueError: if no data folder is given or it lacks the task; says what to do.
    """
    data = data or os.environ.get(DATA_VARIABLE)
    if not data:
        raise ValueError(
            f'diablo_{task}: where is the data? Pass --metadata \'{{"data": "FOLDER"}}\' or set '
            f"{DATA_VARIABLE}=FOLDER, a data set folder with test.jsonl, such as "
            "results/mini/data/commonsense_mirror (built by `diablo download`)"
        )
    return _documents(load_protocol(suite, variant), task, data, limit_per_task)


def _documents(
    protocol: Protocol,
    task: str,
    data: str,
    limit_per_task: int | None = None,
    **_other_metadata: Any,
) -> dict[str, datasets.Dataset]:
    import datasets

    rows = [
        {
            "suite": protocol.suite,
            "variant": protocol.variant,
            "task": task,
            "id": prompt.id,
            "prompt": prompt.text,
            "answer": prompt.answer,
        }
        for prompt in load_prompts(data, protocol, [task], limit_per_task)
    ]
    return {"test": datasets.Dataset.from_list(rows)}


def extract(responses: list[list[str]], docs: list[dict]) -> list[list[str | None]]:
    """The answer in each response, None where there is none (filter `label` of the task files)."""
    return [
        [_reading(doc).extract(doc["prompt"], text) for text in texts]
        for texts, doc in zip(responses, docs, strict=True)
    ]


def accuracy(doc: dict, results: list[str | None]) -> dict[str, int]:
    """1 if what was extracted is the answer; a response without an answer is wrong."""
    return {"acc": int(_reading(doc).correct(results[0], doc["answer"]))}


def _reading(doc: dict) -> Reading:
    return load_protocol(doc["suite"], doc["variant"]).reading(doc["task"])


def _extract(
    reading: Reading, responses: list[list[str]], docs: list[dict]
) -> list[list[str | None]]:
    return [
        [reading.extract(doc["prompt"], text) for text in texts]
        for texts, doc in zip(responses, docs, strict=True)
    ]


def _accuracy(reading: Reading, doc: dict, results: list[str | None]) -> dict[str, int]:
    return {"acc": int(reading.correct(results[0], doc["answer"]))}


def suite_task(suite: Any, task: str, name: str, reading: Reading | None = None) -> dict[str, Any]:
    """lm-eval's config of a SuiteSpec's task without a file; says the same as `tasks/*/_base.yaml`.

    Args:
        name: of the lm-eval task.
        reading: instead of the protocol's own.
    """
    protocol, decoding = protocol_of(suite), suite_decoding(suite).of(task)
    reading = reading or protocol.reading(task)
    extraction = {"function": "custom", "filter_fn": partial(_extract, reading)}
    return {
        "task": name,
        "custom_dataset": partial(_documents, protocol, task),
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "prompt",
        "doc_to_target": "answer",
        "num_fewshot": 0,
        "generation_kwargs": {
            "max_gen_toks": decoding.max_new_tokens,
            "until": list(decoding.stop),
            "do_sample": False,
            "num_beams": decoding.num_beams,
        },
        "filter_list": [{"name": "label", "filter": [extraction, {"function": "take_first"}]}],
        "process_results": partial(_accuracy, reading),
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1},
    }
