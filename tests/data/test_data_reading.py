"""What each kind of reading takes from a text, and what it counts as right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diablo.data.latex import boxed, equal, normalise
from diablo.data.protocol import load_protocol
from diablo.data.reading import Label, Latex, Letter, Number, Rounded, Whole, reading

PHRASE = "The answer is: "


@pytest.mark.parametrize(
    ("completion", "last", "behind", "rounded"),
    [
        ("The answer is: 18", "18", "18", "18"),
        ("The answer is: 18.", "18.", "18.", "18"),
        ("The answer is: $1,234 in 2 years", "2", "1234", "1234"),
        ("The answer is: 3, no. The answer is: 4", "4", "4", "4"),
        ("The answer is: -2.5", "-2.5", "-2.5", "-2"),
        ("The answer is: 7/2", "2", "7", "4"),
        ("The answer is: 7/0", "0", "7", "7"),
        ("The answer is: .75", "75", "75", "1"),
        ("The answer is: /5", "5", "5", None),
        ("The answer is: none", None, None, None),
        ("3 + 4 = 7", "7", None, None),
        ("the answer is 7", "7", None, None),
        ("", None, None, None),
    ],
)
def test_three_ways_to_read_a_number(completion, last, behind, rounded):
    assert Number().extract("1 prompt", completion) == last
    assert Number(phrase=PHRASE).extract("1 prompt", completion) == behind
    assert Rounded(phrase=PHRASE).extract("1 prompt", completion) == rounded


def test_numbers_are_right_within_a_thousandth():
    number = Number()
    assert number.correct("576.", "576.0")
    assert number.correct("1.8333", "1.8333333333333335")
    assert number.correct("1.0009", "1.0")
    assert not number.correct("1.0011", "1.0")
    assert not number.correct(None, "1.0")
    huge = "9" * 6000
    assert not number.correct(huge, "1")
    assert not number.correct(huge, huge)
    assert Rounded(phrase=PHRASE).extract("", PHRASE + huge) is None


def test_an_answer_that_can_never_be_read_is_refused_unless_the_reading_says_never():
    assert Number().refusal("A") == "is not a number"
    fallback = Number(phrase=PHRASE, else_last=True)
    assert fallback.extract("1 prompt", f"2 {PHRASE}3 4") == "3"
    assert fallback.extract("1 prompt", "2 or 4") == "4"
    assert fallback.extract("1 prompt", "none") == "1"
    assert Number().refusal("inf") == "is not a number"
    assert Number().refusal("-1.5") is None
    never = Number(any_answer=True)
    assert never.refusal("A") is None
    assert not never.correct(never.extract("", "the answer is 3"), "A")
    assert Letter().refusal("F") == "is not one of A, B, C, D, E"
    assert Letter().refusal("AB") is not None
    assert Letter().refusal("E") is None


@pytest.mark.parametrize(
    ("completion", "first", "last_alone"),
    [
        ("The answer is: C", "C", "C"),
        ("Each costs 3. The answer is (B).", "E", "B"),
        ("Answer: D", "A", "D"),
        ("A) 3 is less than B) 4, so B", "A", "B"),
        ("CD", "C", None),
        ("f", None, None),
    ],
)
def test_letters(completion, first, last_alone):
    assert Letter().extract("A B C", completion) == first
    assert Letter(alone=True, last=True).extract("A B C", completion) == last_alone


@pytest.mark.parametrize(
    ("completion", "found"),
    [
        (r"The answer is: \frac{3}{4}", r"\frac{3}{4}"),
        ("The answer is: 3.\nNext", "3"),
        ("The answer is: 3.5.", "3.5"),
        ("The answer is: 3\nNext", "3\nNext"),  # only a stop ends it
        ("The answer is: 2. The answer is: 5", "5"),
        ("The answer is:", None),
        ("The answer is: ", None),
        ("3", None),
    ],
)
def test_latex_behind_the_phrase(completion, found):
    assert Latex().extract("", completion) == found


def test_parts_of_the_text():
    whole = Number(text="prompt+completion", after="### Response:")
    assert whole.extract("5\n### Response: ", "six") is None
    assert whole.extract("5\n### Response: ", "6 ### Response: 7") == "7"
    assert whole.extract("5", "six") == "5"
    assert Number(until="### Response:").extract("", "6 ### Response: 7") == "6"


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"$\boxed{\frac{3}{4}}$", r"\frac{3}{4}"),
        (r"\boxed{1} and \fbox{x^{2}}", "x^{2}"),
        (r"is $\boxed 5$.", "5"),
        (r"\boxed{\text{if } x}", r"\text{if } x"),
        (r"\boxed{1", None),
        ("5", None),
    ],
)
def test_boxed(text, content):
    assert boxed(text) == content


@given(st.text(st.sampled_from(list(r"\frac sqrt{}0123456789/.^=x%$")), max_size=40))
def test_normalising_never_fails_and_spaces_do_not_matter(text):
    normalise(text)
    assert equal(text, text)
    assert " " not in normalise(text)
    assert boxed(f"\\boxed{{{text}}}") is not None or text.count("{") != text.count("}")


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match=r"unknown extraction kind 'numbers'; valid: .*number"):
        reading({"kind": "numbers"})
    assert reading({"kind": "number", "phrase": "is "}) == Number(phrase="is ")


GLUE = load_protocol("glue", "paper").labels


@pytest.mark.parametrize(
    ("task", "completion", "read"),
    [
        ("cola", "acceptable", "acceptable"),
        ("cola", "unacceptable", "unacceptable"),
        ("cola", " \n unacceptable</s>", "unacceptable"),
        ("cola", "un acceptable", None),
        ("cola", "it is acceptable", None),
        ("cola", "acceptable, not unacceptable", "acceptable"),
        ("cola", "acceptably", None),
        ("cola", "Acceptable", None),
        ("qnli", "entailment", "entailment"),
        ("qnli", "not_entailment", "not_entailment"),
        ("qnli", "not entailment", None),
        ("qnli", "entailment_", None),
        ("mnli", "neutral.", "neutral"),
        ("mnli", "contradiction\nresult: entailment", "contradiction"),
        ("mrpc", "", None),
    ],
)
def test_labels_at_the_start(task, completion, read):
    label = Label(labels=GLUE[task], start=True)
    assert label.extract("result: acceptable", completion) == read
    assert [label.correct(read, gold) for gold in GLUE[task]] == [
        read == gold for gold in GLUE[task]
    ]


@pytest.mark.parametrize("task", GLUE)
def test_no_label_is_read_as_another(task):
    protocol = load_protocol("glue", "paper")
    for label in protocol.labels[task]:
        assert protocol.extract(task, "", label) == label
        assert protocol.extract(task, "", f" {label} {protocol.labels[task][0]}") == label


@given(st.text(max_size=30))
def test_the_whole_text_is_itself_and_never_right_or_wrong(text):
    assert reading({"kind": "whole"}).extract("prompt", text) == text
    assert Whole(text="prompt+completion").extract("prompt", text) == "prompt" + text
    assert Whole().refusal("") is None
    with pytest.raises(TypeError, match="judged by its suite's scorer"):
        Whole().correct(text, text)
