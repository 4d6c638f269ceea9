"""What `nfmt quantize` reports of every tensor: as text, CSV, JSON or one HTML page."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ..tensor_files import shown
from .screen import columns, json_text

SHARES = ("saturated", "last_bin", "underflow", "scale_clamped")
NUMBERS = (*SHARES, "sqnr_db", "slope", "max_error", "nonfinite")
HEADER = ("tensor", "shape", "dtype", "format", "elements", "bytes_before", "bytes_after", *NUMBERS, "kept_because")


@dataclass(frozen=True)
class Row:
    """One tensor; `numbers` are those of NUMBERS, or nothing for a tensor that was kept as it is."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    format: str
    elements: int
    before: int
    after: int
    numbers: dict[str, float] | None = None
    kept_because: str = ""


@dataclass(frozen=True)
class Report:
    """A whole run: `title` in words, `facts` by name (None: not given), and its rows."""

    title: str
    facts: Mapping[str, Any]
    rows: Sequence[Row]

    @property
    def texts(self) -> dict[str, str]:
        """The facts that were given, for a reader."""
        return {
            name: ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            for name, value in self.facts.items()
            if value is not None
        }

    @property
    def before(self) -> int:
        """Bytes of all tensors before."""
        return sum(row.before for row in self.rows)

    @property
    def after(self) -> int:
        """Bytes of all tensors after."""
        return sum(row.after for row in self.rows)

    @property
    def quantized(self) -> list[Row]:
        """Those that were not kept."""
        return [row for row in self.rows if row.numbers is not None]


def size_text(count: int) -> str:
    """Bytes for a reader.

    >>> size_text(90868376), size_text(512)
    ('90.9 MB', '512 B')
    """
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


def share_text(value: float) -> str:
    """A share in percent, short, and never 0 where it is not.

    >>> share_text(0.125), share_text(0.0), share_text(1e-6)
    ('12.5 %', '0 %', '<0.01 %')
    """
    if value == 0 or math.isnan(value):
        return "0 %" if value == 0 else "-"
    return "<0.01 %" if value < 1e-4 else f"{100 * value:.3g} %"


def number_text(value: float) -> str:
    """A number in four digits; what is not finite in words."""
    if math.isnan(value):
        return "-"
    return "exact" if math.isinf(value) else f"{value:.4g}"


def _texts(row: Row) -> list[str]:
    if row.numbers is None:
        return ["-"] * len(NUMBERS)
    return [(share_text if name in SHARES else number_text)(row.numbers[name]) for name in NUMBERS]


def _summary(report: Report) -> str:
    kept = len(report.rows) - len(report.quantized)
    ratio = f", 1/{report.before / report.after:.2f}" if report.after else ""
    return (
        f"{len(report.quantized)} tensors quantized, {kept} kept; "
        f"{size_text(report.before)} -> {size_text(report.after)} of tensors{ratio}"
    )


def text_of(report: Report) -> str:
    """A table for the terminal; tensors that were kept are counted, not listed."""
    head = [
        "tensor",
        "format",
        "saturated",
        "last bin",
        "underflow",
        "scale clamped",
        "SQNR dB",
        "slope",
        "max error",
        "NaN, Inf",
    ]
    rows = [[shown(row.name), row.format, *_texts(row)] for row in report.quantized]
    lines = columns([head, *rows], "<<" + ">" * len(NUMBERS))
    facts = [f"{name}: {value}" for name, value in report.texts.items()]
    return "\n".join([report.title, *facts, "", *lines, "", _summary(report)]) + "\n"


def csv_of(report: Report) -> str:
    """Every tensor, numbers with all their digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for row in report.rows:
        numbers = [""] * len(NUMBERS) if row.numbers is None else [repr(float(row.numbers[n])) for n in NUMBERS]
        shape = "x".join(map(str, row.shape))
        writer.writerow(
            [row.name, shape, row.dtype, row.format, row.elements, row.before, row.after, *numbers, row.kept_because]
        )
    return text.getvalue()


def json_of(report: Report) -> str:
    """Every tensor; null where a number is not finite (the SQNR of a tensor without error)."""
    tensors = []
    for row in report.rows:
        numbers = None
        if row.numbers is not None:
            numbers = {n: float(v) if math.isfinite(v) else None for n, v in row.numbers.items()}
        tensors.append(
            {
                "name": row.name,
                "shape": list(row.shape),
                "dtype": row.dtype,
                "format": row.format,
                "elements": row.elements,
                "bytes_before": row.before,
                "bytes_after": row.after,
                "statistics": numbers,
                "kept_because": row.kept_because or None,
            }
        )
    total = {"quantized": len(report.quantized), "kept": len(report.rows) - len(report.quantized)}
    total |= {"bytes_before": report.before, "bytes_after": report.after}
    return json_text({**report.facts, "total": total, "tensors": tensors})


# HTML

_STYLE = """
:root { color-scheme: light dark; --text: #1b1b1b; --dim: #666; --ground: #fff; --line: #ddd; --track: #eee;
  --bar: #0072b2; --bad: #d55e00; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e6e6; --dim: #999; --ground: #161616; --line: #333; --track: #2a2a2a;
    --bar: #56b4e9; --bad: #e69f00; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--ground);
  margin: 2rem auto; max-width: 110rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin-bottom: 0.3rem; }
p, dl { color: var(--dim); margin: 0.2rem 0 1rem; }
dt { float: left; clear: left; margin-right: 0.6rem; }
dd { margin: 0; color: var(--text); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { padding: 0.25rem 0.6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { position: sticky; top: 0; background: var(--ground); font-weight: 600; }
th:nth-child(-n+2), td:nth-child(-n+2), td.why { text-align: left; }
td:first-child { font-family: ui-monospace, monospace; }
tr.kept td { color: var(--dim); }
.bar { display: inline-block; width: 4rem; height: 0.55rem; margin-left: 0.4rem; background: var(--track);
  border-radius: 2px; overflow: hidden; text-align: left; vertical-align: middle; }
.bar i { display: block; height: 100%; background: var(--bar); }
.bar.bad i { background: var(--bad); }
"""


def _bar(text: str, share: float, kind: str = "") -> str:
    """A number with a bar of its share of the column's width."""
    width = 100 * min(max(share, 0.0), 1.0)
    return f'<td>{escape(text)} <span class="bar{kind}"><i style="width:{width:.1f}%"></i></span></td>'


def _html_row(row: Row, best: float, worst: dict[str, float]) -> str:
    shape = " × ".join(map(str, row.shape)) or "scalar"
    size = _bar(f"{size_text(row.before)} → {size_text(row.after)}", row.after / row.before if row.before else 0.0)
    start = f"<td>{escape(shown(row.name))}</td><td>{escape(row.format)}</td><td>{shape}</td>{size}"
    if row.numbers is None:
        return f'<tr class="kept">{start}<td class="why" colspan="{len(NUMBERS)}">{escape(row.kept_because)}</td></tr>'
    cells = []
    for name, text in zip(NUMBERS, _texts(row), strict=True):
        value = row.numbers[name]
        if name == "sqnr_db":
            cells.append(_bar(text, (1.0 if value > 0 else 0.0) if not math.isfinite(value) else value / best))
        elif name in SHARES:
            cells.append(_bar(text, value / worst[name], " bad"))
        else:
            cells.append(f"<td>{escape(text)}</td>")
    return f"<tr>{start}{''.join(cells)}</tr>"


def html_of(report: Report) -> str:
    """One page that needs nothing else; bars are relative to the longest of their column."""
    numbers = [row.numbers for row in report.quantized if row.numbers is not None]
    best = max([n["sqnr_db"] for n in numbers if math.isfinite(n["sqnr_db"])], default=1.0)
    worst = {name: max([n[name] for n in numbers if n[name] > 0], default=1.0) for name in SHARES}
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in report.texts.items())
    titles = ("tensor", "format", "shape", "bytes", "saturated", "last bin", "underflow", "scale clamped", "SQNR / dB")
    head = "".join(f"<th>{title}</th>" for title in (*titles, "slope", "max error", "NaN, Inf"))
    rows = "\n".join(_html_row(row, max(best, 1e-9), worst) for row in report.rows)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(report.title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(report.title)}</h1>
<p>{escape(_summary(report))}</p>
<dl>{facts}</dl>
<div class="wide">
<table>
<thead><tr>{head}</tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>
<p>saturated: share of elements beyond the largest element × scale · last bin: share whose code is the largest ·
underflow: share of all elements that were not zero and became zero · scale clamped: share of blocks whose scale is
at an end of its format · slope: ⟨x, q⟩ / ⟨x, x⟩ · max error: largest |x − q| · NaN, Inf: elements that are, or
became, one; no other number counts them. Bars are shares of the largest number of their column, those of bytes of the
bytes before.</p>
</body>
</html>
"""


FORMS: dict[str, Callable[[Report], str]] = {"text": text_of, "csv": csv_of, "json": json_of, "html": html_of}
