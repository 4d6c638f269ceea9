"""Numbers below one another, digit under digit, with the digits that a sum does not reach: a picture for notebook 08."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numfmt import viz

KEPT, CUT = viz.FIELD_COLORS["exponent"], viz.FIELD_COLORS["sign"]


def digits(value: float) -> dict[int, int]:
    """The binary digits of |value|, from the first one that is 1 to the last, by their exponents.

    >>> digits(-2.5)
    {1: 1, 0: 0, -1: 1}
    """
    numerator, denominator = abs(value).as_integer_ratio()
    last = 1 - denominator.bit_length()
    while numerator and numerator % 2 == 0:
        numerator, last = numerator // 2, last + 1
    length = numerator.bit_length()
    return {last + place: numerator >> place & 1 for place in reversed(range(length))}


Row = tuple[str, float, str]


def bit_rows(terms: Sequence[Row], last: int, results: Sequence[Row]) -> Any:
    """Rows of digits: those of exponent `last` and above are kept (filled), those below are cut off (hollow).

    Args:
        terms, results: name, value and remark of each row; results stand below a line. Signs are not drawn.
        last: exponent of the last digit that is kept.

    Returns:
        The Axes.
    """
    rows = [*terms, *results]
    found = [digits(value) for _, value, _ in rows]
    high = max(max(d, default=last) for d in found)
    low = min(last - 2, *(min(d, default=last) for d in found))
    ax = viz.panels(1, 1, width=10.4, height=1.0 + 0.29 * len(rows))[1]
    ax.barh(len(rows) / 2 - 0.5, last - low, left=low - 0.5, height=len(rows), color="#F3F3F3", linewidth=0)
    ax.axvline(last - 0.5, color="#222222", linewidth=1.4)
    for row, places in enumerate(found):
        for place, digit in places.items():
            kept = place >= last
            ax.barh(row, 0.88, left=place - 0.44, height=0.78, color=KEPT if kept else "white",
                    edgecolor=KEPT if kept else CUT, linewidth=0.9, linestyle="-" if kept else "--")  # fmt: skip
            ax.text(place, row + 0.03, str(digit), ha="center", va="center", fontsize=9, fontweight="bold",
                    color="white" if kept else CUT)  # fmt: skip
        ax.text(low - 0.8, row, rows[row][2], ha="left", va="center", fontsize=9)
    if results:
        ax.axhline(len(terms) - 0.5, color="#6E6E6E", linewidth=0.9)
    ax.set(xlim=(high + 0.6, low - 0.6), ylim=(len(rows) - 0.45, -0.55), xlabel="place of the digit")
    ax.set_xticks(range(low, high + 1), [f"$2^{{{place}}}$" for place in range(low, high + 1)], fontsize=8)
    ax.set_yticks(range(len(rows)), [name.replace("-", "−") for name, _, _ in rows])
    ax.tick_params(length=0)
    ax.spines[["left", "bottom"]].set_visible(False)
    return ax
