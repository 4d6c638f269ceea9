"""Pictures of training runs, of their gradients beside formats, and of tables of right and wrong results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats import FloatFormat, Format
from .style import CLASS_COLORS, FIELD_COLORS, INK, MUTED, SERIES_COLORS, axes, label_ends, power_ticks, pyplot, styled
from .values import as_formats, log2

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Verdict = tuple[int, int] | str
RIGHT, WRONG = FIELD_COLORS["significand"], FIELD_COLORS["sign"]


@styled
def loss_gaps(losses: Mapping[str, Any], *, reference: str = "float32", window: int = 25) -> Figure:
    """Losses of training runs, and how far each lies above the one of reference in percent; means over a window.

    Args:
        losses: by name, one number a step, or a column for each of several runs: these are thin lines under
            their mean.
        reference: what the others are compared with.
        window: steps that a mean is taken over.

    >>> figure = loss_gaps({"float32": [3, 2, 1], "mxfp8": [3, 2.1, 1.1]}, window=2)
    """
    if reference not in losses:
        raise ValueError(f"reference={reference!r} is given; it is one of the runs: {', '.join(losses)}")
    means = {name: running_mean(loss, window) for name, loss in losses.items()}
    base = means[reference].mean(axis=1, keepdims=True)
    steps = np.arange(len(base)) + len(losses[reference]) - len(base) + 1
    figure, (left, right) = pyplot().subplots(1, 2, figsize=(10.4, 4.4), width_ratios=(1, 1.8))
    ends = []
    for i, (name, mean) in enumerate(means.items()):
        color, gap = SERIES_COLORS[i % len(SERIES_COLORS)], 100 * (mean / base - 1)
        style = "-" if i < len(SERIES_COLORS) else "--"
        left.plot(steps, mean.mean(axis=1), style, color=color, label=name)
        right.plot(steps, gap.mean(axis=1), style, color=color, label=name)
        if mean.shape[1] > 1:
            right.plot(steps, gap, color=color, linewidth=0.5, alpha=0.5)
        ends.append((name, float(gap[-1].mean()), color))
    left.set(xlabel="step", ylabel="loss, nats a byte")
    right.set(xlabel="step", ylabel=f"loss, % above {reference}")
    for ax in (left, right):
        ax.margins(x=0.01, y=0.1)
        ax.grid(axis="y")
    label_ends(right, ends)
    return figure


def running_mean(values: Any, window: int) -> Any:
    """Means over each `window` neighbours along the first axis, over all where they are fewer; a float64 matrix.

    >>> running_mean([1, 2, 3, 4], 2).ravel().tolist()
    [1.5, 2.5, 3.5]
    """
    columns = np.asarray(values, np.float64).reshape(len(values), -1)
    width = min(max(window, 1), len(columns))
    sums = np.cumsum(np.concatenate([np.zeros((1, columns.shape[1])), columns]), axis=0)
    return (sums[width:] - sums[:-width]) / width


@styled
def magnitudes(
    x: Any,
    formats: Sequence[str | Format],
    *,
    top: float | None = None,
    xlabel: str = "magnitude",
    ax: Axes | None = None,
) -> Axes:
    """How large the elements of an array are, in powers of two, and under that which of them formats can hold.

    A bar runs from the smallest positive value of a format to its largest; orange is subnormal. The number
    beside it is the share of elements that become zero when rounded to nearest.

    Args:
        x: array; zeros and what is not finite are left out.
        formats: scalar formats with a range, or their names.
        top: the largest value of each format is put here, as a scale would do; as it is if None.
        xlabel: text.
        ax: where to draw; a new figure if None.

    >>> ax = magnitudes([1e-4, 2e-3, 0.5], ["e4m3fn", "e5m2"])
    """
    found = as_formats(formats)
    sizes = np.abs(np.asarray(x, np.float64).reshape(-1))
    sizes = sizes[(sizes > 0) & np.isfinite(sizes)]
    if not sizes.size:
        raise ValueError(f"an array of shape {np.shape(x)} is given; it has no element that is finite and not zero")
    ax = axes(ax, 6.0, 2.6 + 0.3 * len(found))
    exponents = np.log2(sizes)
    low, high = float(exponents.min()), float(exponents.max())
    for row, (_, fmt) in enumerate(found):
        shift = 0.0 if top is None else math.log2(top) - log2(fmt.max)
        below = float(np.mean(sizes <= 2.0 ** (log2(fmt.min_positive) + shift - 1)))
        low, high = min(low, log2(fmt.min_positive) + shift), max(high, log2(fmt.max) + shift)
        _range_bar(ax, -0.16 * (row + 1), fmt, shift, f"{below:.1%} to zero")
    bins = np.arange(math.floor(exponents.min()), math.ceil(exponents.max()) + 0.5, 0.5)
    counts, edges = np.histogram(exponents, bins)
    ax.stairs(counts / max(counts.max(), 1), 2.0**edges, fill=True, color=MUTED, alpha=0.75)
    ax.set_xscale("log", base=2)
    low, high = low - 1 - 0.17 * (high - low), high + 1  # room for the text beside the longest bar
    ax.set_xlim(2.0**low, 2.0**high)
    power_ticks(ax.xaxis, low, high)
    ax.set_ylim(-0.16 * (len(found) + 0.6), 1.05)
    ax.set_yticks([-0.16 * (row + 1) for row in range(len(found))], [name for name, _ in found])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel(xlabel)
    return ax


def _range_bar(ax: Axes, y: float, fmt: Format, shift: float, text: str) -> None:
    """The range of one format on a logarithmic axis."""
    top, bottom = 2.0 ** (log2(fmt.max) + shift), 2.0 ** (log2(fmt.min_positive) + shift)
    normal = 2.0 ** (log2(fmt.min_normal) + shift) if isinstance(fmt, FloatFormat) and fmt.has_subnormals else bottom
    ax.barh(y, normal - bottom, left=bottom, height=0.09, color=CLASS_COLORS["subnormal"])
    ax.barh(y, top - normal, left=normal, height=0.09, color=FIELD_COLORS["exponent"])
    place: dict[str, Any] = {"textcoords": "offset points", "va": "center", "ha": "right", "fontsize": 7.5}
    ax.annotate(text, (bottom, y), (-4, 0), color=MUTED, **place)


@styled
def verdicts(table: Mapping[str, Mapping[str, Verdict]], *, ax: Axes | None = None) -> Axes:
    """A table of how many results are wrong: a row for each question, a column for each way to answer it.

    Args:
        table: question → way → (number of wrong results, number of all), or a text where there is no result.
        ax: where to draw; a new figure if None.

    >>> ax = verdicts({"x / 448": {"x / s": (2209, 4096), "numfmt_jax": (0, 4096)}})
    """
    columns = list(dict.fromkeys(way for row in table.values() for way in row))
    ax = axes(ax, 3.4 + 1.9 * len(columns), 0.5 + 0.27 * len(table))
    for y, row in enumerate(table.values()):
        for x, way in enumerate(columns):
            if way not in row:
                continue
            text, color, strength = _verdict(row[way])
            ax.barh(y, 0.96, left=x + 0.02, height=0.88, color=color, alpha=strength, linewidth=0)
            ax.text(x + 0.5, y, text, ha="center", va="center", fontsize=8, color=INK)
    ax.set(xlim=(0, len(columns)), ylim=(len(table) - 0.5, -0.5))
    ax.set_yticks(range(len(table)), list(table), fontsize=8.5)
    ax.set_xticks([x + 0.5 for x in range(len(columns))], columns, fontsize=9.5)
    ax.xaxis.tick_top()
    ax.set_xlabel("results that are wrong, of all", fontsize=8.5, color=MUTED)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax


def _verdict(found: Verdict) -> tuple[str, str, float]:
    """Text, colour and strength of a cell."""
    if isinstance(found, str):
        return found, WRONG, 0.55
    wrong, count = found
    if wrong == 0:
        return f"✓  {count:,}" if count > 1 else "✓", RIGHT, 0.3
    return f"{wrong:,} of {count:,}" if count > 1 else "wrong", WRONG, 0.25 + 0.4 * wrong / count
