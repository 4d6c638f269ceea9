"""`nfmt table`: every code of a format of at most 16 bits."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Iterator
from typing import Any

from ..formats import Format
from ..named import scalar_format
from .fields import bits_of, check_size, class_of, widths_of
from .numbers import decimal_text, fraction_text, hex_float
from .output import write_text
from .screen import OK, Failure, code_text, columns, json_text

HEADER = ("code", "bits", "exact", "decimal", "hex", "class")


def rows_of(fmt: Format) -> Iterator[tuple[str, ...]]:
    """One row a code: code, fields, exact value, decimal, hex float, class."""
    for code in range(2**fmt.bits):
        value = fmt.exact(code)
        texts = (fraction_text(value), decimal_text(value), hex_float(value) or "")
        yield code_text(code, fmt.bits), " ".join(bits_of(fmt, code)), *texts, class_of(fmt, code)


def run_table(args: argparse.Namespace) -> int:
    """The table in the form asked for."""
    fmt = scalar_format(args.format)
    check_size(fmt)
    if fmt.bits > 16:
        raise Failure(
            f"{fmt} has {fmt.bits} bits; tables are made of at most 16, nfmt explain {args.format} CODE shows one"
        )
    write_text(args.output, _TEXTS[args.form](fmt))
    return OK


def _plain(fmt: Format) -> str:
    return "\n".join(columns([HEADER, *rows_of(fmt)], "<<>><<")) + "\n"


def _csv(fmt: Format) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([HEADER, *rows_of(fmt)])
    return text.getvalue()


def _markdown(fmt: Format) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (HEADER, *rows_of(fmt))]
    return "\n".join([lines[0], "|---|---|---:|---:|---|---|", *lines[1:]]) + "\n"


def _json(fmt: Format) -> str:
    content: dict[str, Any] = {
        "format": str(fmt),
        "fields": [{"name": name, "bits": width} for name, width in widths_of(fmt)],
        "rows": [dict(zip(HEADER, row, strict=True)) for row in rows_of(fmt)],
    }
    return json_text(content)


_TEXTS = {"text": _plain, "csv": _csv, "md": _markdown, "json": _json}
