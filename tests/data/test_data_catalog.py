"""The catalogue: what is in it, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from diablo.data.catalog import load_catalog
from diablo.data.formats import READERS
from diablo.data.glue import READERS as GLUE_READERS
from diablo.data.instruction_formats import READERS as INSTRUCTION_READERS
from diablo.data.math_formats import READERS as MATH_READERS
from diablo.data.prepare import BUILDERS, MODEL_BUILDERS
from diablo.data.source_kinds import GithubSource, HfFileSource, PypiSource
from diablo.data.text import READERS as TEXT_READERS
from diablo.experiments import WORKFLOW

SHA = "0" * 64
GITHUB = {
    "kind": "github",
    "repo": "owner/name",
    "commit": "1" * 40,
    "path": "a/test.json",
    "sha256": SHA,
    "part": "boolq/test",
    "format": "llm-adapters",
}


def write(folder: Path, **source) -> Path:
    dataset = {
        "title": "t",
        "stand_in": None,
        "builder": "commonsense",
        "licence": "l",
        "sources": [{**GITHUB, **source}],
    }
    path = folder / "catalog.yaml"
    path.write_text(yaml.safe_dump({"models": {}, "datasets": {"d": dataset}}))
    return path


def test_every_name_in_the_catalogue_is_registered():
    catalog = load_catalog()
    assert {d.builder for d in catalog.datasets.values()} <= set(BUILDERS)
    assert {m.builder for m in catalog.models.values()} <= set(MODEL_BUILDERS)
    files = [
        source
        for dataset in catalog.datasets.values()
        for source in dataset.sources
        if isinstance(source, GithubSource | HfFileSource | PypiSource)
    ]
    known = {*READERS, *MATH_READERS, *TEXT_READERS, *INSTRUCTION_READERS, *GLUE_READERS}
    assert {source.format for source in files} <= known


def test_stand_ins_are_named_and_the_paper_s_own_data_are_not():
    datasets = load_catalog().datasets
    named = {name for name, dataset in datasets.items() if dataset.stand_in}
    sets = ("commonsense", "arithmetic", "safety", "chat", "code")
    glue = ("glue_mrpc", "glue_cola", "glue_sst2", "glue_qnli", "glue_mnli")
    generated = {f"{name}_generated" for name in (*sets, "metamath", "gsm8k", *glue)}
    mirror = {f"{name}_mirror" for name in (*sets[:-1], "codealpaca", "gsm8k")}
    # The mirror's files of CoLA and SST-2 are GLUE's own.
    mirror |= {"glue_mrpc_mirror", "glue_qnli_mirror", "glue_mnli_mirror"}
    assert named == mirror | generated


def test_no_held_out_rows_are_declared_as_training_data():
    for source in load_catalog().dataset("commonsense_mirror").sources:
        if source.repo == "kashrest/socialiqa-nlp244" or source.repo == "BunsenFeng/AbstainQA":
            assert source.part.endswith("/train")


MODELS = load_catalog().models


@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name].kind == "causal"])
def test_base_parameters_follow_from_the_widths(name):
    model = load_catalog().model(name)
    s = model.shapes
    attention = 2 * s.hidden * s.hidden + 2 * s.hidden * s.kv
    layer = attention + 3 * s.hidden * s.ffn + 2 * s.hidden
    tied = name in ("smollm2-135m", "llama3.2-3b")
    embeddings = (1 if tied else 2) * s.vocab * s.hidden
    assert s.base_parameters == embeddings + s.layers * layer + s.hidden


def test_base_parameters_of_t5_follow_from_the_widths():
    s = load_catalog().model("t5-base").shapes
    attention, forward = 4 * s.hidden * s.kv, 2 * s.hidden * s.ffn
    encoder = s.layers * (attention + forward + 2 * s.hidden)
    decoder = s.decoder_layers * (2 * attention + forward + 3 * s.hidden)
    # Tied embeddings, a norm behind each stack, and 32 buckets of relative positions a head, twice.
    assert s.base_parameters == s.vocab * s.hidden + encoder + decoder + 2 * s.hidden + 64 * s.heads


def test_what_is_unpinned_says_so():
    catalog = load_catalog()
    loose = {
        name
        for name, entry in [*catalog.models.items(), *catalog.datasets.items()]
        for source in entry.sources
        if getattr(source, "unpinned", False)
    }
    assert loose == {"llama-13b", "hexphi_330", "wizardlm_52k", "mt_bench"}


@pytest.mark.parametrize(
    ("commit", "unpinned", "gone", "said"),
    [
        ("main", False, None, "say `unpinned: true`"),
        ("2" * 40, True, None, "leave `unpinned` out"),
        ("unknown", False, None, "only a file that is `gone` may have none"),
        ("refs/../../x", True, None, "must not contain"),
        ("-x", True, None, "'-x'"),
        ("main", True, None, None),
        ("refs/convert/parquet", True, None, None),
        ("2" * 40, False, None, None),
        ("unknown", False, "taken down", None),
    ],
)
def test_a_hub_file_s_commit(tmp_path, commit, unpinned, gone, said):
    change = {"kind": "hf-file", "commit": commit, "unpinned": unpinned, "gone": gone}
    path = write(tmp_path, **change)
    if said is None:
        (source,) = load_catalog(path).dataset("d").sources
        assert source.location == Path("hf-datasets/owner/name") / commit / "a/test.json"
        return
    with pytest.raises(ValueError, match=said):
        load_catalog(path)


def test_a_package_s_data_file_has_part_and_format(tmp_path):
    dataset = yaml.safe_load((WORKFLOW / "catalog.yaml").read_text())["datasets"]["humaneval_164"]
    del dataset["sources"][0]["part"]
    path = tmp_path / "catalog.yaml"
    path.write_text(yaml.safe_dump({"models": {}, "datasets": {"d": dataset}}))
    with pytest.raises(ValueError, match="give both `part` and `format`"):
        load_catalog(path)


def test_good_entry_loads(tmp_path):
    source = load_catalog(write(tmp_path)).dataset("d").sources[0]
    assert source.location == Path("github/owner/name") / ("1" * 40) / "a/test.json"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sha": SHA}, "unknown key 'sha'; did you mean 'sha256'?"),
        ({"sha256": None}, "sha256"),
        ({"sha256": "abc"}, "'abc'"),
        ({"commit": "main"}, "'main'"),
        ({"path": "../secret"}, "must stay inside its folder"),
        ({"path": "/etc/passwd"}, "must stay inside its folder"),
        ({"part": "boolq/dev"}, "'boolq/dev'"),
        ({"kind": "ftp"}, "ftp"),
    ],
)
def test_bad_sources_are_refused(tmp_path, change, said):
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the message is checked below)
        load_catalog(write(tmp_path, **change))
    assert said in str(error.value)
    assert str(tmp_path / "catalog.yaml") in str(error.value)


def test_missing_hash_is_refused(tmp_path):
    path = write(tmp_path)
    path.write_text(path.read_text().replace(f"sha256: '{SHA}'", ""))
    with pytest.raises(ValueError, match="sha256: this key is required"):
        load_catalog(path)


@pytest.mark.parametrize(
    ("revision", "unpinned", "said"),
    [("main", False, "say `unpinned: true`"), ("2" * 40, True, "without `unpinned`")],
)
def test_revision_is_a_commit_or_plainly_unpinned(tmp_path, revision, unpinned, said):
    model = yaml.safe_load((WORKFLOW / "catalog.yaml").read_text())["models"]["llama2-7b"]
    model["sources"][0] |= {"revision": revision, "unpinned": unpinned}
    path = tmp_path / "catalog.yaml"
    path.write_text(yaml.safe_dump({"models": {"m": model}, "datasets": {}}))
    with pytest.raises(ValueError, match=said):
        load_catalog(path)


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'llama2-7b'"):
        load_catalog().model("llama2-7")
    with pytest.raises(ValueError, match="did you mean 'commonsense_8'"):
        load_catalog().dataset("comonsense_8")


def test_data_package_does_not_import_torch():
    modules = "arithmetic catalog commonsense encode exercises formats hub latex math_formats models overlap prepare reading protocol sources standins standin_tasks"
    imports = "; ".join(f"import diablo.data.{name}" for name in modules.split())
    code = (
        f"import sys; {imports}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_model_is_made_again_if_its_source_is_another() -> None:
    model = load_catalog().model("llama2-7b")
    (source,) = model.sources
    moved = source.model_copy(update={"revision": "1" * 40})
    assert model.model_copy(update={"sources": [moved]}).digest != model.digest
    assert model.model_copy(update={"title": "other", "licence": "other"}).digest == model.digest
