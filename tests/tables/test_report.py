"""Captions and description of Snakemake's report, rendered as Snakemake renders them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import jinja2
import pytest
from docutils.core import publish_parts

REPORT = Path(__file__).resolve().parents[2] / "report"
CAPTIONS = sorted((REPORT / "captions").glob("*.rst"))
#: Captions of what runs on stand-ins. Speed is measured on random weights, whatever the scale; theorems
#: the audit and the schematic have neither model nor data; claims name stand-ins in each verdict.
WITHOUT = ("speed", "theorems", "audit", "schematic", "claims")
OF_EXPERIMENTS = [path for path in CAPTIONS if path.stem not in WITHOUT]
STRICT = {"report_level": 1, "halt_level": 2, "raw_enabled": False}


def render(path: Path, scale: str | None, **params: list[str]) -> str:
    """HTML of one .rst file; any warning of docutils is an error."""
    snakemake = SimpleNamespace(
        config={} if scale is None else {"scale": scale},
        params=type("Params", (dict,), {"__getattr__": dict.__getitem__})(
            {"experiment": "table1", **params}
        ),
    )
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True)
    text = environment.from_string(path.read_text(encoding="utf-8")).render(snakemake=snakemake)
    return publish_parts(text, writer="html", settings_overrides=STRICT)["html_body"]


@pytest.mark.parametrize("path", OF_EXPERIMENTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("scale", ["demo", "mini"])
def test_captions_name_stand_ins_as_they_are(path: Path, scale: str) -> None:
    html = render(path, scale, stand_ins=["A_b_ *x* stands in for C", "data_ stand in"])
    assert "A_b_ *x* stands in for C; data_ stand in" in html
    assert "do not reproduce" in html


@pytest.mark.parametrize("path", OF_EXPERIMENTS, ids=lambda path: path.stem)
def test_captions_warn_without_params_and_not_at_paper_scale(path: Path) -> None:
    assert "do not reproduce" in " ".join(render(path, None).split())
    assert "do not reproduce" not in " ".join(render(path, "paper", stand_ins=[]).split())


@pytest.mark.parametrize("path", CAPTIONS, ids=lambda path: path.stem)
def test_captions_are_short(path: Path) -> None:
    text = render(path, "demo", stand_ins=["A stands in for B"])
    assert 1 <= text.count(". ") + text.count(".\n") + text.count(".<") <= 4


@pytest.mark.parametrize("scale", ["demo", "paper"])
def test_speeds_caption_says_that_weights_are_random(scale: str) -> None:
    assert "random weights" in " ".join(render(REPORT / "captions" / "speed.rst", scale).split())


@pytest.mark.parametrize("scale", ["demo", "mini", "paper"])
def test_description(scale: str) -> None:
    html = render(REPORT / "workflow.rst", scale)
    assert f"<strong>{scale}</strong>" in html
    assert ("stand-ins" in html) == (scale != "paper")


def test_style_asks_the_network_for_nothing() -> None:
    css = (REPORT / "style.css").read_text(encoding="utf-8")
    assert "url(" not in css
    assert "@import" not in css
