"""Made-up files pass what the real ones have to: reader, size, filter, overlap; models load and tokenise."""

from __future__ import annotations

from pathlib import Path

import pytest

from diablo.data.catalog import load_catalog
from diablo.data.overlap import check_overlap
from diablo.data.prepare import check_sources, download_dataset, download_model
from diablo.io import read_json, read_jsonl
from diablo.rehearsal.scale import NAME, load_rehearsal, with_rehearsal
from diablo.rehearsal.sources import SHARED, write_files

CATALOG = with_rehearsal(load_catalog())
#: What the paper's tables and figures train on, calibrate on and test on.
TRAIN = (
    *(
        "commonsense_170k",
        "metamathqa",
        "gsm8k",
        "math_10k",
        "wikitext2",
        "codealpaca",
        "saferpaca",
    ),
    *("glue_mrpc", "glue_cola", "glue_sst2", "glue_qnli", "glue_mnli"),
)
TEST = ("commonsense_8", "gsm8k_math", "math_10k_tests", "hexphi_330")


def built(name: str, folder: Path) -> tuple[Path, dict]:
    """Folder of a data set that was built of made-up files, and its provenance."""
    name, mirror = NAME.format(name), folder / "mirror"
    write_files(CATALOG.dataset(name), mirror)
    download_dataset(name, folder / "out", mirror, folder / "cache", CATALOG)
    return folder / "out", read_json(folder / "out" / "provenance.json")


@pytest.mark.parametrize("name", [*TRAIN, *TEST])
def test_made_up_files_pass_the_builder(name: str, tmp_path: Path) -> None:
    folder, facts = built(name, tmp_path)
    assert "rehearsal" in facts["stand_in"]
    check_overlap(folder, tmp_path / "overlap.json")
    expected = load_catalog().dataset(name).options.get("expect_test", {})
    if name in TEST:
        counts = {task: count["n"] for task, count in facts["counts"]["test"].items()}
        assert not expected or counts == expected
    else:
        assert len(read_jsonl(folder / "train.jsonl")) >= 250
    # Where both parts are in one data set, the builder has something to find.
    assert not name.startswith("glue_") or facts["overlaps_removed"]
    for found in facts.get("overlaps_removed", {}).values():
        assert found["rows"] == SHARED


@pytest.mark.slow
def test_the_chat_filters_have_something_to_do(tmp_path: Path) -> None:
    # Rows are measured with its tokenizer.
    download_model_files("llama2-7b", tmp_path / "mirror")
    folder, facts = built("wizardlm_52k", tmp_path)
    assert len(read_jsonl(folder / "train.jsonl")) == 52_000
    assert facts["phrases_removed"]["wizardlm"] > 0


def download_model_files(name: str, mirror: Path) -> None:
    from diablo.rehearsal.models import write_model

    (source,) = CATALOG.model(name).sources
    write_model(name, load_rehearsal().models[name], mirror / source.location)


@pytest.mark.slow
@pytest.mark.parametrize("name", load_rehearsal().models)
def test_tiny_models_are_the_paper_s_in_small(name: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    download_model_files(name, tmp_path / "mirror")
    small, paper = CATALOG.model(NAME.format(name)), CATALOG.model(name)
    assert check_sources([NAME.format(name)], [], tmp_path / "mirror", tmp_path, CATALOG) == []
    download_model(NAME.format(name), tmp_path / "out", tmp_path / "mirror", tmp_path, CATALOG)
    kind = AutoModelForCausalLM if small.kind == "causal" else AutoModelForSeq2SeqLM
    model = kind.from_pretrained(tmp_path / "out")
    config = model.config
    if small.kind == "causal":
        ratio = config.num_attention_heads // config.num_key_value_heads
        assert ratio == paper.shapes.hidden // paper.shapes.kv
    assert config.tie_word_embeddings == (name in ("llama3.2-3b", "t5-base"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    text = "Kim has 3 boxes.\n\n### Response: é"
    ids = tokenizer(text).input_ids
    assert max(ids) < len(tokenizer) <= small.shapes.vocab
    assert tokenizer.eos_token_id == config.eos_token_id
    if small.kind == "causal":
        assert ids[0] == tokenizer.bos_token_id
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
    else:
        assert ids[-1] == tokenizer.eos_token_id
