"""Where a completion ends: its text, why it ended, and when it may end early at its answer.

A protocol that reads the FIRST label of a completion has its answer as soon as that label is there:
more tokens cannot change what is read, only what is stored. `StopAtAnswer` holds where that is
certain. Nothing here imports torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from diablo.data.protocol import Decoding, Protocol
from diablo.data.reading import Label, Reading

#: Steps of a tokenizer's decoder that never change text which is already there; ByteFallback does
#: within a run of byte tokens (see `StopAtAnswer`).
STEADY = {"ByteLevel", "Metaspace", "ByteFallback", "Fuse", "Replace", "Strip"}

#: A token that stands for one byte, in vocabularies with byte fallback.
BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


def text_of(tokenizer: Any, ids: list[int], decoding: Decoding) -> str:
    """The completion's text, cut before the first stop string."""
    return _cut(tokenizer.decode(ids, skip_special_tokens=True), decoding)


def _cut(text: str, decoding: Decoding) -> str:
    places = [place for stop in decoding.stop if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else text


class StopAtAnswer:
    """Says when a completion has its answer and may end; `of` says whether that can be said.

    Args:
        tokenizer: decodes the new ids.
        decoding: its stop strings cut the text.
    """

    def __init__(self, tokenizer: Any, decoding: Decoding):
        self._tokenizer, self._decoding = tokenizer, decoding
        # A run of byte tokens is decoded together: one more can turn all of it into U+FFFD.
        self._bytes = {
            number for token, number in tokenizer.get_vocab().items() if BYTE.fullmatch(token)
        }

    @classmethod
    def of(
        cls, tokenizer: Any, decoding: Decoding, protocol: Protocol, tasks: Iterable[str]
    ) -> StopAtAnswer | None:
        """Where the answer of every task is final as soon as it is read.

        None where it is not: beams (another one may win later), a protocol that reads anything but the
        first label of the completion alone (the last number, say, may still come; a program or a reply
        is scored whole), labels or stop strings that overlap, or a tokenizer whose decoder may rewrite
        earlier text.
        """
        safe = (
            decoding.num_beams == 1
            and protocol.scorer == "lm-eval"
            and all(_first_label(protocol.reading(task), decoding) for task in tasks)
            and steady(tokenizer)
        )
        return cls(tokenizer, decoding) if safe else None

    def __call__(self, ids: list[int], labels: Sequence[str]) -> bool:
        """Whether the text of the new `ids` holds one of `labels` for good."""
        if self._bytes.intersection(ids):
            return False
        text = text_of(self._tokenizer, ids, self._decoding)
        return any(label in text for label in labels)


def _first_label(reading: Reading, decoding: Decoding) -> bool:
    """Whether the reading takes the first label of the completion, and that one stays the first."""
    if not isinstance(reading, Label) or reading != Label(labels=reading.labels):
        return False
    return final(reading.labels, decoding.stop)


def final(labels: Sequence[str], stops: Sequence[str]) -> bool:
    """Whether the first label in a text stays the first one, however the text goes on.

    A later match could only win by starting before the end of the present one and ending after it:
    it would hold that label in itself, or be a stop string that begins in it. Both are refused.
    Letters and digits alone, so that neither unfinished UTF-8 nor spacing touches a label.
    """
    for label in labels:
        if not (label.isascii() and label.isalnum()):
            return False
        if any(label in other for other in labels if other != label):
            return False
        for stop in stops:
            starts = [stop[:end] for end in range(1, len(stop))]
            if any(label.endswith(start) or start.endswith(label) for start in starts):
                return False
    return True


def steady(tokenizer: Any) -> bool:
    """Whether decoding more ids only adds to the text (but for byte tokens and unfinished UTF-8)."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return False
    if tokenizer.clean_up_tokenization_spaces and type(backend.model).__name__ != "BPE":
        return False  # transformers cleans up no BPE
    decoder = json.loads(backend.to_str())["decoder"]
    if decoder is None:
        return True
    steps = decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
    return all(
        step["type"] in STEADY
        and (step["type"] != "Replace" or step["pattern"] == {"String": "▁"})
        and (step["type"] != "Strip" or step["stop"] == 0)
        for step in steps
    )


def finished(
    tokenizer: Any, ids: list[int], decoding: Decoding, at_answer: bool = False
) -> tuple[str, str]:
    """(text, why it ended) of a completion's ids without the end-of-sequence id.

    Why: "answer" (`at_answer`: it was ended early), "stop" (a stop string, cut away), "length" (all
    new tokens used) or "eos".
    """
    whole = tokenizer.decode(ids, skip_special_tokens=True)
    text = _cut(whole, decoding)
    if at_answer:
        return text, "answer"
    if len(text) < len(whole):
        return text, "stop"
    return text, "length" if len(ids) >= decoding.max_new_tokens else "eos"
