"""Writes the committed value tables; with --check compares them, and runs the golden vectors against the oracle.

    python -m spec.generate            write tables/*.csv
    python -m spec.generate --check    fail if a table differs or a vector disagrees

A table has one line per code: the code in hex, its exact value as a fraction or a word, and the value in hexadecimal.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from spec.oracle import Format, Value, convert, floor_log2, get, load_formats, power_of_two, values

HERE = Path(__file__).parent
TABLE_BITS = 8
P3109_TABLES = ["binary8p1se", "binary8p1uf", "binary8p3se", "binary8p3sf", "binary8p4se", "binary8p4sf", "binary8p3ue"]


def hexadecimal(x: Value) -> str:
    """A dyadic fraction as sign, 0x1., hexadecimal digits, p and exponent, without trailing zeros; words stay."""
    if isinstance(x, str):
        return {"-0": "-0x0p+0"}.get(x, x)
    if x == 0:
        return "0x0p+0"
    exponent = floor_log2(abs(x))
    rest, digits = abs(x) / power_of_two(exponent) - 1, ""
    while rest:
        digit, rest = divmod(rest * 16, 1)
        digits += f"{digit:x}"
    return f"{'-' if x < 0 else ''}0x1{'.' if digits else ''}{digits}p{exponent:+d}"


def table(fmt: Format) -> str:
    width = (fmt.bits + 3) // 4
    lines = [f"0x{code:0{width}x},{x},{hexadecimal(x)}" for code, x in enumerate(values(fmt))]
    return "\n".join(["code,value,hexadecimal", *lines]) + "\n"


def tables() -> dict[str, str]:
    """File name and content of every committed table."""
    small = {fmt for fmt in load_formats().values() if fmt.bits <= TABLE_BITS} | {get(name) for name in P3109_TABLES}
    return {f"{fmt.name}.csv": table(fmt) for fmt in sorted(small, key=lambda fmt: fmt.name)}


class Vector(NamedTuple):
    """One line of a golden vector file."""

    where: str
    source: str
    code: int
    target: str
    rounding: str
    overflow: str
    expected: int
    options: dict[str, int]


def read_vectors(path: Path) -> Iterator[Vector]:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        source, code, target, rounding, overflow, expected, *extra = words
        options = {}
        for word in extra:
            key, _, given = word.partition("=")
            if key == "random":
                options["random"], options["random_bit_count"] = map(int, given.split("/"))
            else:
                options[key] = int(given)
        where = f"{path.name}:{number}"
        yield Vector(where, source, int(code, 16), target, rounding, overflow, int(expected, 16), options)


def vectors() -> list[Vector]:
    return [vector for path in sorted((HERE / "vectors").glob("*.txt")) for vector in read_vectors(path)]


def complaints() -> Iterator[str]:
    """What is wrong with the committed tables and vectors."""
    fresh = tables()
    committed = {path.name: path.read_text() for path in (HERE / "tables").glob("*.csv")}
    for name in sorted(fresh.keys() | committed.keys()):
        if fresh.get(name) != committed.get(name):
            yield f"tables/{name} differs from what the oracle says"
    for v in vectors():
        code = convert(v.code, v.source, v.target, v.rounding, v.overflow, **v.options)
        if code != v.expected:
            yield f"vectors/{v.where}: expected {v.expected:X}, the oracle gives {code:X}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m spec.generate", description="Write or check the value tables.")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    if parser.parse_args().check:
        found = list(complaints())
        print("\n".join(found) or f"{len(tables())} tables and {len(vectors())} vectors agree")
        return 1 if found else 0
    (HERE / "tables").mkdir(exist_ok=True)
    for name, content in tables().items():
        (HERE / "tables" / name).write_text(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
