"""The one style of all pictures: palettes, sizes, axes of powers of two, labels at the ends of lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from .values import power_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

P = ParamSpec("P")
R = TypeVar("R")
Limits = tuple[float, float]

# Okabe & Ito, Color Universal Design (2008): eight colours that colour-blind readers tell apart.
FIELD_COLORS = {  # what a bit means; the same in every picture, on the command line and on pages
    "sign": "#D55E00",  # vermillion
    "exponent": "#0072B2",  # blue
    "significand": "#009E73",  # bluish green
    "scale": "#CC79A7",  # reddish purple
    "index": "#7F7F7F",
}
CLASS_COLORS = {  # what a code is
    "zero": "#000000",
    "subnormal": "#E69F00",  # orange
    "normal": "#B4B4B4",
    "infinity": "#56B4E9",  # sky blue
    "nan": "#F0E442",  # yellow
    "unused": "#F0F0F0",
}
SERIES_COLORS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, MUTED, FAINT = "#222222", "#6E6E6E", "#DDDDDD"

STYLE: dict[str, Any] = {
    "figure.dpi": 110,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",  # it comes with matplotlib
    "mathtext.fontset": "dejavusans",
    "font.size": 10,
    "text.color": INK,
    "axes.facecolor": "white",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.unicode_minus": True,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "lines.linewidth": 1.4,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "savefig.facecolor": "white",
}


def pyplot() -> Any:
    """matplotlib.pyplot; the import error says which extra has it."""
    try:
        import matplotlib.pyplot as plt
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("drawing needs matplotlib; pip install 'numfmt-emulator[viz]'") from error
    return plt


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """The function, drawing in STYLE, which is left again afterwards.

    Not by rc_context: on leaving, that would also undo the interactive mode that a notebook's backend turns
    on when the first figure is made.
    """

    @wraps(draw)
    def within(*args: P.args, **kwargs: P.kwargs) -> R:
        parameters = pyplot().rcParams
        before = {name: parameters[name] for name in STYLE}
        parameters.update(STYLE)
        try:
            return draw(*args, **kwargs)
        finally:
            parameters.update(before)

    return within


def axes(ax: Axes | None, width: float, height: float) -> Axes:
    """The given Axes, or those of a new figure of that size in inches."""
    if ax is not None:
        return ax
    made: Axes = pyplot().subplots(figsize=(width, height))[1]
    return made


@styled
def panels(rows: int, columns: int, *, width: float = 9.0, height: float = 3.2, **options: Any) -> tuple[Figure, Any]:
    """A figure in STYLE, and its rows × columns Axes.

    Args:
        rows, columns: number of panels.
        width, height: of the figure, in inches.
        options: those of matplotlib.pyplot.subplots, as sharey=True.

    Returns:
        The Figure, and its Axes: an array of them, or one alone.

    >>> figure, (left, right) = panels(1, 2)
    """
    made: tuple[Figure, Any] = pyplot().subplots(rows, columns, figsize=(width, height), **options)
    return made


def power_ticks(axis: Axis, low: float, high: float, most: int = 9) -> None:
    """Ticks at powers of two on a logarithmic axis that runs from 2**low to 2**high."""
    import math

    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    step = next(s for s in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024) if (high - low) / s <= most or s == 1024)
    first = math.ceil(low / step) * step
    axis.set_major_locator(FixedLocator([2.0**e for e in range(first, math.floor(high) + 1, step)]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: power_text(math.log2(value))))
    axis.set_minor_locator(NullLocator())


def label_ends(ax: Axes, labels: Iterable[tuple[str, float, str]]) -> None:
    """Texts at the right edge, each beside its y and in its colour, moved apart where they would overlap.

    Args:
        ax: Axes with their final limits and scales.
        labels: (text, y in data units, colour).
    """
    right = ax.get_xlim()[1]
    label_points(ax, [(text, right, y, color) for text, y, color in labels])


def label_points(ax: Axes, labels: Iterable[tuple[str, float, float, str]]) -> None:
    """Texts to the right of points, each in its colour, moved apart where they would overlap.

    Args:
        ax: Axes with their final limits and scales.
        labels: (text, x, y in data units, colour).
    """
    place = ax.transData + ax.transAxes.inverted()
    points = ax.get_position().height * ax.figure.get_size_inches()[1] * 72  # type: ignore[union-attr]
    columns: list[list[tuple[float, float, str, str]]] = []
    for text, x, y, color in sorted(labels, key=lambda label: label[1]):
        across, up = place.transform((x, y))
        if not columns or across - columns[-1][0][1] > 0.08:
            columns.append([])
        columns[-1].append((float(up), float(across), text, color))
    for column in columns:
        column.sort()
        for height, (_, across, text, color) in zip(spread([c[0] for c in column], 12 / points), column, strict=True):
            ax.text(across + 0.008, height, text, color=color, transform=ax.transAxes, va="center", fontsize=9)


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """Ascending positions, moved as little as a greedy pass can so that neighbours are `gap` apart.

    >>> spread([0.0, 0.0, 1.0], 0.2)
    [-0.1, 0.1, 1.0]
    """
    groups: list[tuple[float, int]] = []  # (centre, members)
    for position in positions:
        centre, count = position, 1
        while groups and groups[-1][0] + groups[-1][1] * gap / 2 > centre - count * gap / 2:
            other, members = groups.pop()
            centre = (other * members + centre * count) / (members + count)
            count += members
        groups.append((centre, count))
    return [centre + (i - (count - 1) / 2) * gap for centre, count in groups for i in range(count)]


Scale = Literal["linear", "log", "symlog"]
