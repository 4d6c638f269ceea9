"""Pictures of block formats: photos in blocks, maps of scales, what scale rules do; heat maps and scatters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import encode, quantize
from ..block_arrays import BlockArray
from ..block_functions import scale_values
from ..block_layout import Axis
from ..blocks import BlockFormat
from ..named_blocks import get_format
from ..statistics import measure
from .style import FAINT, FIELD_COLORS, INK, MUTED, SERIES_COLORS, axes, label_ends, power_ticks, pyplot, styled
from .values import power_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Formats = Mapping[str, str | BlockFormat] | Sequence[str | BlockFormat]
SHARES = {"saturated": "#D55E00", "last_bin": "#E69F00", "underflow": "#56B4E9"}


@styled
def photo_panels(image: Any, formats: Mapping[str, str | None] | Sequence[str], *, axis: Axis = -1) -> Figure:
    """A photo, quantized to several formats, a panel each; colours are quantized one by one.

    Args:
        image: uint8 or float array (rows, columns) or (rows, columns, 3), of 0 … 255.
        formats: formats by title; None is the photo itself.
        axis: of one-dimensional blocks: -1 along rows of pixels, 0 along columns.

    >>> import numpy as np
    >>> figure = photo_panels(np.arange(64 * 64).reshape(64, 64) % 256, {"photo": None, "mxfp4": "mxfp4"})
    """
    named = dict(formats) if isinstance(formats, Mapping) else {name: name for name in formats}
    columns = min(len(named), 3)
    rows = -(-len(named) // columns)
    height, width = np.shape(image)[:2]
    size = (3.3 * columns, (3.3 * height / width + 0.25) * rows)
    figure, grid = pyplot().subplots(rows, columns, figsize=size, squeeze=False)
    for panel in grid.flat:
        panel.set_axis_off()
    for panel, (title, format) in zip(grid.flat, named.items(), strict=False):
        _photo(panel, posterized(image, format, axis=axis) if format else np.asarray(image))
        panel.set_title(title)
    return figure


def _photo(ax: Axes, image: Any) -> None:
    pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    ax.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")


def posterized(image: Any, format: str | BlockFormat, *, axis: Axis = -1) -> Any:
    """The values of an image in a format: float32, of the image's shape.

    Args:
        image: array (rows, columns) or (rows, columns, 3).
        format: a format or its name.
        axis: of one-dimensional blocks of pixels, -1 or 0.

    >>> import numpy as np
    >>> posterized(np.full((2, 32, 3), 255), "mxfp4")[0, 0].tolist()
    [192.0, 192.0, 192.0]
    """
    planes = np.asarray(image, np.float32)
    if planes.ndim == 3:  # colours first, so that blocks hold pixels of one colour
        return np.moveaxis(posterized_planes(np.moveaxis(planes, -1, 0), format, axis), 0, -1)
    return posterized_planes(planes, format, axis)


def posterized_planes(planes: Any, format: str | BlockFormat, axis: Axis) -> Any:
    """The values of planes (…, rows, columns) in a format."""
    fmt = get_format(format)
    if isinstance(fmt, BlockFormat) and len(fmt.block) == 1 and not fmt.flat:
        axis = -2 if axis == 0 else axis
    else:
        axis = -1
    return quantize(np.ascontiguousarray(planes), fmt, axis=axis)


@styled
def scale_map(
    x: Any, format: str | BlockFormat | BlockArray, *, axis: Axis = -1, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """The scales of a matrix as a map of their exponents, each block as large as its elements.

    Args:
        x: matrix; or None where `format` is a BlockArray.
        format: a block format over one or two axes, or its name; or a matrix in it.
        axis: the block axis.
        title: the format and its block, if None.
        ax: where to draw; a new figure if None.

    >>> import numpy as np
    >>> ax = scale_map(np.random.default_rng(0).random((64, 64)), "mxfp4")
    """
    q = format if isinstance(format, BlockArray) else encode(x, format, axis=axis)
    if q.format.flat or len(q.shape) != 2 or not q.format.block:
        raise ValueError(f"{q.format} over shape {q.shape} is given; a map takes a matrix in blocks along its axes")
    ax = axes(ax, 5.0, 4.0)
    with np.errstate(divide="ignore"):
        exponents = np.log2(np.abs(scale_values(q).astype(np.float64)) * (q.tensor_scale or 1.0))
    rows, columns = q.shape
    finite = exponents[np.isfinite(exponents)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    colors: dict[str, Any] = {"cmap": "viridis", "vmin": low, "vmax": high, "interpolation": "nearest"}
    image = ax.imshow(exponents, extent=(0, columns, rows, 0), **colors)
    ax.set(xlabel="column", ylabel="row", aspect="equal" if max(q.shape) < 4 * min(q.shape) else "auto")
    ax.set_title(title if title is not None else f"{q.format}: {q.scales.size:,} scales")
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.85)
    bar.set_label("scale")
    ticks = np.arange(np.ceil(low), np.floor(high) + 1, max(1, (high - low) // 8))
    bar.set_ticks(ticks.tolist(), labels=[power_text(tick) for tick in ticks])
    return ax


@styled
def block_maximum(
    formats: Formats, *, limits: tuple[float, float] = (1.0, 2.0), steps: int = 801, ax: Axes | None = None
) -> Axes:
    """What the largest element of a block becomes, over what it is: 1 on the dashed line, less where it saturates.

    Args:
        formats: block formats by name, or their names.
        limits: largest elements shown; a binade of power-of-two scales repeats itself.
        steps: how many of them are tried.
        ax: where to draw; a new figure if None.

    >>> ax = block_maximum({"floor": "mxfp4", "rceil": "block(e2m1, rule=rceil)"})
    """
    ax = axes(ax, 9.0, 3.6)
    ax.axhline(1.0, color=MUTED, linewidth=0.8, linestyle="--")
    amax = np.linspace(*limits, steps, dtype=np.float32)[:-1]
    ends = []
    for i, (name, fmt) in enumerate(_named(formats).items()):
        result = quantize(amax[:, None], fmt, axis=-1)[:, 0] if fmt.block != () else quantize(amax, fmt)
        color = SERIES_COLORS[i % len(SERIES_COLORS)]
        ratio = result / amax
        ax.plot(amax, ratio, color=color, linewidth=max(1.4, 5.4 - 1.4 * i), label=name)  # lines on lines
        ends.append((name, float(ratio[-1]), color))
    ax.set_xlim(*limits)
    ax.set(xlabel="largest element of a block", ylabel="result / largest element")
    ax.grid(axis="y")
    label_ends(ax, ends)
    return ax


def _named(formats: Formats) -> dict[str, BlockFormat]:
    """Block formats by the names to show."""
    pairs = formats.items() if isinstance(formats, Mapping) else [(str(name), name) for name in formats]
    found = {}
    for name, format in pairs:
        fmt = get_format(format)
        if not isinstance(fmt, BlockFormat):
            raise ValueError(f"{fmt} is given; a block format is wanted, such as mxfp4")
        found[name] = fmt
    return found


@styled
def rule_bars(x: Any, formats: Formats, *, axis: Axis = -1, **options: Any) -> Figure:
    """What each format does to an array: shares that saturate, fall into the last bin or vanish; and the slope.

    Args:
        x: array.
        formats: block formats by name, or their names.
        axis: of blocks along one axis.
        options: those of `numfmt.encode`, as rounding="stochastic", seed=0.

    >>> import numpy as np
    >>> figure = rule_bars(np.random.default_rng(0).normal(size=(8, 64)), {"floor": "mxfp4", "nvfp4": "nvfp4"})
    """
    named = _named(formats)
    figure, (left, right) = pyplot().subplots(
        1, 2, figsize=(9.6, 0.42 * len(named) + 1.3), width_ratios=(1.6, 1), sharey=True
    )
    height = 0.8 / len(SHARES)
    low = 1.0
    for row, fmt in enumerate(named.values()):
        found = measure(x, fmt, axis=axis if len(fmt.block) == 1 and not fmt.flat else -1, **options)
        for i, (share, color) in enumerate(SHARES.items()):
            y = row + (i - 1) * height
            left.barh(y, 100 * found[share], height=0.9 * height, color=color, label=share if row == 0 else None)
            left.text(100 * found[share], y, f" {100 * found[share]:.1f}", va="center", fontsize=7.5, color=MUTED)
        low = min(low, found.slope)
        right.plot(found.slope, row, "o", color=INK, markersize=6)
        place: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "va": "center", "fontsize": 9}
        right.annotate(f"{found.slope:.4f}", (found.slope, row), (-7, 0), **place)
    left.set_yticks(range(len(named)), list(named))
    left.set_ylim(len(named) - 0.5, -0.5)
    left.set_xlabel("% of elements")
    left.margins(x=0.12)
    left.legend([name.replace("_", " ") for name in SHARES], frameon=False, fontsize=8, loc="lower right")
    right.axvline(1.0, color=MUTED, linewidth=0.8, linestyle="--")
    right.grid(axis="y", color=FAINT)
    right.set_xlim(low - 0.6 * (1.001 - low), 1 + 0.15 * (1.001 - low))
    right.set_xlabel("slope ⟨x, q⟩ / ⟨x, x⟩")
    return figure


@styled
def landing(x: Any, formats: Formats, *, axis: Axis = -1, ax: Axes | None = None) -> Axes:
    """Where the elements of an array go: the array on top, then for each format the values that they become.

    A dot is as large as the share of elements that land on its value; the share of the largest is written
    beside it.

    Args:
        x: array.
        formats: block formats by name, or their names.
        axis: of blocks along one axis.
        ax: where to draw; a new figure if None.

    >>> import numpy as np
    >>> ax = landing(np.random.default_rng(0).normal(0.95, 0.01, 1024), ["mxfp8_e4m3", "mxfp4"])
    """
    named = _named(formats)
    ax = axes(ax, 9.0, 0.55 * len(named) + 1.5)
    flat = np.asarray(x, np.float64).reshape(-1)
    ax.plot(flat, np.zeros(flat.size), "|", color=INK, markersize=12, markeredgewidth=0.4, alpha=0.5)
    mean = flat.mean()
    ax.axvline(mean, color=MUTED, linewidth=0.8, linestyle="--", zorder=0)
    for row, fmt in enumerate(named.values(), start=1):
        values, counts = np.unique(quantize(x, fmt, axis=axis if len(fmt.block) == 1 else -1), return_counts=True)
        shares = counts / flat.size
        sizes, color = 12 + 380 * shares, FIELD_COLORS["scale"]
        ax.scatter(values, np.full(values.size, row), s=sizes, color=color, alpha=0.8, linewidths=0)
        top = shares.argmax()
        place: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "fontsize": 8, "color": MUTED}
        ax.annotate(f"{100 * shares[top]:.0f} %", (values[top], row), (0, 11), **place)
    ax.set_yticks(range(len(named) + 1), ["x", *named])
    ax.set_ylim(len(named) + 0.6, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("value (dashed: the mean of x)")
    ax.grid(axis="x")
    return ax


@styled
def heat_map(
    values: Any,
    *,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    label: str = "",
    digits: int | None = None,
    limits: tuple[float | None, float | None] = (None, None),
    ax: Axes | None = None,
) -> Axes:
    """A matrix as colours, with a name for each row and column.

    Args:
        values: matrix.
        rows, columns: names; none if empty.
        label: of the colour bar.
        digits: decimals of the number written into each cell; none if None.
        limits: values of the first and the last colour.
        ax: where to draw; a new figure if None.

    >>> ax = heat_map([[1, 2], [3, 4]], rows="ab", columns="cd", digits=0)
    """
    matrix = np.asarray(values, np.float64)
    ax = axes(ax, 2.2 + (0.85 if len(columns) else 0.25) * matrix.shape[1], 1.0 + 0.25 * matrix.shape[0])
    image = ax.imshow(matrix, cmap="cividis", aspect="auto", vmin=limits[0], vmax=limits[1], interpolation="nearest")
    ax.figure.colorbar(image, ax=ax, shrink=0.85).set_label(label)
    ax.set_yticks(range(len(rows)), list(rows), fontsize=8)
    ax.set_xticks(range(len(columns)), list(columns), fontsize=8)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    if digits is not None:
        middle = np.nanmean(image.get_clim())
        for (row, column), value in np.ndenumerate(matrix):
            ax.text(column, row, f"{value:.{digits}f}", ha="center", va="center", fontsize=7.5,
                    color="white" if value < middle else "black")  # fmt: skip
    return ax


@styled
def scatter(
    points: Mapping[str, tuple[Any, Any]],
    *,
    xlabel: str = "",
    ylabel: str = "",
    identity: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Points by name, a colour each, over the line where y is x.

    Args:
        points: x and y by name.
        xlabel, ylabel: texts.
        identity: whether to draw that line, on axes of one scale.
        ax: where to draw; a new figure if None.

    >>> ax = scatter({"a": ([0, 1], [0, 0.9])}, xlabel="before", ylabel="after")
    """
    ax = axes(ax, 4.4, 4.2)
    for i, (name, (x, y)) in enumerate(points.items()):
        ax.plot(np.ravel(x), np.ravel(y), "o", color=SERIES_COLORS[i % len(SERIES_COLORS)], markersize=3.2, alpha=0.55,
                markeredgewidth=0, label=name)  # fmt: skip
    if identity:
        low, high = np.min([ax.get_xlim(), ax.get_ylim()]), np.max([ax.get_xlim(), ax.get_ylim()])
        ax.plot([low, high], [low, high], color=MUTED, linewidth=0.8, linestyle="--", zorder=0)
        ax.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if len(points) > 1:
        ax.legend(frameon=False, fontsize=8, handletextpad=0.2, markerscale=2)
    return ax


@styled
def dots(
    values: Mapping[str, Mapping[str, float]],
    *,
    xlabel: str = "",
    line: float | None = None,
    log: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Numbers on a line for each name; the same kinds of numbers have the same colour.

    Args:
        values: name → kind → number.
        xlabel: text.
        line: where to draw a dashed line.
        log: an axis in powers of two.
        ax: where to draw; a new figure if None.

    >>> ax = dots({"floor": {"nearest": 0.98, "stochastic": 0.99}}, line=1.0)
    """
    ax = axes(ax, 9.0, 0.34 * len(values) + 1.1)
    kinds = list(dict.fromkeys(kind for numbers in values.values() for kind in numbers))
    for i, kind in enumerate(kinds):
        at = [(numbers[kind], row) for row, numbers in enumerate(values.values()) if kind in numbers]
        ax.plot(*zip(*at, strict=True), "oDsv^P"[i % 6], color=SERIES_COLORS[(i + 1) % 7], markersize=7, label=kind,
                markeredgecolor="white")  # fmt: skip
    if line is not None:
        ax.axvline(line, color=MUTED, linewidth=0.8, linestyle="--", zorder=0)
    ax.set_yticks(range(len(values)), list(values))
    ax.set_ylim(len(values) - 0.5, -0.5)
    ax.grid(axis="both")
    if log:
        ax.set_xscale("log", base=2)
        low, high = ax.get_xlim()
        power_ticks(ax.xaxis, np.log2(low), np.log2(high))
    ax.set_xlabel(xlabel)
    if len(kinds) > 1:
        ax.legend(frameon=False, fontsize=8, ncols=len(kinds), loc="lower left", bbox_to_anchor=(0, 1))
    return ax
