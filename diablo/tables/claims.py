"""The claims' table: what the paper says, what its own numbers say, and what the reproduced ones say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from diablo.tables.latex import latex_escape
from diablo.tables.render import markdown_escape, templates

if TYPE_CHECKING:
    from diablo.claims.run import Verdict

HEADING = "The paper's claims"
READING = (
    "As printed: whether the paper's own numbers say what its text says; “within rounding” where the printed "
    "digits cannot tell, as in a tie. Reproduced: “holds” or “fails” only where a whole 95 % interval is on one "
    "side, paired over the same test examples where that can be; else “inconclusive”. An interval over examples "
    "says nothing of other seeds."
)
#: Order of the verdicts in the summary.
ORDER = (
    *("holds (as printed)", "fails (as printed)", "within rounding", "not printed in full"),
    *("no number printed", "holds", "fails", "inconclusive", "not run", "not declared yet"),
    "not tested",
)


@dataclass(frozen=True)
class Page:
    """What every format writes: the verdicts at one scale."""

    verdicts: Sequence[Verdict]
    scale: str

    heading = HEADING
    reading = READING

    @property
    def place(self) -> str:
        """Where the reproduced numbers are from."""
        return f"Reproduced numbers: scale {self.scale}, whatever tables were there"

    def summary(self, what: str) -> str:
        """`41 holds (as printed), 3 fails (as printed)`."""
        counts = Counter(getattr(one, what) for one in self.verdicts)
        return ", ".join(f"{counts[name]} {name}" for name in ORDER if counts[name])

    @property
    def stand_ins(self) -> dict[str, int]:
        """What stands in for the paper's models and data, with a number to refer to it by."""
        texts = dict.fromkeys(one.stand_ins for one in self.verdicts if one.stand_ins)
        return {text: number for number, text in enumerate(texts, start=1)}

    def verdict(self, one: Verdict) -> str:
        """A reproduced verdict, never without its stand-ins."""
        if not one.stand_ins:
            return one.reproduced
        return f"{one.reproduced}, on stand-ins ({self.stand_ins[one.stand_ins]})"

    @property
    def banner(self) -> str:
        """What the stand-ins mean; empty where there are none."""
        if not self.stand_ins:
            return ""
        listed = "; ".join(f"({number}) {text}" for text, number in self.stand_ins.items())
        return f"On stand-ins: {listed}. Such a verdict does not test the paper's claim itself."


def frame(page: Page) -> pd.DataFrame:
    """One line a claim, with everything that is known about it."""
    return pd.DataFrame(
        {
            "id": one.claim.id,
            "section": one.claim.section,
            "claim": one.claim.claim,
            "reported": one.reported,
            "reported_numbers": one.reported_text,
            "scale": page.scale,
            "reproduced": one.reproduced,
            "reproduced_numbers": one.reproduced_text,
            "evidence": one.evidence,
            "stand_in": bool(one.stand_ins),
            "stand_ins": f"on stand-ins: {one.stand_ins}; does not test the paper's claim itself"
            if one.stand_ins
            else "",
            "note": one.claim.note,
            "predicate": one.predicate,
        }
        for one in page.verdicts
    )


def to_csv(page: Page) -> str:
    """All claims with their predicates."""
    return frame(page).to_csv(index=False, lineterminator="\n")


def _lines(page: Page) -> list[list[str]]:
    """Section, claim, and both verdicts with their numbers, as people read them."""
    return [
        [
            one.claim.section,
            one.claim.claim + (f" ({one.claim.note})" if one.claim.note else ""),
            one.reported + (f": {one.reported_text}" if one.reported_text else ""),
            ": ".join(text for text in (page.verdict(one), one.reproduced_text) if text)
            + (f" ({one.evidence})" if one.evidence else ""),
        ]
        for one in page.verdicts
    ]


HEADS = ("Section", "Claim", "As printed", "Reproduced")


def to_markdown(page: Page) -> str:
    """The page as Markdown."""
    rows = [list(HEADS), ["---"] * len(HEADS)]
    rows += [[markdown_escape(text) for text in line] for line in _lines(page)]
    texts = [f"# {HEADING}", f"{page.place}.", markdown_escape(page.banner)]
    texts += [f"As printed: {page.summary('reported')}.", markdown_escape(READING)]
    texts.insert(4, f"Reproduced: {page.summary('reproduced')}.")
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return "\n\n".join(text for text in (*texts, table) if text) + "\n"


def to_html(page: Page) -> str:
    """A self-contained page: no script, no request."""
    template = templates(autoescape=True).get_template("claims.html.jinja")
    return template.render(page=page)


def to_latex(page: Page) -> str:
    """A `longtable`; needs the packages booktabs and longtable."""
    head = " & ".join(HEADS) + r" \\"
    widths = (r"p{0.06\linewidth}", *[r"p{0.28\linewidth}"] * 3)
    body = [" & ".join(map(latex_escape, line)) + r" \\" for line in _lines(page)]
    caption = latex_escape(f"{HEADING}. {page.place}. {page.banner} {READING}")
    return (
        "\n".join(
            [
                f"% {HEADING}",
                r"% Use with \usepackage{booktabs,longtable} and \input{this file}.",
                r"\begingroup\footnotesize",
                rf"\begin{{longtable}}{{{''.join(widths)}}}",
                rf"  \caption{{{caption}}}\label{{tab:claims}} \\",
                rf"  \toprule {head} \midrule \endhead",
                *(f"  {line}" for line in body),
                r"  \bottomrule",
                r"\end{longtable}",
                r"\endgroup",
            ]
        )
        + "\n"
    )


WRITERS: dict[str, Callable[[Page], str]] = {
    ".csv": to_csv,
    ".md": to_markdown,
    ".html": to_html,
    ".tex": to_latex,
}
