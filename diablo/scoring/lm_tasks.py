"""What the lm-eval task files in `tasks/` refer to: documents, answer extraction, the metric.

The wording, the labels and the extraction come from the protocol (`diablo.data.protocol`), the
records and the subset from `diablo.generation.prompts`: an lm-eval user gets exactly the prompts
that the pipeline asks. lm-eval itself is not imported here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from diablo.data.protocol import load_protocol
from diablo.generation.prompts import load_prompts

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
    import datasets

    data = data or os.environ.get(DATA_VARIABLE)
    if not data:
        raise ValueError(
            f'diablo_{task}: where is the data? Pass --metadata \'{{"data": "FOLDER"}}\' or set '
            f"{DATA_VARIABLE}=FOLDER, a data set folder with test.jsonl, such as "
            "results/mini/data/commonsense_mirror (built by `diablo download`)"
        )
    protocol = load_protocol(suite, variant)
    rows = [
        {
            "suite": suite,
            "variant": variant,
            "task": task,
            "id": prompt.id,
            "prompt": prompt.text,
            "answer": prompt.answer,
        }
        for prompt in load_prompts(data, protocol, [task], limit_per_task)
    ]
    return {"test": datasets.Dataset.from_list(rows)}


def extract(responses: list[list[str]], docs: list[dict]) -> list[list[str | None]]:
    """The label in each response, None where there is none (filter `label` of the task files)."""
    return [
        [
            load_protocol(doc["suite"], doc["variant"]).extract(doc["task"], doc["prompt"], text)
            for text in texts
        ]
        for texts, doc in zip(responses, docs, strict=True)
    ]


def accuracy(doc: dict, results: list[str | None]) -> dict[str, int]:
    """1 if the extracted label is the answer; a response without a label is wrong."""
    return {"acc": int(results[0] == doc["answer"])}
