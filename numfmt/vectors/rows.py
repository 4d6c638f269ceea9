"""Rows of a vector file: what fields a row has, and chunks of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .functions import Function, Rules

Array = npt.NDArray[Any]

FLAG_BITS = 5  # invalid, division by zero, overflow, underflow, inexact
FLAG_DIGITS = 2  # as TestFloat writes them


class Sink(Protocol):
    """What rows are written to: a binary stream, or something that counts on the way to one."""

    def write(self, data: bytes | memoryview, /) -> int:
        """Write bytes."""


class VectorFileError(ValueError):
    """A vector file that is not what it claims: one line that names the file, the line and what is wrong."""

    def __init__(self, path: str | os.PathLike[str], line: int | None, why: str) -> None:
        name = os.fspath(path)
        where = ["stdin" if name == "-" else name] + ([] if line is None else [f"line {line}"])
        super().__init__(": ".join([*where, " ".join(why.split())]))
        self.path, self.line, self.why = name, line, why


@dataclass(frozen=True)
class Field:
    """A field of a row: `count` codes of `bits` bits."""

    name: str
    role: str  # operand, random, result or flags
    bits: int
    count: int = 1
    is_matrix: bool = False  # a column is (n, count), of blocks and of operands of dots

    def shape(self, n: int) -> tuple[int, ...]:
        """Shape of a column of n rows."""
        return (n, self.count) if self.is_matrix else (n,)

    @property
    def digits(self) -> int:
        """Hexadecimal digits of a code."""
        return FLAG_DIGITS if self.role == "flags" else -(-self.bits // 4)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of a column: the smallest unsigned one; object beyond 64 bits."""
        for bits in (8, 16, 32, 64):
            if self.bits <= bits:
                return np.dtype(f"uint{bits}")
        return np.dtype(object)

    def zeros(self, n: int) -> Array:
        """A column of n rows of zeros."""
        return np.zeros(self.shape(n), self.dtype)

    def column(self, n: int) -> Array:
        """A column of n rows, not filled."""
        return np.empty(self.shape(n), self.dtype)


def fields_of(function: Function, rules: Rules) -> tuple[Field, ...]:
    """The fields of a row, in the order of the file: operands, random numbers, results, flags."""
    shapes = zip(function.operand_names, function.operand_widths, function.operand_sizes, strict=True)
    block, unit = function.operation == "encode_block", function.operation == "unit_dot"
    long = function.is_long
    made = [Field(name, "operand", bits, count, long and name != "c") for name, bits, count in shapes]
    if rules.random_bits and function.rounds:
        made.append(Field("random", "random", rules.random_bits, random_count(function), block or unit))
    made += [Field(name, "result", bits, count, block) for name, _, bits, count in function.result_parts]
    if function.has_flags:
        made.append(Field("flags", "flags", FLAG_BITS))
    return tuple(made)


def random_count(function: Function) -> int:
    """Random numbers a row takes: one, or one an element of a block, or one a rounding of a unit."""
    if function.operation == "unit_dot":
        from .unit_functions import drawn

        return drawn(function)
    return function.size if function.operation == "encode_block" else 1


@dataclass
class Rows:
    """A chunk of rows.

    Attributes:
        operands: one array a column, of n codes or (n, K).
        results: n codes, or (n, S + K) for blocks: scales, then elements; None where only operands are known.
        flags: uint8, or None.
        random: random numbers of stochastic rounding, n or (n, K), or None.
        lines: line number of each row in the file it was read from, or None.
        function, rules: where a file says them line by line (IBM .fptest).
    """

    operands: list[Array]
    results: Array | None = None
    flags: Array | None = None
    random: Array | None = None
    lines: Array | None = None
    function: Function | None = None
    rules: Rules | None = None

    def __len__(self) -> int:
        return len(self.operands[0])

    def take(self, index: Any) -> Rows:
        """The rows of an index array or slice."""

        def part(column: Array | None) -> Array | None:
            return None if column is None else column[index]

        return replace(
            self, operands=[column[index] for column in self.operands], results=part(self.results),
            flags=part(self.flags), random=part(self.random), lines=part(self.lines),
        )  # fmt: skip


def columns_of(rows: Rows, fields: Sequence[Field]) -> list[Array]:
    """One array a field, of the field's dtype."""
    operands = iter(rows.operands)
    made: list[Array] = []
    start = 0
    for one in fields:
        if one.role == "operand":
            column = next(operands)
        elif one.role == "random":
            assert rows.random is not None
            column = rows.random
        elif one.role == "flags":
            assert rows.flags is not None
            column = rows.flags
        else:
            assert rows.results is not None
            column = rows.results
            if column.ndim == 2:
                column = column[:, start : start + one.count]
                start += one.count
        made.append(column.reshape(one.shape(len(rows))).astype(one.dtype, copy=False))
    return made


def rows_of(columns: Sequence[Array], fields: Sequence[Field], lines: Array | None = None) -> Rows:
    """The chunk that columns hold."""
    named: dict[str, list[Array]] = {"operand": [], "random": [], "result": [], "flags": []}
    for one, column in zip(fields, columns, strict=True):
        named[one.role].append(column)
    results = None
    if len(named["result"]) == 1:
        results = named["result"][0]
    elif named["result"]:
        results = np.concatenate(named["result"], axis=1)
    first = {role: (found[0] if found else None) for role, found in named.items()}
    return Rows(named["operand"], results, first["flags"], first["random"], lines)


@dataclass
class Digest:
    """SHA-256 of the operands and random numbers of a stream of rows, whatever its chunks and its syntax."""

    fields: tuple[Field, ...]
    _hash: Any = field(default_factory=hashlib.sha256)

    def update(self, rows: Rows) -> None:
        """Take a chunk in: of each row its codes in field order, each in big-endian bytes."""
        taken = [one for one in self.fields if one.role in ("operand", "random")]
        sources = [*rows.operands, *([] if rows.random is None else [rows.random])]
        parts = [big_endian(column, one).reshape(len(rows), -1) for one, column in zip(taken, sources, strict=True)]
        self._hash.update(np.ascontiguousarray(np.concatenate(parts, axis=1)).data)

    def hexdigest(self) -> str:
        """The digest of what was taken in."""
        return str(self._hash.hexdigest())


def big_endian(column: Array, one: Field) -> Array:
    """Codes as bytes, the first the most significant: uint8 of shape column.shape + (bytes of a code,)."""
    size = -(-one.bits // 8)
    if one.bits > 64:
        joined = b"".join(int(code).to_bytes(size, "big") for code in column.reshape(-1).tolist())
        return np.frombuffer(joined, np.uint8).reshape(*column.shape, size)
    wide = np.ascontiguousarray(column.astype(one.dtype.newbyteorder(">"), copy=False))
    return wide.view(np.uint8).reshape(*column.shape, one.dtype.itemsize)[..., one.dtype.itemsize - size :]
