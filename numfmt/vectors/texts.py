"""The text syntaxes: TestFloat, $readmemh, CSV, JSON lines. Each is a template of lines and a careful reader of one."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, ClassVar

from .hexrows import Template
from .rows import Field

HEX = re.compile(r"[0-9A-Fa-f]+")
_UNKNOWN = re.compile(r"[xXzZ?]")
MARK = "numfmt vectors "  # before the JSON text of a comment


class Syntax:
    """How rows are written as lines of text."""

    name: ClassVar[str]
    extensions: ClassVar[tuple[str, ...]] = ()

    def template(self, fields: tuple[Field, ...]) -> Template:
        """How a row is written."""
        raise NotImplementedError

    def header(self, description: dict[str, Any], fields: tuple[Field, ...]) -> bytes:
        """What comes before the first row."""
        return b""

    def parse(self, line: str, fields: tuple[Field, ...]) -> list[int] | None:
        """The codes of a line that is written in another way than the template's; None for a line without a row.

        Raises:
            ValueError: saying what is wrong with it.
        """
        raise NotImplementedError

    def __str__(self) -> str:
        return self.name


def codes_in(fields: Sequence[Field]) -> int:
    """Codes of a row."""
    return sum(one.count for one in fields)


def labels(fields: Sequence[Field]) -> list[str]:
    """A name for each code of a row: a, b; or x0, x1, … of a field with several."""
    return [one.name if one.count == 1 else f"{one.name}{i}" for one in fields for i in range(one.count)]


def _each(fields: Sequence[Field]) -> list[Field]:
    """The field of each code of a row."""
    return [one for one in fields for _ in range(one.count)]


def hex_code(word: str, one: Field, label: str) -> int:
    """A code written with as many digits as its width takes."""
    if not HEX.fullmatch(word):
        if _UNKNOWN.search(word):
            raise ValueError(f"{label} is {shown(word)}: a simulator's unknown value, no code")
        raise ValueError(f"{label} is {shown(word)}, which is no hexadecimal number")
    if len(word) != one.digits:
        raise ValueError(f"{label} is {shown(word)}, {len(word)} digits; {one.bits} bits are written as {one.digits}")
    return narrow(int(word, 16), one, label)


def narrow(code: int, one: Field, label: str) -> int:
    """A code that fits its field."""
    if not 0 <= code < 1 << one.bits:
        raise ValueError(f"{label} is {code:#x}, which is more than {one.bits} bits")
    return code


def shown(text: str) -> str:
    """A word as a message may show it."""
    return repr(text if len(text) <= 40 else text[:37] + "...")


class TestFloat(Syntax):
    """Operands, random numbers, results and flags in hexadecimal digits, with a space between."""

    name = "testfloat"
    extensions = (".txt", ".tf", ".tv", ".testfloat")

    def template(self, fields: tuple[Field, ...]) -> Template:
        """86E3 86E30000 00."""
        return Template(fields, (b"", *[b" "] * (codes_in(fields) - 1)), b"\n")

    def parse(self, line: str, fields: tuple[Field, ...]) -> list[int] | None:
        """Words between spaces or tabs."""
        words = line.split()
        if not words:
            return None
        wanted, names = _each(fields), labels(fields)
        if len(words) != len(wanted):
            missing = f", {names[len(words)]} is missing" if len(words) < len(wanted) else ""
            raise ValueError(f"{len(words)} columns; a row has {len(wanted)} ({_summary(fields)}){missing}")
        return [hex_code(word, one, name) for word, one, name in zip(words, wanted, names, strict=True)]


class Readmemh(Syntax):
    """One packed word a line for $readmemh: the first operand in the most significant digits, the flags in the least.

    Each code takes a whole number of hexadecimal digits, flags two; underscores lie between them.
    """

    name = "readmemh"
    extensions = (".hex", ".mem", ".memh")

    def template(self, fields: tuple[Field, ...]) -> Template:
        """86E3_86E30000_00."""
        return Template(fields, (b"", *[b"_"] * (codes_in(fields) - 1)), b"\n")

    def header(self, description: dict[str, Any], fields: tuple[Field, ...]) -> bytes:
        """Comments: what the file holds, and which bits of a word are which field."""
        compact = json.dumps(description, separators=(",", ":"))
        lines = [f"// {MARK}{compact}", f"// {description['function']}: words of {word_bits(fields)} bits"]
        lines += [f"// {place:>12}  {name}" for name, place in bit_places(fields)]
        return "".join(line + "\n" for line in lines).encode()

    def parse(self, line: str, fields: tuple[Field, ...]) -> list[int] | None:
        """One word, with or without underscores, before a comment."""
        words = line.split("//")[0].split()
        if not words:
            return None
        if words[0].startswith("@"):
            raise ValueError(f"{shown(words[0])} is an address; rows follow each other from the first on")
        if len(words) > 1:
            raise ValueError(f"{len(words)} words; a row is one packed word of {word_bits(fields)} bits")
        text = words[0].replace("_", "")
        wanted, names = _each(fields), labels(fields)
        digits = sum(one.digits for one in wanted)
        if len(text) != digits:
            raise ValueError(f"a word of {len(text)} digits; a row has {digits} ({_summary(fields)})")
        codes, at = [], 0
        for one, name in zip(wanted, names, strict=True):
            codes.append(hex_code(text[at : at + one.digits], one, name))
            at += one.digits
        return codes


def word_bits(fields: Sequence[Field]) -> int:
    """Bits of a packed word."""
    return sum(4 * one.digits * one.count for one in fields)


def bit_places(fields: Sequence[Field]) -> list[tuple[str, str]]:
    """Name and [high:low] bits in a packed word of each code; of a long field the first and the last."""
    at = word_bits(fields)
    places = []
    for one in fields:
        for i in range(one.count):
            at -= 4 * one.digits
            if one.count <= 4 or i in (0, one.count - 1):
                name = one.name if one.count == 1 else f"{one.name}[{i}]"
                places.append((name, f"[{at + 4 * one.digits - 1}:{at}]"))
    return places


class Csv(Syntax):
    """A header row with the names of the columns, then hexadecimal codes with 0x; decimal ones are read too."""

    name = "csv"
    extensions = (".csv",)

    def __init__(self) -> None:
        self.order: list[int] | None = None  # column of the file of each code, where it is not the usual order

    def template(self, fields: tuple[Field, ...]) -> Template:
        """0x86E3,0x86E30000,0x00."""
        return Template(fields, (b"0x", *[b",0x"] * (codes_in(fields) - 1)), b"\n")

    def header(self, description: dict[str, Any], fields: tuple[Field, ...]) -> bytes:
        """The names of the columns."""
        return (",".join(labels(fields)) + "\n").encode()

    def read_header(self, line: str, fields: tuple[Field, ...]) -> None:
        """Take the names of the columns; raises ValueError where one is missing or unknown."""
        names = [cell.strip().strip('"').lower() for cell in line.strip().split(",")]
        wanted = labels(fields)
        lost = [name for name in wanted if name not in names]
        if lost:
            raise ValueError(f"the header row has no column {lost[0]}; it needs {_short(wanted)}")
        extra = [name for name in names if name not in wanted]
        if extra or len(set(names)) != len(names):
            raise ValueError(f"the header row has {shown((extra or names)[0])}, which is no column, or one twice")
        self.order = None if names == wanted else [names.index(name) for name in wanted]

    def parse(self, line: str, fields: tuple[Field, ...]) -> list[int] | None:
        """Cells between commas: 0x and hexadecimal digits, or decimal digits."""
        if not line.strip():
            return None
        cells = [cell.strip().strip('"') for cell in line.strip().split(",")]
        wanted, names = _each(fields), labels(fields)
        if len(cells) != len(wanted):
            raise ValueError(f"{len(cells)} columns; a row has {len(wanted)} ({_short(names)})")
        if self.order is not None:
            cells = [cells[i] for i in self.order]
        return [number(cell, one, name) for cell, one, name in zip(cells, wanted, names, strict=True)]


def number(text: str, one: Field, label: str) -> int:
    """A code written as 0x and hexadecimal digits, or in decimal ones."""
    if text[:2] in ("0x", "0X") and HEX.fullmatch(text[2:]):
        return narrow(int(text[2:], 16), one, label)
    if text.isascii() and text.isdigit():
        return narrow(int(text), one, label)
    raise ValueError(f"{label} is {shown(text)}; codes are written 0x7e or, in decimal, 126")


class JsonLines(Syntax):
    """An object that describes the file, then one object a row; codes are texts with 0x, or numbers."""

    name = "jsonl"
    extensions = (".jsonl", ".ndjson")

    def template(self, fields: tuple[Field, ...]) -> Template:
        """{"a":"0x86E3","result":"0x86E30000","flags":"0x00"}."""
        before, carry = [], "{"
        for one in fields:
            for i in range(one.count):
                start = f'"{one.name}":' + ("[" if one.count > 1 else "") if i == 0 else ""
                before.append(f'{carry}{start}"0x'.encode())
                carry = '",' if i + 1 < one.count or one.count == 1 else '"],'
        return Template(fields, tuple(before), (carry[:-1] + "}\n").encode())

    def header(self, description: dict[str, Any], fields: tuple[Field, ...]) -> bytes:
        """The object that describes the file."""
        return (json.dumps(description, separators=(",", ":")) + "\n").encode()

    def parse(self, line: str, fields: tuple[Field, ...]) -> list[int] | None:
        """An object with a key for each field."""
        if not line.strip():
            return None
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"no JSON object ({' '.join(str(error).split())[:80]})") from None
        if not isinstance(found, dict):
            raise ValueError("no JSON object")
        extra = [key for key in found if key not in {one.name for one in fields}]
        if extra:
            raise ValueError(f"{shown(extra[0])} is none of {', '.join(one.name for one in fields)}")
        codes = []
        for one in fields:
            if one.name not in found:
                raise ValueError(f"{one.name} is missing")
            values = found[one.name] if one.count > 1 else [found[one.name]]
            if not isinstance(values, list) or len(values) != one.count:
                raise ValueError(f"{one.name} is no list of {one.count} codes")
            codes += [_json_code(value, one) for value in values]
        return codes


def _json_code(value: Any, one: Field) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return narrow(value, one, one.name)
    if isinstance(value, str):
        return number(value, one, one.name)
    raise ValueError(f'{one.name} is {shown(repr(value))}; codes are written "0x7e" or 126')


def _summary(fields: Sequence[Field]) -> str:
    """a, b, result, flags; x of 32, …."""
    return ", ".join(one.name if one.count == 1 else f"{one.name} of {one.count}" for one in fields)


def _short(names: Sequence[str]) -> str:
    return ", ".join(names if len(names) <= 8 else [*names[:4], "…", names[-1]])


SYNTAXES: dict[str, type[Syntax]] = {made.name: made for made in (TestFloat, Readmemh, Csv, JsonLines)}
