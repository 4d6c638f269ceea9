"""The demo's picture: where the weights lie, what each format reaches, and how much survives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from accuracy import Answers
from blocks import BlockCase, BlockRow, encode
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from measure import Case, Format, Row, scale_of
from weights import Data

import numfmt as nf

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, as in numfmt.viz; told apart by all kinds of colour vision, and shapes say the same again.
MARKS = {"ties_to_even": ("o", "#0072B2"), "toward_zero": ("v", "#D55E00"), "stochastic": ("D", "#009E73")}
OTHER_MARK = ("s", "#CC79A7")
WEIGHTS, RELATIVE, ABSOLUTE, SCALE = "#56B4E9", "#8A8A8A", "#E69F00", "#CC79A7"
INK, FAINT = "#222222", "#DDDDDD"
STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 11, "text.color": INK, "axes.edgecolor": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 12, "axes.titlelocation": "left",
    "figure.constrained_layout.w_pad": 0.1,
}  # fmt: skip
ROW = 0.33  # inches
MARGIN = 4  # binades shown on both sides of the weights
CENTRAL = 0.99  # share of the weights that the shaded band holds

AnyRow = Row | BlockRow


def draw(data: Data, rows: Sequence[Row], blocks: Sequence[BlockRow], answers: Answers | None, path: Path) -> None:
    """Write the picture as a PNG file."""
    groups = _groups([*rows, *blocks])
    height = ROW * max(4, len(groups))
    widths = [1.45, 1] if answers is None else [1.45, 0.8, 0.75]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13.3 if answers is None else 17.3, 3.4 + height), dpi=150, layout="constrained")
        grid = figure.add_gridspec(2, len(widths), height_ratios=[1.7, height], width_ratios=widths)
        histogram, ranges = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[1, 0])
        legend, ratios = figure.add_subplot(grid[0, 1:]), figure.add_subplot(grid[1, 1])
        limits = _histogram(histogram, data)
        _ranges(ranges, data, groups, limits)
        _ratios(ratios, groups)
        if answers is not None:
            _answers(figure.add_subplot(grid[1, 2]), groups, answers)
        _legend(legend, groups)
        figure.suptitle(
            f"{data.name}: {data.size:,} numbers through {len({group[0].format for group in groups})} formats",
            x=0.01, ha="left", fontsize=16, fontweight="bold",
        )  # fmt: skip
        figure.savefig(path)


def _groups(rows: Sequence[AnyRow]) -> list[list[AnyRow]]:
    """Rows of one format and scale together, in the order of their first ones."""
    groups: dict[tuple[str, str], list[AnyRow]] = {}
    for row in rows:
        groups.setdefault((row.format, row.scale), []).append(row)
    return list(groups.values())


def _histogram(axes: Axes, data: Data) -> tuple[int, int]:
    """Share of the largest tensor's weights in each binade; returns the binades that the axis shows."""
    values = data.largest.values.astype(np.float64)
    exponents = ((values[values != 0].view(np.int64) >> 52) & 0x7FF) - 1023
    binades, counts = np.unique(exponents, return_counts=True)
    shares = 100 * counts / values.size
    axes.bar(binades, shares, width=1.0, align="edge", color=WEIGHTS, edgecolor="white", linewidth=0.6)
    first, last = (int(binades[0]), int(binades[-1])) if binades.size else (0, 0)
    limits = (max(first - MARGIN, last - 32), last + 1 + MARGIN)
    share = f", {100 * values.size / data.size:.0f} % of all" if len(data.tensors) > 1 else ""
    axes.set_title(f"Where the weights lie ({data.largest.name}{share})")
    axes.set_ylabel("% per binade")
    axes.set_xlim(limits)
    axes.tick_params(labelbottom=False, bottom=False)
    return limits


def _ranges(axes: Axes, data: Data, groups: Sequence[Sequence[AnyRow]], limits: tuple[int, int]) -> None:
    """One bar a format, from its least to its largest magnitude, moved by the scale; of blocks by their middle scale."""
    magnitudes = np.abs(data.largest.values.astype(np.float64))
    band = np.quantile(magnitudes[magnitudes > 0], [1 - CENTRAL, 1]) if magnitudes.any() else np.ones(2)
    axes.axvspan(*np.log2(band), color=WEIGHTS, alpha=0.25, linewidth=0, zorder=0)
    for y, group in enumerate(groups):
        row = group[0]
        if isinstance(row, BlockRow):
            _block_bar(axes, y, data, BlockCase(row.format, row.rounding), limits)
        else:
            fmt = Case(row.format, row.rounding, row.scale).format
            _range_bar(axes, y, fmt, math.log2(scale_of(data.largest.values, fmt, row.scale)), limits)
        _row_label(axes, y, row)
    _row_axis(axes, groups)
    ticks = range(-4 * (-limits[0] // 4), limits[1] + 1, 4)
    axes.set_xticks(ticks, [f"$2^{{{tick}}}$" for tick in ticks])
    axes.set_xlim(limits)
    axes.set_xlabel("magnitude of a weight")
    axes.set_title("What each format reaches, its scale applied")


def _block_bar(axes: Axes, y: int, data: Data, case: BlockCase, limits: tuple[int, int]) -> None:
    """The element's bar at the middle one of the scales of the largest tensor, on a line of all that the others reach."""
    q = encode(data.largest, case, 0)
    whole = 1.0 if q.tensor_scale is None else float(q.tensor_scale)
    scales = q.scales if q.scales.dtype.kind == "f" else nf.decode(q.scales, case.format.scale, dtype=np.float64)
    sizes = np.abs(scales.astype(np.float64)).reshape(-1) * whole
    least, middle, most = (math.log2(v) for v in np.quantile(sizes[sizes > 0], (0, 0.5, 1)))
    element = case.format.element
    ends = max(_log2(element.min_positive) + least, limits[0]), min(_log2(element.max) + most, limits[1])
    axes.plot(ends, (y, y), color=SCALE, linewidth=3, solid_capstyle="butt", zorder=0.5)
    _range_bar(axes, y, element, middle, limits)


def _row_label(axes: Axes, y: int, row: AnyRow) -> None:
    """Format, scale and bits, in columns to the left of the axis."""
    if isinstance(row, BlockRow):
        name = row.label if len(row.label) < 16 else row.label[:14] + "…"
        scale = f"{row.block} × {row.scale}"
    else:
        name, scale = row.format, {"none": "", "2^k": "× $2^k$", "amax": "× amax"}[row.scale]
    for x, text, side in ((-235, name, "left"), (-143, scale, "left"), (-12, f"{row.bits:g} bits", "right")):
        place: dict[str, Any] = {
            "xycoords": ("axes fraction", "data"),
            "textcoords": "offset points",
            "annotation_clip": False,
        }
        axes.annotate(text, (0, y), (x, 0), ha=side, va="center", **place)


def _range_bar(axes: Axes, y: int, fmt: Format, shift: float, limits: tuple[int, int]) -> None:
    """Grey where precision is relative, orange where it is absolute; strokes for the values of a codebook."""
    low, high = _log2(fmt.min_positive) + shift, _log2(fmt.max) + shift
    if isinstance(fmt, nf.CodebookFormat):
        axes.plot([low, high], [y, y], color=RELATIVE, linewidth=1)
        magnitudes = {abs(v) for v in fmt.values if v}
        axes.plot([_log2(v) + shift for v in magnitudes], [y] * len(magnitudes), "|", color=INK, markersize=11)
        return
    middle = _log2(fmt.min_normal) + shift if isinstance(fmt, nf.FloatFormat) else high
    for left, right, color in ((low, middle, ABSOLUTE), (middle, high, RELATIVE)):
        left, right = max(left, limits[0]), min(right, limits[1])
        if left < right:
            axes.barh(y, right - left, left=left, height=0.5, color=color)
    color = ABSOLUTE if limits[0] < middle else RELATIVE
    for edge, beyond, mark, fill in (
        (limits[0], low < limits[0], "<", color),
        (limits[1], high > limits[1], ">", RELATIVE),
    ):
        if beyond:
            axes.plot(edge, y, mark, color=fill, markersize=11, markeredgewidth=0, clip_on=False)


def _log2(value: Fraction) -> float:
    """For drawing only; takes fractions of any size."""
    return math.log2(abs(value.numerator)) - math.log2(value.denominator)


def _ratios(axes: Axes, groups: Sequence[Sequence[AnyRow]]) -> None:
    """SQNR of each case; a case that lost nothing has no mark."""
    for y, group in enumerate(groups):
        points = [(row.sqnr_db, *MARKS.get(row.rounding, OTHER_MARK)) for row in group if row.sqnr_db is not None]
        if not points:
            axes.text(0, y, " exact", va="center")
            continue
        best = max(points)[0]
        axes.plot([min(points)[0], best], [y, y], color=RELATIVE, linewidth=1.5, zorder=1)
        axes.annotate(f"{best:.1f}", (best, y), (8, 0), textcoords="offset points", va="center", fontsize=10)
        for x, mark, color in points:
            axes.plot(x, y, mark, color=color, markersize=9, markeredgecolor="white", markeredgewidth=0.8)
    _row_axis(axes, groups)
    axes.set_xlim(min(0.0, axes.get_xlim()[0]), axes.get_xlim()[1] + 5)
    axes.grid(axis="x", color=FAINT, linewidth=0.8)
    axes.set_xlabel("SQNR of all weights, dB")
    axes.set_title("What survives")


def _answers(axes: Axes, groups: Sequence[Sequence[AnyRow]], answers: Answers) -> None:
    """Divergence of the network's answers with each format's weights, and in how many files they are the same."""
    shown: set[str] = set()
    drawn = [max(row.mean_kl, 1e-9) for row in answers.rows.values()]
    limits = min(drawn) / 3, max(drawn) * 3
    for y, group in enumerate(groups):
        name = group[0].format
        if name in answers.rows and name not in shown:
            row = answers.rows[name]
            shown.add(name)
            axes.plot(max(row.mean_kl, 1e-9), y, "o", color=ABSOLUTE, markersize=9, markeredgecolor="white")
            axes.text(
                1.02, y, f"{100 * row.top1:.1f} %", transform=axes.get_yaxis_transform(), va="center", fontsize=10
            )
    _row_axis(axes, groups)
    axes.set_xscale("log")
    axes.set_xlim(limits)
    axes.grid(axis="x", color=FAINT, linewidth=0.8)
    axes.set_xlabel(f"mean KL, nats (number: same type, {answers.files} files)")
    axes.set_title("What the network still says")


def _row_axis(axes: Axes, groups: Sequence[Sequence[AnyRow]]) -> None:
    """Rows from top to bottom, with a line wherever the width of the formats changes, and a thick one above blocks."""
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_yticks([])
    axes.set_axisbelow(True)
    for y in range(1, len(groups)):
        above, below = groups[y - 1][0], groups[y][0]
        if type(above) is not type(below):
            axes.axhline(y - 0.5, color=RELATIVE, linewidth=1, zorder=0)
        elif below.bits != above.bits:
            axes.axhline(y - 0.5, color=FAINT, linewidth=1, zorder=0)


def _legend(axes: Axes, groups: Sequence[Sequence[AnyRow]]) -> None:
    """What colours and shapes mean."""
    axes.axis("off")
    roundings = dict.fromkeys(row.rounding for group in groups for row in group)
    point: dict[str, Any] = {"linestyle": "", "markersize": 9}
    handles: list[Any] = [
        Patch(color=WEIGHTS, alpha=0.25, label=f"where the larger {100 * CENTRAL:.0f} % of the weights lie"),
        Patch(color=RELATIVE, label="normal numbers: precision is relative"),
        Patch(color=ABSOLUTE, label="subnormal, fixed point: precision is absolute"),
    ]
    if any(isinstance(group[0], BlockRow) for group in groups):
        handles.append(Patch(color=SCALE, label="blocks: what all scales reach (bar: the middle one)"))
    if any(isinstance(_element(group[0]), nf.CodebookFormat) for group in groups):
        handles.append(Line2D([], [], marker="|", color=INK, label="one value of a codebook", **point))
    for name in roundings:
        mark, color = MARKS.get(name, OTHER_MARK)
        handles.append(Line2D([], [], marker=mark, color=color, label=name.replace("_", " "), **point))
    axes.legend(handles=handles, loc="center left", frameon=False, borderaxespad=0, labelspacing=0.3)


def _element(row: AnyRow) -> Format:
    """The format of single numbers."""
    fmt = nf.get_format(row.format)
    return fmt.element if isinstance(fmt, nf.BlockFormat) else fmt
