"""Writing to the terminal: colours of fields, tables, JSON, and errors of one line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

SCHEMA = 1  # of every JSON text; a change that could break a reader raises it

OK, MISMATCH, USAGE, BAD_INPUT, FAULT, INTERRUPTED = 0, 1, 2, 3, 70, 130

# The palette of Okabe and Ito in 256 colours, grounds for black digits; a field has the same hue everywhere.
COLOURS = {
    "sign": 208,  # vermillion, lightened
    "exponent": 117,  # sky blue
    "significand": 79,  # bluish green
    "integer": 117,
    "fraction": 79,
    "integer bit": 228,  # yellow
    "index": 175,  # reddish purple
    "scale": 214,  # orange
}
BOLD, DIM, PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"

_ASCII = str.maketrans(
    {"×": "x", "−": "-", "→": "->", "≈": "~", "…": "...", "·": ".", "±": "+-", "≤": "<=", "≥": ">=", "│": "|", "└": "`",
     "─": "-", "§": "S ", "ν": "nu", "é": "e", "₂": ""}
)  # fmt: skip


class Failure(Exception):
    """An error that ends the command: one line, and its exit code."""

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(" ".join(message.split()))
        self.code = code


def wants_colour(choice: str, stream: TextIO | None = None) -> bool:
    """Whether to colour: always, never, or auto: on a terminal, unless NO_COLOR or TERM=dumb says no."""
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return (stream or sys.stdout).isatty()


class Paint:
    """Wraps text in escape sequences, or leaves it alone."""

    def __init__(self, on: bool) -> None:
        self.on = on

    def field(self, name: str, text: str) -> str:
        """Text in the colour of a field: black on a light ground, legible on any terminal."""
        return f"\x1b[38;5;16;48;5;{COLOURS[name]}m{text}{PLAIN}" if self.on and text else text

    def bold(self, text: str) -> str:
        """Text in bold."""
        return f"{BOLD}{text}{PLAIN}" if self.on else text

    def dim(self, text: str) -> str:
        """Text in the background."""
        return f"{DIM}{text}{PLAIN}" if self.on else text


def put(text: str) -> None:
    """Write lines to stdout, in ASCII where it cannot take more."""
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    if not encoding.startswith("utf"):
        text = text.translate(_ASCII).encode(encoding, "replace").decode(encoding)
    sys.stdout.write(text + "\n")


def put_json(content: dict[str, Any]) -> None:
    """Write one JSON object to stdout, with its schema number."""
    sys.stdout.write(json_text(content))


def json_text(content: dict[str, Any]) -> str:
    """One JSON object with its schema number, indented, ending in a newline."""
    return json.dumps({"schema": SCHEMA, **content}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def columns(rows: Sequence[Sequence[str]], align: str, gap: str = "  ") -> list[str]:
    """Rows as lines of aligned columns; `align` has one < or > a column."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(align))]
    return [
        gap.join(f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=True)).rstrip()
        for row in rows
    ]


def code_text(code: int, bits: int) -> str:
    """A code in hexadecimal, as wide as its format."""
    return f"0x{code:0{-(-bits // 4)}x}"
