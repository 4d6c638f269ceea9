"""Pictures of codes: the bit fields of one, the classes of all."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from ..formats import CodebookFormat, FixedFormat, FloatFormat, Format, Subnormals
from ..named import scalar_format
from .style import CLASS_COLORS, FIELD_COLORS, INK, MUTED, axes, pyplot, styled
from .values import Field, as_formats, classes, fields, number_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONGEST = 34  # bits that fit a line; longer codes are drawn with their long fields cut
SHOWN = 9  # boxes of a cut field, the gap among them


@styled
def bit_layout(format: str | Format, code: int | None = None, *, ax: Axes | None = None) -> Axes:
    """The bits of a code as boxes, in the colours of their fields, with what they mean below.

    Args:
        format: a format or its name.
        code: its bits fill the boxes, and its exact value is derived below; None shows the fields only.
        ax: where to draw; a new figure if None.

    >>> ax = bit_layout("e4m3fn", 0x4D)
    >>> ax.texts[-1].get_text().endswith("= 13/2 = 6.5")
    True
    """
    fmt = scalar_format(format)
    boxes = _boxes(fields(fmt), fmt.bits)
    inches = 0.42 if len(boxes) <= 16 else 0.3  # of a box
    ax = axes(ax, max(4.2, inches * (len(boxes) + 0.6)), inches * 4.4)
    for x, (field, bit) in enumerate(boxes):
        _box(ax, x, field, bit, None if code is None else code >> max(bit, 0) & 1)
    left = 0
    for field in fields(fmt):
        width = sum(f == field for f, _ in boxes)
        color = FIELD_COLORS[field.kind]
        ax.text(left + width / 2, 1.14, _fitting(field, width), color=color, ha="center", va="bottom")
        left += width
    _point(ax, fmt)
    given = "" if code is None else f"   code 0x{_hex(fmt, code)}"
    ax.text(0.03, 1.85, f"{format}{given}", va="bottom", fontsize=11)
    text = _facts(fmt) if code is None else derivation(fmt, code & (2**fmt.bits - 1))
    ax.text(len(boxes) / 2, -0.62, text, ha="center", va="top", fontsize=11)
    ax.set(xlim=(-0.15, len(boxes) + 0.15), ylim=(-1.5, 2.6), aspect="equal")
    ax.axis("off")
    return ax


def _hex(fmt: Format, code: int) -> str:
    digits = f"{code & (2**fmt.bits - 1):0{-(-fmt.bits // 4)}X}"
    return digits if len(digits) <= 20 else f"{digits[:8]}…{digits[-4:]}"


def _fitting(field: Field, boxes: int) -> str:
    """The name of a field, or of it what has room over that many boxes; S, E and T are IEEE 754's letters."""
    shorter = {"trailing significand": ["significand", "T"], "scale exponent": ["scale"]}
    names = [field.name, *shorter.get(field.name, [field.name[0].upper()])]
    return next((name for name in names if 0.24 * len(name) <= boxes), names[-1])


def _boxes(found: list[Field], bits: int) -> list[tuple[Field, int]]:
    """(field, bit number) of each box, bit -1 for a gap that stands for the bits that do not fit."""
    boxes: list[tuple[Field, int]] = []
    top = bits
    for field in found:
        numbers = list(range(top - 1, top - 1 - field.width, -1))
        top -= field.width
        if bits > LONGEST and field.width > 2 * SHOWN:
            numbers = [*numbers[: SHOWN - 3], -1, *numbers[-2:]]
        boxes += [(field, number) for number in numbers]
    return boxes


def _box(ax: Axes, x: float, field: Field, bit: int, content: int | None) -> None:
    from matplotlib.patches import Rectangle

    if bit < 0:
        ax.text(x + 0.5, 0.5, "…", ha="center", va="center", fontsize=12, color=FIELD_COLORS[field.kind])
        return
    ax.add_patch(Rectangle((x, 0), 1, 1, facecolor=FIELD_COLORS[field.kind], edgecolor="white", linewidth=1.5))
    if content is not None:
        ax.text(x + 0.5, 0.47, str(content), ha="center", va="center", color="white", fontsize=12, fontweight="bold")
    ax.text(x + 0.5, -0.1, str(bit), ha="center", va="top", color=MUTED, fontsize=7)


def _point(ax: Axes, fmt: Format) -> None:
    """The binary point of a fixed-point format that lies inside the code."""
    if isinstance(fmt, FixedFormat) and 0 < fmt.fraction_bits <= fmt.bits <= LONGEST:
        ax.plot(fmt.bits - fmt.fraction_bits, 0.06, "o", color=INK, markersize=6, clip_on=False)


def _facts(fmt: Format) -> str:
    """One line on the format."""
    reach = f"least {number_text(fmt.min_positive)}, largest {number_text(fmt.max)}"
    match fmt:
        case FloatFormat():
            return f"p = {fmt.precision}, bias {fmt.bias}, {reach}"
        case FixedFormat():
            return f"unit {number_text(fmt.quantum)}, from {number_text(fmt.min)} to {number_text(fmt.max)}"
        case CodebookFormat():
            return f"{len(fmt.values)} listed values, from {number_text(fmt.min)} to {number_text(fmt.max)}"


def derivation(fmt: Format, code: int) -> str:
    """How the value of a code follows from its bits, as TeX."""
    value = fmt.exact(code)
    if not isinstance(value, Fraction):
        return number_text(value)
    match fmt:
        case FloatFormat():
            left = f"${_float_terms(fmt, code)}$" if value else ""
        case FixedFormat():
            left = f"{int(value / fmt.quantum)} × {number_text(fmt.quantum)}".replace("-", "−")
        case CodebookFormat():
            left = f"value {code} of the list"
    short = 1 < value.denominator < 10**6 and abs(value.numerator) < 10**6
    shown = str(value).replace("-", "−") if short else ""
    return " = ".join(part for part in (left, shown, number_text(value, 9)) if part).replace("= ≈", "≈")


def _float_terms(fmt: FloatFormat, code: int) -> str:
    """± significand × power of two, as the fields say."""
    t, width = fmt.trailing_bits, fmt.exponent_bits
    fraction = code & (2**t - 1)
    field = code >> (t + fmt.integer_bit) & (2**width - 1)
    leading, power = 1, f"{field}−{fmt.bias}" if fmt.bias >= 0 else f"{field}+{-fmt.bias}"
    if field == 0 and fmt.subnormals is not Subnormals.NORMAL:
        lowest = fmt.emin - (fmt.subnormals is Subnormals.SHIFTED)
        leading, power = 0, str(lowest).replace("-", "−")
    if fmt.integer_bit:
        leading = code >> t & 1
    sign = "" if not fmt.signed else "−" if code >> (fmt.bits - 1) else "+"
    digits = f"{fraction:0{t}b}" if t else ""
    if len(digits) > 24:
        digits = f"{digits[:12]}…{digits[-4:]}"
    significand = f"{leading}.{digits}_2 × " if t else ""
    return f"{sign}\\,{significand}2^{{{power}}}"


@styled
def code_map(formats: str | Format | Sequence[str | Format]) -> Figure:
    """All codes of formats of at most 12 bits as squares, in the colours of their classes; a panel a format.

    The code of a square is its row plus its column. Classes are zero, subnormal, normal, infinity, NaN.

    >>> figure = code_map(["e4m3fn", "e5m2"])
    """
    found = as_formats(formats)
    columns = min(len(found), 4)
    rows = -(-len(found) // columns)
    figure, grid = pyplot().subplots(rows, columns, figsize=(2.55 * columns, 2.75 * rows + 0.45), squeeze=False)
    for panel in grid.flat[len(found) :]:
        panel.set_visible(False)
    present: dict[str, None] = {}
    for ax, (name, fmt) in zip(grid.flat, found, strict=False):
        if fmt.bits > 12:
            raise ValueError(f"{fmt} has {fmt.bits} bits; code maps are drawn of at most 12")
        present |= dict.fromkeys(_map(ax, name, fmt))
    _key(figure, [name for name in CLASS_COLORS if name in present])
    return figure


def _map(ax: Axes, name: str, fmt: Format) -> list[str]:
    """One panel of `code_map`; the classes in it."""
    import numpy as np
    from matplotlib.colors import ListedColormap

    low = fmt.bits // 2
    order = list(CLASS_COLORS)
    found = classes(fmt)
    table = np.array([order.index(c) for c in found]).reshape(-1, 2**low)
    colors = ListedColormap(list(CLASS_COLORS.values()))
    ax.pcolormesh(table, cmap=colors, vmin=-0.5, vmax=len(order) - 0.5, edgecolors="white", linewidth=0.7)
    ax.set(aspect="equal", xlim=(0, 2**low), ylim=(len(table), 0))
    digits = -(-fmt.bits // 4)
    every = max(1, len(table) // 4)
    ax.set_yticks([i + 0.5 for i in range(0, len(table), every)])
    ax.set_yticklabels([f"{i << low:0{digits}X}" for i in range(0, len(table), every)], family="monospace")
    across = max(1, 2**low // 4)
    ax.set_xticks([i + 0.5 for i in range(0, 2**low, across)])
    ax.set_xticklabels([f"+{i:X}" for i in range(0, 2**low, across)], family="monospace")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(name, fontsize=10)
    counts = [f"{found.count(c)} {_plain(c)}" for c in ("infinity", "nan", "unused") if c in found]
    ax.set_xlabel(", ".join([f"max {number_text(fmt.max)}", *counts]), fontsize=9)
    return found


def _plain(name: str) -> str:
    return {"nan": "NaN", "infinity": "∞"}.get(name, name)


def _key(figure: Figure, names: list[str]) -> None:
    """The names of colours, in one line below the panels."""
    from matplotlib.patches import Patch

    texts = ["NaN" if name == "nan" else name for name in names]
    colors = [CLASS_COLORS[name] for name in names]
    pairs = zip(texts, colors, strict=True)
    patches = [Patch(label=text, facecolor=color, edgecolor=MUTED, linewidth=0.5) for text, color in pairs]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), frameon=False, fontsize=9)
