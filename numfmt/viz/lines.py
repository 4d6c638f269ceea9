"""Pictures of sets of values: on a number line, their range, their density."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from ..carriers import floor_log2
from ..formats import FloatFormat, Format
from ..named import NAMED
from .style import CLASS_COLORS, MUTED, SERIES_COLORS, Limits, Scale, axes, label_points, power_ticks, styled
from .values import as_formats, finite_values, is_subnormal, log2, number_text, power_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TICK_COLORS = {"normal": MUTED, "subnormal": CLASS_COLORS["subnormal"], "zero": CLASS_COLORS["zero"]}  # zero on top


@styled
def number_line(
    formats: str | Format | Sequence[str | Format],
    *,
    limits: Limits | None = None,
    scale: Scale = "linear",
    ax: Axes | None = None,
) -> Axes:
    """The values of formats of at most 16 bits as ticks on a line each; subnormal ones are orange.

    Args:
        formats: formats or names, from top to bottom.
        limits: the part of the line to show; all values if None.
        scale: "linear"; "log" for the positive values; "symlog" for both signs on logarithmic axes.
        ax: where to draw; a new figure if None.

    >>> ax = number_line(["e2m1", "e3m2"], limits=(0, 8))
    """
    found = as_formats(formats)
    ax = axes(ax, 9.0, 0.72 * len(found) + 0.85)
    ranges = [finite_values(fmt) for _, fmt in found]
    low, high = limits or (float(min(r[0] for r in ranges)), float(max(r[-1] for r in ranges)))
    least = min(fmt.min_positive for _, fmt in found if fmt.min_positive)
    if scale == "log":
        low = low if limits else float(least)
        if low <= 0:
            raise ValueError(f"limits {limits} are given; on a logarithmic line they must be positive")
    some = False
    for row, ((_, fmt), values) in enumerate(zip(found, ranges, strict=True)):
        ticks = _ticks(fmt, values, low, high)
        some = some or bool(ticks["subnormal"])
        width = _tick_width(sum(map(len, ticks.values())))
        ax.plot([low, high], [-row, -row], color=MUTED, linewidth=0.8, zorder=1)
        for kind, color in TICK_COLORS.items():
            tall = 0.36 if kind == "zero" else 0.27
            ax.vlines(ticks[kind], -row - tall, -row + tall, color=color, linewidth=width, label=kind)
    _line_axis(ax, scale, low, high, float(least))
    ax.set_ylim(-len(found) + 0.4, 0.75)
    ax.set_yticks([-row for row in range(len(found))], [_line_label(*f, v) for f, v in zip(found, ranges, strict=True)])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("value (orange: subnormal)" if some else "value")
    return ax


def _ticks(fmt: Format, values: list[Fraction], low: float, high: float) -> dict[str, list[float]]:
    """The values inside the limits, by class."""
    least_normal = fmt.min_normal if isinstance(fmt, FloatFormat) and fmt.has_subnormals else 0
    ticks: dict[str, list[float]] = {kind: [] for kind in TICK_COLORS}
    for value in values:
        number = float(value)
        if low <= number <= high:
            ticks["zero" if number == 0 else "subnormal" if abs(value) < least_normal else "normal"].append(number)
    return ticks


def _tick_width(count: int) -> float:
    return 1.6 if count < 80 else 1.0 if count < 300 else 0.5


def _line_label(name: str, fmt: Format, values: list[Fraction]) -> str:
    low, high = number_text(fmt.min), number_text(fmt.max)
    ends = f"−{high} … {high}".replace("−≈ ", "≈ −")
    if fmt.min != -fmt.max:
        ends = f"{low} … {high}"
    return f"{name}\n{len(values)} values, {ends}"


def _line_axis(ax: Axes, scale: Scale, low: float, high: float, least: float) -> None:
    """The horizontal axis in its scale, with ticks at powers of two where it is logarithmic."""
    if scale == "linear":
        margin = 0.015 * (high - low)
        ax.set_xlim(low - margin, high + margin)
        return
    if scale == "log":
        ax.set_xscale("log", base=2)
        ax.set_xlim(low / 1.15, high * 1.15)
        power_ticks(ax.xaxis, math.log2(low), math.log2(high), most=14)
        return
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    ax.set_xscale("symlog", base=2, linthresh=least, linscale=1.0)
    ax.set_xlim(low * 1.3, high * 1.3)
    first, last = math.ceil(math.log2(least)), math.floor(math.log2(max(abs(low), high)))
    step = max(1, -(-(last - first) // 5))
    exponents = range(last, first - 1, -step)
    ticks = [-(2.0**e) for e in exponents if -(2.0**e) >= low] + [0.0] + [2.0**e for e in exponents if 2.0**e <= high]
    ax.xaxis.set_major_locator(FixedLocator(sorted(ticks)))
    ax.xaxis.set_minor_locator(NullLocator())

    def text(x: float, _: object) -> str:
        return "0" if x == 0 else ("−" if x < 0 else "") + power_text(math.log2(abs(x)))

    ax.xaxis.set_major_formatter(FuncFormatter(text))


@styled
def dynamic_range(formats: Sequence[str | Format] | None = None, *, ax: Axes | None = None) -> Axes:
    """Bars from the least positive value over the smallest normal one to the largest, grouped by family.

    The axis shows binary exponents, in equal steps up to 16 and in equal ratios beyond.

    Args:
        formats: formats or names; every named format and P3109's of 8 bits if None.
        ax: where to draw; a new figure if None.

    >>> ax = dynamic_range(["float16", "bfloat16", "e4m3fn", "int8"])
    """
    rows = _by_family(_all_formats() if formats is None else [*formats])
    count = sum(isinstance(row, str) for row in rows)
    ax = axes(ax, 9.0, 0.165 * len(rows) + 0.11 * count + 0.9)
    ax.set_xscale("symlog", base=2, linthresh=16, linscale=4)
    y, ticks, labels = 0.0, [], []
    for row in rows:
        if isinstance(row, str):
            y -= 0.55
            place = ax.get_yaxis_transform()
            ax.text(-0.012, y + 0.2, row, transform=place, ha="right", va="center", fontsize=8, style="italic")
            y -= 0.85
            continue
        _bar(ax, y, row[1])
        ticks.append(y)
        labels.append(row[0])
        y -= 1
    ax.set_yticks(ticks, labels, fontsize=8)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_ylim(y + 0.3, 0.7)
    ax.margins(x=0.02)
    _exponent_axis(ax)
    return ax


def _all_formats() -> list[str | Format]:
    return [*NAMED, *(f"binary8p{p}se" for p in range(1, 8))]


def _by_family(formats: Sequence[str | Format]) -> list[str | tuple[str, Format]]:
    """Formats after the names of their families."""
    families = {entry.format: entry.family for entry in reversed(NAMED.values())}
    groups: dict[str, list[tuple[str, Format]]] = {}
    for name, fmt in as_formats(formats):
        custom = "P3109" if str(fmt).startswith("binary") and "p" in str(fmt) else "custom"
        groups.setdefault(families.get(fmt, custom), []).append((name, fmt))
    rows: list[str | tuple[str, Format]] = []
    for family, members in groups.items():
        rows += [family, *members]
    return rows


def _bar(ax: Axes, y: float, fmt: Format) -> None:
    """One bar of `dynamic_range`."""
    top, bottom = log2(fmt.max), log2(fmt.min_positive)
    normal = log2(fmt.min_normal) if isinstance(fmt, FloatFormat) else top
    if isinstance(fmt, FloatFormat):
        ax.barh(y, normal - bottom, left=bottom, height=0.66, color=CLASS_COLORS["subnormal"])
        ax.barh(y, top - normal, left=normal, height=0.66, color=CLASS_COLORS["normal"])
        text = f"p = {fmt.precision}"
    else:
        ax.barh(y, max(top - bottom, 0.12), left=bottom, height=0.3, color=MUTED)
        text = f"{fmt.bits} bits" if fmt.bits > 1 else "1 bit"
    ax.annotate(text, (top, y), (4, 0), textcoords="offset points", va="center", fontsize=7.5, color=MUTED)


def _exponent_axis(ax: Axes) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = ax.get_xlim()
    known = (0, *(sign * e for e in (8, 16, 128, 1024, 2**14, 2**18) for sign in (-1, 1)))
    ax.xaxis.set_major_locator(FixedLocator(sorted(e for e in known if low <= e <= high)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda e, _: power_text(e)))
    ax.grid(axis="x")
    ax.set_xlabel("magnitude: subnormal (orange), normal (grey), fixed point or listed (thin)")


@styled
def codes_per_binade(
    formats: str | Format | Sequence[str | Format], *, limits: tuple[int, int] | None = None, ax: Axes | None = None
) -> Axes:
    """How many positive values formats of at most 16 bits have in each binade [2**e, 2**(e + 1)).

    Args:
        formats: formats or names, a line each; dotted where the values are subnormal.
        limits: first and last exponent e shown; all if None.
        ax: where to draw; a new figure if None.

    >>> ax = codes_per_binade(["e4m3fn", "e5m2", "int8"])
    """
    found = as_formats(formats)
    ax = axes(ax, 9.0, 3.6)
    counts = [binade_counts(fmt) for _, fmt in found]
    low = min(map(min, counts)) if limits is None else limits[0]
    high = max(map(max, counts)) if limits is None else limits[1]
    ax.set_yscale("log", base=2)
    ends = []
    for i, ((name, fmt), count) in enumerate(zip(found, counts, strict=True)):
        color = SERIES_COLORS[i % len(SERIES_COLORS)]
        shown = [e for e in sorted(count) if low <= e <= high]
        _steps(ax, fmt, {e: count[e] for e in shown}, color, 2.2 * (i - (len(found) - 1) / 2))
        ends.append((name, shown[-1] + 1, float(count[shown[-1]]), color))
    _binade_axes(ax, low, high, max(max(c.values()) for c in counts))
    label_points(ax, ends)
    return ax


def _steps(ax: Axes, fmt: Format, count: dict[int, int], color: str, shift: float) -> None:
    """One line of `codes_per_binade`, moved up by `shift` points so that lines of equal height stay visible."""
    from matplotlib.transforms import ScaledTranslation

    figure = ax.get_figure(root=True)
    assert figure is not None
    place = ax.transData + ScaledTranslation(0, shift / 72, figure.dpi_scale_trans)
    for e, n in count.items():
        style = (0, (1, 1)) if is_subnormal(fmt, Fraction(2) ** e) else "-"
        ax.plot([e, e + 1], [n, n], color=color, linestyle=style, linewidth=2.4, solid_capstyle="butt", transform=place)
        if count.get(e + 1, n) != n:
            ax.plot([e + 1, e + 1], [n, count[e + 1]], color=color, linewidth=0.7, transform=place)


def binade_counts(fmt: Format) -> Counter[int]:
    """Number of positive values by binade."""
    return Counter(floor_log2(v) for v in finite_values(fmt) if v > 0)


def _binade_axes(ax: Axes, low: int, high: int, most: int) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    step = next(s for s in (1, 2, 4, 8, 16, 32, 64) if (high - low) / s <= 14 or s == 64)
    ax.xaxis.set_major_locator(FixedLocator([e for e in range(low, high + 2) if e % step == 0]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda e, _: power_text(e)))
    ax.yaxis.set_major_locator(FixedLocator([2**k for k in range(most.bit_length() + 1)]))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:.0f}"))
    ax.set(xlim=(low - 0.3, high + 1.3), ylim=(0.75, most * 1.35))
    ax.grid(axis="y")
    ax.set_xlabel("magnitude (dotted: subnormal values)")
    ax.set_ylabel("positive values per binade")
