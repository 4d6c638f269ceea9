"""Pictures of rounding: where values go, how far off they land, what a second rounding does; and plain curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..arrays import quantize
from ..formats import Format
from ..named import scalar_format
from ..rounding import Rounding
from .style import FAINT, INK, MUTED, SERIES_COLORS, Limits, axes, label_ends, label_points, power_ticks, pyplot, styled
from .values import as_formats, finite_values, log2, number_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STEP, TIE, SAMPLE = "#0072B2", "#D55E00", "#56B4E9"
TIED = (Rounding.TIES_TO_EVEN, Rounding.TIES_TO_AWAY, Rounding.TIES_TO_ZERO, Rounding.TIES_TO_ODD,
        Rounding.TIES_TO_POSITIVE, Rounding.TIES_TO_NEGATIVE)  # fmt: skip


@styled
def rounding_staircase(
    format: str | Format,
    modes: Sequence[str | Rounding] = ("ties_to_even",),
    *,
    limits: Limits | None = None,
    seed: int = 0,
) -> Figure:
    """Result against operand for several rounding modes, a panel each; ties and values are marked.

    Red dots are ties, between two steps; blue dots are values of the format, which stay what they are.
    Stochastic modes show both neighbours, and a sample drawn with `seed`.

    Args:
        format: a format of at most 16 bits, or its name.
        modes: rounding modes or their names.
        limits: operands shown; all of the format if None.
        seed: of the samples.

    >>> figure = rounding_staircase("e2m1", ["ties_to_even", "to_odd"], limits=(-3, 3))
    """
    fmt = scalar_format(format)
    names = [Rounding.parse(mode) for mode in modes]
    low, high = limits or (float(fmt.min), float(fmt.max))
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    figure, grid = pyplot().subplots(
        rows, columns, figsize=(3.1 * columns, 3.0 * rows + 0.25), sharex=True, sharey=True, squeeze=False
    )
    for panel in grid.flat[len(names) :]:
        panel.set_visible(False)
    for ax, mode in zip(grid.flat, names, strict=False):
        _staircase(ax, fmt, mode, low, high, seed)
        margin = 0.03 * (high - low)
        ax.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin), aspect="equal")
        ax.set_title(mode.value.replace("_", " "))
    ties = "red: ties; " if any(mode in TIED for mode in names) else ""
    figure.supxlabel(f"operand ({ties}dots on the diagonal: values of the format)", fontsize=10)
    figure.supylabel(f"result in {format}", fontsize=10)
    return figure


def _staircase(ax: Axes, fmt: Format, mode: Rounding, low: float, high: float, seed: int) -> None:
    """One panel of `rounding_staircase`."""
    ax.plot([low, high], [low, high], color=FAINT, linewidth=1.0, zorder=0)
    values = _values_around(fmt, low, high)
    middles = (values[:-1] + values[1:]) / 2
    if mode.is_stochastic:
        _both_steps(ax, fmt, mode, values, seed)
    elif mode in TIED:
        edges = np.concatenate([values[:1], middles, values[-1:]])
        ax.hlines(quantize(values, fmt, rounding=mode), edges[:-1], edges[1:], color=STEP, linewidth=2.0, label="steps")
        ax.plot(middles, quantize(middles, fmt, rounding=mode), "o", color=TIE, markersize=4.5, label="ties")
    else:
        steps = quantize(middles, fmt, rounding=mode)
        ax.hlines(steps, values[:-1], values[1:], color=STEP, linewidth=2.0, label="steps")
    ax.plot(values, values, "o", color=STEP, markersize=3.2, label="values")


def _both_steps(ax: Axes, fmt: Format, mode: Rounding, values: Any, seed: int) -> None:
    """Both neighbours of every operand, and what a sample of operands became."""
    for side in (values[:-1], values[1:]):
        ax.hlines(side, values[:-1], values[1:], color=FAINT, linewidth=2.0)
    sample = np.linspace(values[0], values[-1], 400)
    result = quantize(sample, fmt, rounding=mode, seed=seed)
    ax.plot(sample, result, "|", color=SAMPLE, markersize=7, markeredgewidth=0.7, label="sample")


def _values_around(fmt: Format, low: float, high: float) -> Any:
    """Values from the last one not above `low` to the first one not below `high`, float64."""
    values = np.array([float(v) for v in finite_values(fmt)])
    first = max(int(np.searchsorted(values, low, "right")) - 1, 0)
    last = int(np.searchsorted(values, high, "left")) + 1
    chosen = values[first:last]
    if len(chosen) < 2:
        raise ValueError(f"limits {(low, high)} are given; {fmt} has values from {values[0]:g} to {values[-1]:g}")
    return chosen


@styled
def relative_error(
    formats: str | Format | Sequence[str | Format],
    *,
    rounding: str | Rounding = "ties_to_even",
    limits: Limits | None = None,
    scale: Literal["linear", "log"] = "log",
    ax: Axes | None = None,
) -> Axes:
    """|rounded x - x| / x against x: thin teeth between values, under the thick line of the worst case.

    Below the normal range errors grow to 1, above the largest value as the format overflows.

    Args:
        formats: formats or names, a colour each.
        rounding: any mode that takes no random bits.
        limits: least and largest x > 0; the range of all formats if None.
        scale: of the errors: powers of two ("log"), or percent ("linear").
        ax: where to draw; a new figure if None.

    >>> ax = relative_error(["e4m3fn", "e5m2"], limits=(2**-12, 2**10))
    """
    found = as_formats(formats)
    low, high = limits or _common_range([fmt for _, fmt in found])
    if not 0 < low < high:
        raise ValueError(f"limits {limits} are given; they must be positive and ascending")
    ax = axes(ax, 9.0, 3.8)
    unit = 1 if scale == "log" else 100
    ends, least = [], 1.0
    for i, (name, fmt) in enumerate(found):
        color = SERIES_COLORS[i % len(SERIES_COLORS)]
        x, error = error_curve(fmt, rounding, low, high)
        ax.plot(x, unit * error, color=color, linewidth=0.5, alpha=0.55 if fmt.bits <= 12 else 0.25, label=name)
        x, worst = worst_error(fmt, rounding, low, high)
        ax.plot(x, unit * worst, color=color, linewidth=1.8)
        inside = worst[x <= min(float(fmt.max), high)][-100:]
        ends.append((name, min(float(fmt.max), high), unit * float(inside[-1] if inside.size else 1), color))
        least = min(least, float(inside.min(initial=1)))
    _error_axes(ax, low, high, least / 8 if scale == "log" else None)
    label_points(ax, ends)
    return ax


def _error_axes(ax: Axes, low: float, high: float, least: float | None) -> None:
    ax.set_xscale("log", base=2)
    ax.set_xlim(low, high)
    power_ticks(ax.xaxis, np.log2(low), np.log2(high), most=14)
    if least is None:
        ax.set_ylim(0, 52)
    else:
        ax.set_yscale("log", base=2, nonpositive="clip")
        ax.set_ylim(least, 1.25)
        power_ticks(ax.yaxis, np.log2(least), 0.4)
    ax.grid(axis="y")
    ax.set_xlabel("x")
    ax.set_ylabel("relative error" if least else "relative error, %")


def _common_range(formats: Sequence[Format]) -> Limits:
    """From half the least positive value to the largest one, within binary64's normal numbers."""
    least = min(log2(fmt.min_positive) for fmt in formats if fmt.min_positive)
    return 2.0 ** max(least - 1, -1000), 2.0 ** min(max(log2(fmt.max) for fmt in formats), 1000)


def error_curve(fmt: Format, rounding: str | Rounding, low: float, high: float) -> tuple[Any, Any]:
    """Points x of [low, high], all values and midpoints of small formats among them; |rounded x - x| / x there."""
    x = np.geomspace(low, high, 6001)
    if fmt.bits <= 12:
        values = np.array([float(v) for v in finite_values(fmt) if v > 0])
        edges = np.concatenate([[values[0] / 2], values])
        inside = [np.linspace(a, b, 17) for a, b in pairwise(edges)]
        x = np.unique(np.concatenate([x[(x < values[0] / 2) | (x > values[-1])], *inside]))
        x = x[(low <= x) & (x <= high)]
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(quantize(x, fmt, rounding=rounding).astype(np.float64) - x) / x
    return x, np.where(np.isfinite(error), error, np.nan)


def worst_error(fmt: Format, rounding: str | Rounding, low: float, high: float) -> tuple[Any, Any]:
    """Points x of [low, high] up to the largest value; the largest error between x's neighbours, divided by x."""
    x = np.geomspace(low, high, 4001)
    below, above = (quantize(x, fmt, rounding=f"toward_{side}").astype(np.float64) for side in ("negative", "positive"))
    between = (x < float(fmt.max)) & (below < above)
    gap = (above - below)[between] / x[between]
    nearest = Rounding.parse(rounding) in TIED
    return x[between], np.minimum(gap / 2 if nearest else gap, 1.0)


@styled
def double_rounding(x: float, middle: str | Format, target: str | Format, *, ax: Axes | None = None) -> Axes:
    """The ways of one number to a format: at once, and by a second format with ties to even or to odd.

    The axis counts quanta of the second format from the midpoint of x's neighbours in the target. A way
    that ends elsewhere than the first is red.

    Args:
        x: a number, at best one that goes different ways.
        middle: the format on the way, finer than the target.
        target: the format in the end.
        ax: where to draw; a new figure if None.

    >>> ax = double_rounding(1 + 2**-8 + 2**-25, "float32", "bfloat16")
    """
    between, last = scalar_format(middle), scalar_format(target)
    below, above = (_fraction(quantize(x, last, rounding=f"toward_{side}")) for side in ("negative", "positive"))
    if below == above:
        raise ValueError(f"x = {x!r} is given, a value of {target}; it must lie between two")
    midpoint = (below + above) / 2
    just_above = np.nextafter(float(midpoint), np.inf)
    quantum = _fraction(quantize(just_above, between, rounding="toward_positive")) - midpoint
    ax = axes(ax, 9.0, 3.0)
    routes = {"at once": None, f"by {middle}, ties to even": "ties_to_even", f"by {middle}, to odd": "to_odd"}
    direct = _fraction(quantize(x, last))
    for y, mode in zip((2.0, 1.0, 0.0), routes.values(), strict=True):
        stop = x if mode is None else quantize(x, between, rounding=mode)
        end = _fraction(quantize(stop, last))
        start, on_way = (float((_fraction(v) - midpoint) / quantum) for v in (x, stop))
        _route(ax, y, start, on_way, 3.0 if end > midpoint else -3.0, INK if end == direct else TIE)
    ax.text(float((_fraction(x) - midpoint) / quantum), 2.14, "x", ha="center", va="bottom", style="italic")
    _fine_grid(ax, number_text(below, 9), number_text(above, 9), number_text(midpoint, 12))
    ax.set_yticks((2, 1, 0), list(routes))
    ax.set_xlabel(f"distance to the midpoint, in quanta of {middle}")
    return ax


def _fraction(value: Any) -> Fraction:
    return Fraction(float(value))


def _route(ax: Axes, y: float, start: float, stop: float, side: float, color: str) -> None:
    """One way: from x (black dot) over the value on the way (blue dot) to a side."""
    if abs(start - stop) > 0.02:
        ax.plot(stop, y, "o", color=STEP, markersize=7, zorder=3, markeredgecolor="white")
        bend = "arc3,rad=-0.5" if stop > start else "arc3,rad=0.5"
        arrow = {"arrowstyle": "->", "color": STEP, "shrinkA": 3, "shrinkB": 4, "connectionstyle": bend}
        ax.annotate("", (stop, y), (start, y), arrowprops=arrow)
    ax.plot(start, y, "o", color=INK, markersize=5, zorder=4)
    ax.annotate("", (side, y), (stop, y), arrowprops={"arrowstyle": "-|>", "color": color, "lw": 1.6, "shrinkA": 5})


def _fine_grid(ax: Axes, below: str, above: str, midpoint: str) -> None:
    """The values of the format on the way around the midpoint, and what lies at both sides."""
    for k in range(-2, 3):
        ax.axvline(k, color=MUTED if k == 0 else FAINT, linewidth=1.2 if k == 0 else 0.8, zorder=0)
    ax.text(0, 2.62, f"midpoint {midpoint}", ha="center", va="bottom", fontsize=9, color=MUTED)
    ax.text(-3, 2.62, f"← {below}", ha="center", va="bottom", fontsize=9, fontweight="bold")
    ax.text(3, 2.62, f"{above} →", ha="center", va="bottom", fontsize=9, fontweight="bold")
    ax.set(xlim=(-3.6, 3.6), ylim=(-0.5, 2.6), xticks=range(-2, 3))
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


@styled
def curves(
    lines: Mapping[str, tuple[Any, Any]],
    *,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    log: str = "",
    labels: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Curves with their names at their right ends.

    Args:
        lines: x and y, float arrays of one length, by name; a 2-d y is drawn as a thin line per column
            under their mean.
        xlabel, ylabel, title: texts, with units where there are any.
        log: axes in powers of two: "", "x", "y" or "xy".
        labels: whether to write the names.
        ax: where to draw; a new figure if None.

    >>> ax = curves({"error": ([1, 2, 4], [1.0, 0.5, 0.25])}, xlabel="N", log="xy")
    """
    ax = axes(ax, 9.0, 3.8)
    ends = []
    for i, (name, (x, y)) in enumerate(lines.items()):
        color = SERIES_COLORS[i % len(SERIES_COLORS)]
        many = np.asarray(y, np.float64)
        if many.ndim == 2:
            ax.plot(x, many, color=color, linewidth=0.5, alpha=0.25)
        mean = many.mean(axis=1) if many.ndim == 2 else many
        ax.plot(x, mean, color=color, label=name)
        ends.append((name, float(mean[-1]), color))
    _scales(ax, log)
    ax.margins(x=0.01)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_title(title)
    if labels:
        label_ends(ax, ends)
    return ax


def _scales(ax: Axes, log: str) -> None:
    for letter in log:
        axis = ax.xaxis if letter == "x" else ax.yaxis
        getattr(ax, f"set_{letter}scale")("log", base=2)
        low, high = axis.get_view_interval()
        power_ticks(axis, np.log2(low), np.log2(high))
