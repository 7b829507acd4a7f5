"""Values between processes that do not trust each other."""

from __future__ import annotations

import collections
import contextlib
import enum
import math
import os
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diablo.scoring.sandbox.inside.plain import (
    DEPTH,
    LIMIT,
    Channel,
    Closed,
    Opaque,
    Refused,
    dump,
    load,
)

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.text(st.characters(exclude_categories=[])),
    st.binary(),
    st.fractions(),
    st.decimals(allow_nan=False),
    st.builds(range, st.integers(), st.integers(), st.integers(min_value=1)),
)
HASHABLE = st.one_of(SCALARS, st.tuples(SCALARS, SCALARS), st.frozensets(SCALARS, max_size=3))
VALUES = st.recursive(
    st.one_of(HASHABLE, st.sets(SCALARS, max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(HASHABLE, inner, max_size=3),
    ),
    max_leaves=12,
)


def same(left, right) -> bool:
    """Equal and, to every depth, of the same type: True is not 1, and 1 is not 1.0."""
    if type(left) is not type(right) or left != right:
        return False
    if isinstance(left, dict):
        return same(list(left), list(right)) and same([*left.values()], [*right.values()])
    if isinstance(left, (list, tuple)):
        return all(map(same, left, right))
    return True


@given(VALUES)
def test_values_come_back(value):
    assert same(load(dump(value)), value)


def test_special_numbers_come_back():
    assert math.isnan(load(dump(math.nan)))
    assert math.copysign(1, load(dump(-0.0))) == -1
    assert load(dump(10**100_000)) == 10**100_000
    assert load(dump(-(2**63))) == -(2**63)


class Colour(enum.IntEnum):
    RED = 1


Pair = collections.namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Colour.RED, 1),
        (Pair(1, 2), (1, 2)),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (collections.OrderedDict(a=1), {"a": 1}),
        (bytearray(b"a"), b"a"),
    ],
)
def test_a_subclass_travels_as_its_base(value, plain):
    assert same(load(dump(value)), plain)


def test_no_method_of_a_subclass_is_asked():
    class Text(str):
        def fail(self, *arguments):
            raise AssertionError("a candidate's code ran")

        __eq__ = __hash__ = __iter__ = __len__ = __str__ = encode = fail

    assert same(load(dump(Text("a"))), "a")


@pytest.mark.parametrize(
    "value",
    [
        iter([1, 2]),
        (x for x in (1, 2)),
        map(int, "12"),
        {1: 0, 2: 0}.keys(),
        collections.deque([1, 2]),
    ],
)
def test_iterators_and_views_travel_as_an_iterator(value):
    came = load(dump(value))
    assert iter(came) is came
    assert list(came) == [1, 2]


@pytest.mark.parametrize("value", [object(), print, Opaque, list, Colour, ValueError()])
def test_what_is_not_plain_is_equal_to_nothing(value):
    came = load(dump(value))
    assert isinstance(came, Opaque)
    assert type(value).__name__ in repr(came)
    assert came != value
    assert came != load(dump(value))


def test_size_and_depth_are_limited():
    deep: list = []
    for _ in range(DEPTH + 1):
        deep = [deep]
    itself: list = []
    itself.append(itself)
    for value in (
        bytes(LIMIT),
        [bytes(LIMIT // 2)] * 3,
        "x" * LIMIT,
        1 << (8 * LIMIT),
        deep,
        itself,
    ):
        with pytest.raises(Refused, match=r"a value (of more than|with more than)"):
            dump(value)
    assert len(dump(bytes(LIMIT - 5))) == LIMIT


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    with contextlib.suppress(Refused):
        load(data)


@given(VALUES, st.data())
def test_damaged_values_are_read_or_refused(value, data):
    good = bytearray(dump(value))
    good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Refused):
        load(bytes(good))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"?",
        b"i",
        b"i\0\0\0\5\1",
        b"NN",
        b"s\0\0\0\1\xff",
        b"f\0\0\0\1\0",
        b"l\xff\xff\xff\xff" + b"N" * 100,
        b"S\0\0\0\1" + dump([]),
        b"d\0\0\0\1N",
        b"d\0\0\0\2" + dump([]) + b"N",
        b"r\0\0\0\3" + dump(0) + dump(5) + dump(0),
        b"q\0\0\0\2" + dump(1) + dump(0),
        b"q\0\0\0\2" + dump("1e999999999") + dump(1),
        b"m\0\0\0\3abc",
        b"l\0\0\0\1" * (DEPTH + 2) + b"N",
    ],
)
def test_malformed_bytes_are_refused(data):
    with pytest.raises(Refused):
        load(data)


@pytest.fixture
def channels():
    ends = socket.socketpair()
    yield tuple(Channel(end.fileno()) for end in ends)
    for end in ends:
        end.close()


def test_a_channel_carries_values_in_order(channels):
    here, there = channels
    for value in (1, "two", [3.0, {4}], None):
        here.send(value)
    assert [there.receive() for _ in range(4)] == [1, "two", [3.0, {4}], None]


def test_a_channel_that_is_closed_says_so(channels):
    here, there = channels
    with socket.socket(fileno=os.dup(here.fd)) as end:
        end.shutdown(socket.SHUT_RDWR)
    with pytest.raises(Closed):
        there.receive()
    with pytest.raises(Closed):
        there.send(1)


def test_a_channel_reads_no_message_that_is_too_long(channels):
    here, there = channels
    here.send_bytes(b"")
    with pytest.raises(Refused, match="no value"):
        there.receive()
    os.write(here.fd, struct.pack(">I", LIMIT + 1))
    with pytest.raises(Refused, match="more than"):
        there.receive()
