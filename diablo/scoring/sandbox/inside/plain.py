"""Plain values as bytes, and a channel that carries them between processes that do not trust each other.

Reading bytes runs no code of whoever wrote them: there are numbers, texts, containers and nothing
else. A value of a subclass travels as its plain base (a `Counter` as a dict), so no method that a
candidate wrote, `__eq__` above all, ever reaches the process that judges it.
"""

from __future__ import annotations

import os
import struct
import sys
from itertools import chain

# Not `typing`, whose import would take longer than most candidates (type checkers know the name).
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

#: Bytes of one value; an answer that is larger is refused on both sides.
LIMIT = 2**20
#: Containers in containers.
DEPTH = 100
_LENGTH = struct.Struct(">I")


class Refused(ValueError):
    """A value that does not travel, or bytes that are no value."""


class Closed(Exception):
    """The other end of a channel is gone."""


class Opaque:
    """Stands for a value that is not plain: equal to nothing but itself, without any behaviour."""

    def __init__(self, kind: str):
        self.kind = kind

    def __repr__(self) -> str:
        return f"<a value of type {self.kind!r}>"


def _integers(make: Callable[..., Any]) -> Callable[[list], Any]:
    """`make(*items)` of whole numbers only: Fraction would read a text of any size, too."""

    def build(items: list) -> Any:
        if any(type(item) is not int for item in items):
            raise Refused("a range or fraction has whole numbers")
        return make(*items)

    return build


def _fraction(numerator: int, denominator: int) -> Any:
    from fractions import Fraction

    return Fraction(numerator, denominator)


def _decimal(payload: bytes) -> Any:
    from decimal import Decimal

    return Decimal(payload.decode("ascii"))


def _pairs(items: list) -> dict:
    return dict(zip(items[::2], items[1::2], strict=True))


#: Tag -> (type, value -> payload). The methods are the base class's own, whatever a subclass says.
_LEAVES: dict[bytes, tuple[type | tuple[type, ...], Callable[[Any], bytes]]] = {
    b"i": (int, lambda v: int.to_bytes(v, int.bit_length(v) // 8 + 1, "big", signed=True)),
    b"f": (float, lambda v: struct.pack(">d", v)),
    b"c": (complex, lambda v: struct.pack(">dd", v.real, v.imag)),
    b"s": (str, lambda v: str.encode(v, "utf-8", "surrogatepass")),
    b"b": ((bytes, bytearray), bytes),
}
_READ_LEAF: dict[bytes, Callable[[bytes], Any]] = {
    b"i": lambda p: int.from_bytes(p, "big", signed=True),
    b"f": lambda p: struct.unpack(">d", p)[0],
    b"c": lambda p: complex(*struct.unpack(">dd", p)),
    b"s": lambda p: p.decode("utf-8", "surrogatepass"),
    b"b": bytes,
    b"m": _decimal,
    b"o": lambda p: Opaque(p.decode("utf-8", "surrogatepass")),
}
#: Tag -> (type, value -> items).
_CONTAINERS: dict[bytes, tuple[type, Callable[[Any], Iterable]]] = {
    b"l": (list, list.__iter__),
    b"t": (tuple, tuple.__iter__),
    b"S": (set, set.__iter__),
    b"z": (frozenset, frozenset.__iter__),
    b"d": (dict, lambda v: chain.from_iterable(dict.items(v))),
    b"r": (range, lambda v: (v.start, v.stop, v.step)),
}
_READ_CONTAINER: dict[bytes, Callable[[list], Any]] = {
    b"l": list,
    b"t": tuple,
    b"S": set,
    b"z": frozenset,
    b"d": _pairs,
    b"r": _integers(range),
    b"q": _integers(_fraction),
    b"I": iter,
}
_CONSTANTS: dict[bytes, Any] = {b"N": None, b"T": True, b"F": False}


def dump(value: Any) -> bytes:
    """The bytes of a value.

    Iterators and views become an iterator over their items; what is not plain becomes its type's name.

    Raises:
        Refused: if the value is larger than `LIMIT` or deeper than `DEPTH`.
    """
    out = bytearray()
    _write(value, out, 0)
    if len(out) > LIMIT:
        raise Refused(f"a value of more than {LIMIT} bytes")
    return bytes(out)


def _write(value: Any, out: bytearray, depth: int) -> None:
    if depth > DEPTH:
        raise Refused(f"a value with more than {DEPTH} containers in each other")
    for tag, constant in _CONSTANTS.items():
        if value is constant:
            out += tag
            return
    for tag, (kind, payload) in _LEAVES.items():
        if isinstance(value, kind):
            _leaf(tag, payload(value), out)
            return
    for tag, (kind, items) in _CONTAINERS.items():
        if isinstance(value, kind):
            _container(tag, items(value), out, depth)
            return
    # Not imported for this: who has such a value has the module.
    fractions, decimal = sys.modules.get("fractions"), sys.modules.get("decimal")
    if fractions is not None and isinstance(value, fractions.Fraction):
        _container(b"q", (value.numerator, value.denominator), out, depth)
    elif decimal is not None and isinstance(value, decimal.Decimal):
        _leaf(b"m", decimal.Decimal.__str__(value).encode("ascii"), out)
    elif not isinstance(value, type) and _iterable(value):
        _container(b"I", value, out, depth)
    else:
        _leaf(b"o", type(value).__name__.encode("utf-8", "surrogatepass"), out)


def _iterable(value: Any) -> bool:
    return hasattr(value, "__next__") or (hasattr(value, "__iter__") and hasattr(value, "__len__"))


def _leaf(tag: bytes, payload: bytes, out: bytearray) -> None:
    if len(payload) > LIMIT:
        raise Refused(f"a value of more than {LIMIT} bytes")
    out += tag + _LENGTH.pack(len(payload)) + payload


def _container(tag: bytes, items: Iterable, out: bytearray, depth: int) -> None:
    out += tag
    place = len(out)
    out += _LENGTH.pack(0)
    count = 0
    for item in items:
        _write(item, out, depth + 1)
        count += 1
        # An iterator may have no end.
        if len(out) > LIMIT:
            raise Refused(f"a value of more than {LIMIT} bytes")
    _LENGTH.pack_into(out, place, count)


def load(data: bytes) -> Any:
    """The value of the bytes that `dump` made, whoever made them.

    Raises:
        Refused: if they are no value, or one that Python cannot hold (a list in a set).
    """
    try:
        value, end = _read(data, 0, 0)
    except Refused:
        raise
    except Exception as error:
        raise Refused(f"no value: {type(error).__name__}") from None
    if end != len(data):
        raise Refused("bytes behind a value")
    return value


def _read(data: bytes, place: int, depth: int) -> tuple[Any, int]:
    if depth > DEPTH:
        raise Refused(f"a value with more than {DEPTH} containers in each other")
    tag = data[place : place + 1]
    place += 1
    if tag in _CONSTANTS:
        return _CONSTANTS[tag], place
    (length,) = _LENGTH.unpack_from(data, place)
    place += _LENGTH.size
    if tag in _READ_LEAF:
        if place + length > len(data):
            raise Refused("a value that is cut off")
        return _READ_LEAF[tag](data[place : place + length]), place + length
    build = _READ_CONTAINER[tag]
    items = []
    for _ in range(length):
        item, place = _read(data, place, depth + 1)
        items.append(item)
    return build(items), place


class Channel:
    """One end of a stream socket, by its file descriptor: each message is a length and a plain value."""

    def __init__(self, fd: int):
        self.fd = fd

    def send(self, value: Any) -> None:
        """Send a value.

        Raises:
            Refused: as `dump`; nothing is sent then.
            Closed: if nobody reads.
        """
        self.send_bytes(dump(value))

    def send_bytes(self, data: bytes) -> None:
        """Send what `dump` made of a value."""
        rest = memoryview(_LENGTH.pack(len(data)) + data)
        try:
            while rest:
                rest = rest[os.write(self.fd, rest) :]
        except OSError:
            raise Closed from None

    def receive(self) -> Any:
        """The next value.

        Raises:
            Refused: if what came is none.
            Closed: if nothing comes any more.
        """
        (length,) = _LENGTH.unpack(self._bytes(_LENGTH.size))
        if length > LIMIT:
            raise Refused(f"a value of more than {LIMIT} bytes")
        return load(self._bytes(length))

    def _bytes(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            try:
                part = os.read(self.fd, min(count - len(data), 2**16))
            except OSError:
                raise Closed from None
            if not part:
                raise Closed
            data += part
        return bytes(data)

    def close(self) -> None:
        os.close(self.fd)
