"""Fields of 1 to 32 bits in a stream of bytes, for NumPy and, compiled, for Numba.

A word of memory holds several codes, each in a lane of 8, 16 or 32 bits. Lanes are joined in pairs, pairs of
pairs and so on, all of a word at once:

    .....ddd.....ccc.....bbb.....aaa    8-bit lanes, 3 bits each (bits = 3, low_first; a is the first code)
    ..........dddccc..........bbbaaa    16-bit lanes, 6 bits each
    ....................dddcccbbbaaa    one lane, 12 bits

Then P joined words are shifted into the Q words of the stream that they fill. Numba is imported by `make` alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Loop = Callable[..., None] | None


def code_dtype(bits: int) -> np.dtype[Any]:
    """The smallest unsigned dtype that holds codes of a width."""
    return np.dtype(np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32)


@dataclass(frozen=True)
class Stream:
    """Fields one after the other: from the low bits of the first byte up, or, `high`, from its high bits down."""

    bits: int
    high: bool

    @cached_property
    def code(self) -> np.dtype[Any]:
        """The dtype of codes."""
        return code_dtype(self.bits)

    @property
    def period(self) -> int:
        """Fewest codes that fill whole bytes."""
        return 8 // math.gcd(8, self.bits)

    @property
    def is_copy(self) -> bool:
        """Whether codes lie in the stream as in memory, but for the order of bytes."""
        return self.bits in (8, 16, 32)

    @cached_property
    def word(self) -> int:
        """Bytes of a word of codes: of those that fill one byte where they do, else 8."""
        return self.code.itemsize if self.is_copy else self.period if 8 % self.bits == 0 else 8

    @cached_property
    def joined(self) -> int:
        """Bits that the codes of a word have together."""
        return self.bits * self.word // self.code.itemsize

    @cached_property
    def unit(self) -> int:
        """Bits of a word of the stream."""
        return self.joined if self.is_copy or self.joined == 8 else 64

    @cached_property
    def counts(self) -> tuple[int, int]:
        """P and Q: so many words of codes fill so many words of the stream."""
        common = math.gcd(self.joined, self.unit)
        return self.unit // common, self.joined // common

    @cached_property
    def group(self) -> int:
        """Codes in P words."""
        return self.counts[0] * self.word // self.code.itemsize

    def packed_size(self, count: int) -> int:
        """Bytes that `count` codes take."""
        return -(-count * self.bits // 8)

    def capacity(self, size: int) -> int:
        """Codes that `size` bytes hold."""
        return size * 8 // self.bits

    @property
    def loops(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Names of the compiled loops that pack and unpack; empty where copying does it."""
        return ((), ()) if self.is_copy else (("pack", self.bits, self.high), ("unpack", self.bits, self.high))

    def pack(self, codes: Array, out: Array, loop: Loop) -> None:
        """Fill contiguous bytes from contiguous codes of the dtype `code`."""
        whole = codes.size // self.group * self.group
        used = self.packed_size(whole)
        if whole:
            self._pack_groups(codes[:whole], out[:used], loop)
        if whole < codes.size:
            last, room = np.zeros(self.group, self.code), np.empty(self.packed_size(self.group), np.uint8)
            last[: codes.size - whole] = codes[whole:]
            self._pack_groups(last, room, None)
            out[used:] = room[: out.size - used]

    def unpack(self, packed: Array, out: Array, loop: Loop) -> None:
        """Fill contiguous codes of the dtype `code` from contiguous bytes."""
        whole = out.size // self.group * self.group
        used = self.packed_size(whole)
        if whole:
            self._unpack_groups(packed[:used], out[:whole], loop)
        if whole < out.size:
            room, last = np.zeros(self.packed_size(self.group), np.uint8), np.empty(self.group, self.code)
            rest = packed[used : self.packed_size(out.size)]
            room[: rest.size] = rest
            self._unpack_groups(room, last, None)
            out[whole:] = last[: out.size - whole]

    def _pack_groups(self, codes: Array, out: Array, loop: Loop) -> None:
        if loop is not None:
            loop(codes.view(f"u{self.word}"), out.view(f"u{self.unit // 8}"))
            return
        if self.is_copy:
            np.copyto(self._units(out), codes)
            return
        (p, q), words, units = self.counts, codes.view(f"<u{self.word}"), self._units(out)
        for step in _joiners(self):
            words = step(words)
        words, units = words.reshape(-1, p), units.reshape(-1, q)
        for i in range(q):
            np.copyto(units[:, i], _any([_shifted(words[:, j], by) for j, by in _overlaps(self, i)]), casting="unsafe")

    def _unpack_groups(self, packed: Array, out: Array, loop: Loop) -> None:
        if loop is not None:
            loop(packed.view(f"u{self.unit // 8}"), out.view(f"u{self.word}"))
            return
        if self.is_copy:
            np.copyto(out, self._units(packed))
            return
        (p, q), out = self.counts, out.view(f"<u{self.word}")
        units = self._units(packed).reshape(-1, q).astype(f"u{self.word}")
        words = np.empty((len(units), p), units.dtype)
        for j in range(p):
            words[:, j] = _any([_shifted(units[:, i], -by) for i in range(q) for k, by in _overlaps(self, i) if k == j])
        words &= words.dtype.type(2**self.joined - 1)
        words = words.reshape(-1)
        for step in _splitters(self):
            words = step(words)
        np.copyto(out, words)

    def _units(self, data: Array) -> Array:
        return data.view(f"{'>' if self.high else '<'}u{self.unit // 8}")


@dataclass(frozen=True)
class Halves:
    """Groups of 4-bit codes: byte j of a group holds code j in its low half, code j + group/2 in its high half."""

    group: int

    bits = 4
    code = np.dtype(np.uint8)

    @property
    def period(self) -> int:
        """Fewest codes that fill whole bytes."""
        return self.group

    @property
    def is_copy(self) -> bool:
        """Never."""
        return False

    def packed_size(self, count: int) -> int:
        """Bytes that `count` codes take: those of whole groups."""
        return -(-count // self.group) * (self.group // 2)

    def capacity(self, size: int) -> int:
        """Codes that `size` bytes hold."""
        return 2 * size

    @property
    def loops(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Names of the compiled loops; none for unusual groups, of which each would need its own."""
        if self.group not in (16, 32):
            return (), ()
        return ("pack_halves", self.group), ("unpack_halves", self.group)

    def pack(self, codes: Array, out: Array, loop: Loop) -> None:
        """Fill contiguous bytes from contiguous codes; a last group is filled up with zeros."""
        missing = -codes.size % self.group
        if missing:
            codes = np.concatenate([codes, np.zeros(missing, np.uint8)])
        halves, low = self._words(codes, 2), self._words(out, 1)
        if loop is not None:
            loop(halves, low)
            return
        mask = self._mask()
        np.copyto(low[:, 0], (halves[:, 0] & mask) | ((halves[:, 1] & mask) << mask.dtype.type(4)))

    def unpack(self, packed: Array, out: Array, loop: Loop) -> None:
        """Fill contiguous codes from contiguous bytes of whole groups."""
        missing = -out.size % self.group
        room = np.empty(out.size + missing, np.uint8) if missing else out
        halves, low = self._words(room, 2), self._words(packed, 1)
        if loop is not None:
            loop(low, halves)
        else:
            mask = self._mask()
            np.bitwise_and(low[:, 0], mask, out=halves[:, 0])
            np.bitwise_and(low[:, 0] >> mask.dtype.type(4), mask, out=halves[:, 1])
        if missing:
            out[:] = room[: out.size]

    @property
    def word(self) -> int:
        """Bytes of a word: 8 where they fill the half of a group."""
        return 8 if self.group % 16 == 0 else 1

    def _words(self, data: Array, halves: int) -> Array:
        return data.view(f"u{self.word}").reshape(-1, halves, self.group // 2 // self.word)

    def _mask(self) -> Any:
        return np.dtype(f"u{self.word}").type(0x0F0F0F0F0F0F0F0F & (256**self.word - 1))


def _shifted(x: Array, by: int) -> Array:
    return x << x.dtype.type(by) if by > 0 else x >> x.dtype.type(-by) if by < 0 else x


def _any(parts: list[Array]) -> Array:
    result = parts[0]
    for part in parts[1:]:
        result = result | part
    return result


@lru_cache(maxsize=1024)
def _overlaps(stream: Stream, i: int) -> tuple[tuple[int, int], ...]:
    """Which words of codes have bits in word i of the stream, and how far left they move into it."""
    b, u = stream.joined, stream.unit
    words = range(i * u // b, ((i + 1) * u - 1) // b + 1)
    return tuple((j, (i + 1) * u - (j + 1) * b if stream.high else j * b - i * u) for j in words)


# Lanes of a word

Step = Callable[[Any], Any]


@lru_cache(maxsize=128)
def _constants(stream: Stream) -> tuple[tuple[Any, Any, Any, Any], ...]:
    """For each joining: the mask of even lanes, how far they move up, odd lanes down, and the mask of the latter."""
    scalar, constants, width = np.dtype(f"u{stream.word}").type, [], 8 * stream.code.itemsize
    for level in range((stream.word // stream.code.itemsize).bit_length() - 1):
        lane, field = width << level, stream.bits << level
        even = sum((2**field - 1) << at for at in range(0, 8 * stream.word, 2 * lane))
        up, down = (field, lane) if stream.high else (0, lane - field)
        constants.append((scalar(even), scalar(up), scalar(down), scalar(even << (field - up))))
    return tuple(constants)


def _joiners(stream: Stream) -> list[Step]:
    """Functions that halve the number of lanes, first to last: of arrays of words, or, compiled, of a word."""

    def joiner(even: Any, up: Any, down: Any, odd: Any) -> Step:
        def join(word: Any) -> Any:
            return ((word & even) << up) | ((word >> down) & odd)

        def join_low(word: Any) -> Any:
            return (word & even) | ((word >> down) & odd)

        return join if up else join_low

    return [joiner(*constants) for constants in _constants(stream)]


def _splitters(stream: Stream) -> list[Step]:
    """Functions that undo those of `_joiners`, last to first."""

    def splitter(even: Any, up: Any, down: Any, odd: Any) -> Step:
        def split(word: Any) -> Any:
            return ((word >> up) & even) | ((word & odd) << down)

        def split_low(word: Any) -> Any:
            return (word & even) | ((word & odd) << down)

        return split if up else split_low

    return [splitter(*constants) for constants in reversed(_constants(stream))]


# Compiled loops

ROOM = 512  # joined words that wait to be shifted: 4 KiB


def make(kind: str, *options: Any) -> Any:
    """The loop of a name; compiled on first use, or loaded from disk."""
    from numba import njit

    from .disk_cache import enable

    makers: dict[str, Callable[..., Any]] = {
        "pack": _pack_loop,
        "unpack": _unpack_loop,
        "pack_halves": _pack_halves_loop,
        "unpack_halves": _unpack_halves_loop,
    }
    loop = njit(nogil=True, error_model="numpy")(makers[kind](*options))
    return enable(loop, "_".join(str(part) for part in ("packing", kind, *options)))


def _inner(function: Any, *name: Any) -> Any:
    """The function as one that a loop calls, under a name that no function of other code has.

    Cached loops bring the functions that they call with them, and of several of one symbol all get the first;
    Numba's own symbols are unique in a process only, closures of one function being numbered as they are made.
    """
    from numba import njit

    function.__qualname__ = "_".join(str(part) for part in ("packing", *name))
    return njit(nogil=True, error_model="numpy")(function)


def _inline(function: Any) -> Any:
    """The function as one that becomes part of a loop."""
    from numba import njit

    return njit(forceinline=True, error_model="numpy")(function)


def _each(steps: list[Step]) -> Any:
    """A loop that does at most three steps to each word; LLVM makes vector instructions of it."""
    same = _inline(lambda word: word)
    first, second, third = [_inline(step) for step in steps] + [same] * (3 - len(steps))

    def each(words: Any, out: Any) -> None:
        for i in range(words.size):
            out[i] = third(second(first(words[i])))

    return each


def _swap_bytes(word: Any) -> Any:
    """A 64-bit word with its bytes in the opposite order; LLVM knows the idiom."""
    result = (word & _LAST) << _SHIFTS[7]
    result |= (word & (_LAST << _SHIFTS[1])) << _SHIFTS[5]
    result |= (word & (_LAST << _SHIFTS[2])) << _SHIFTS[3]
    result |= (word & (_LAST << _SHIFTS[3])) << _SHIFTS[1]
    result |= (word >> _SHIFTS[1]) & (_LAST << _SHIFTS[3])
    result |= (word >> _SHIFTS[3]) & (_LAST << _SHIFTS[2])
    result |= (word >> _SHIFTS[5]) & (_LAST << _SHIFTS[1])
    return result | (word >> _SHIFTS[7])


_LAST, _SHIFTS = np.uint64(0xFF), tuple(np.uint64(8 * i) for i in range(8))


def _pack_loop(bits: int, high: bool) -> Any:
    """Joins words and, where they are not bytes of the stream then, shifts groups of P of them into Q.

    All shifts are constants once LLVM has unrolled the loop over P.
    """
    stream = Stream(bits, high)
    (p, q), b, u = stream.counts, stream.joined, stream.unit
    if q == 1:
        return _each(_joiners(stream))
    join = _inner(_each(_joiners(stream)), "join", bits, high)
    swap, u64, zero = _inline(_swap_bytes), np.uint64, np.uint64(0)

    def shift(joined: Any, units: Any) -> None:
        for k in range(units.shape[0]):
            unit = zero
            for j in range(p):
                word, at = joined[k, j], (j * b) % u
                over = at + b - u  # bits that belong to the next word of the stream
                if not high:
                    unit |= word << u64(at)
                elif over <= 0:
                    unit |= word << u64(-over)
                else:
                    unit |= word >> u64(over)
                if over >= 0:
                    units[k, (j * b) // u] = swap(unit) if high else unit
                    unit = zero
                if over > 0:
                    unit = word << u64(u - over) if high else word >> u64(u - at)

    shift, count = _inner(shift, "shift_into_stream", bits, high), ROOM // p

    def pack(words: Any, units: Any) -> None:
        words, units, room = words.reshape(-1, p), units.reshape(-1, q), np.empty((count, p), np.uint64)
        for start in range(0, units.shape[0], count):
            part = units[start : start + count]
            joined = room[: part.shape[0]]
            join(words[start : start + count].reshape(-1), joined.reshape(-1))
            shift(joined, part)

    return pack


def _unpack_loop(bits: int, high: bool) -> Any:
    """Undoes what the loop of `_pack_loop` does."""
    stream = Stream(bits, high)
    (p, q), b, u = stream.counts, stream.joined, stream.unit
    if q == 1:
        return _each(_splitters(stream))
    split = _inner(_each(_splitters(stream)), "split", bits, high)
    swap, u64, mask = _inline(_swap_bytes), np.uint64, np.uint64(2**b - 1)

    def shift(units: Any, joined: Any) -> None:
        for k in range(units.shape[0]):
            for j in range(p):
                at, i = (j * b) % u, (j * b) // u
                over = at + b - u
                unit = swap(units[k, i]) if high else units[k, i]
                if not high:
                    word = unit >> u64(at)
                elif over <= 0:
                    word = unit >> u64(-over)
                else:
                    word = unit << u64(over)
                if over > 0:
                    unit = swap(units[k, i + 1]) if high else units[k, i + 1]
                    word |= unit >> u64(u - over) if high else unit << u64(u - at)
                joined[k, j] = word & mask

    shift, count = _inner(shift, "shift_out_of_stream", bits, high), ROOM // p

    def unpack(units: Any, words: Any) -> None:
        words, units, room = words.reshape(-1, p), units.reshape(-1, q), np.empty((count, p), np.uint64)
        for start in range(0, units.shape[0], count):
            part = units[start : start + count]
            joined = room[: part.shape[0]]
            shift(part, joined)
            split(joined.reshape(-1), words[start : start + count].reshape(-1))

    return unpack


def _pack_halves_loop(group: int) -> Any:
    halves = Halves(group)
    mask, four, count = halves._mask(), np.uint64(4), group // 2 // halves.word

    def pack(codes: Any, low: Any) -> None:
        for k in range(low.shape[0]):
            for j in range(count):
                low[k, 0, j] = (codes[k, 0, j] & mask) | ((codes[k, 1, j] & mask) << four)

    return pack


def _unpack_halves_loop(group: int) -> Any:
    halves = Halves(group)
    mask, four, count = halves._mask(), np.uint64(4), group // 2 // halves.word

    def unpack(low: Any, codes: Any) -> None:
        for k in range(low.shape[0]):
            for j in range(count):
                word = low[k, 0, j]
                codes[k, 0, j] = word & mask
                codes[k, 1, j] = (word >> four) & mask

    return unpack
