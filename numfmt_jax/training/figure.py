"""The curves of a log, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

from .log import Record
from .plan import FLOAT32

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, told apart by all kinds of colour vision; dashes say the same again.
LOOKS = [
    ("#222222", "-"), ("#0072B2", "--"), ("#D55E00", "-"), ("#009E73", "-."), ("#CC79A7", ":"), ("#E69F00", "--"),
    ("#56B4E9", "-"), ("#8A8A8A", "-."),
]  # fmt: skip
INK, FAINT = "#222222", "#DDDDDD"
STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 11, "text.color": INK, "axes.edgecolor": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 12, "axes.titlelocation": "left",
    "axes.grid": True, "grid.color": FAINT, "grid.linewidth": 0.8, "axes.axisbelow": True,
}  # fmt: skip
Curve = list[tuple[int, float]]


def curves(records: Sequence[Record], field: str) -> dict[str, Curve]:
    """(step, value) of a field by recipe, in the order of the runs."""
    found: dict[str, Curve] = {}
    for record in records:
        if record["record"] == "step":
            points = found.setdefault(record["recipe"], [])
            if record[field] is not None:
                points.append((record["step"], record[field]))
    return found


def gaps(of: dict[str, Curve]) -> dict[str, Curve]:
    """By how many percent each curve lies above float32's, where both have a point; empty without float32."""
    plain = dict(of.get(FLOAT32, []))
    others = {name: points for name, points in of.items() if name != FLOAT32}
    return {name: [(s, 100 * (v / plain[s] - 1)) for s, v in points if s in plain] for name, points in others.items()}


def draw(records: Sequence[Record], path: str | Path) -> None:
    """Write validation curves, and the gaps to float32 where there is such a run: a PNG, or what the name ends in."""
    validation, training = curves(records, "validation_loss"), curves(records, "loss")
    looks = {name: LOOKS[i % len(LOOKS)] for i, name in enumerate(validation)}
    apart = {name: points for name, points in gaps(validation).items() if points}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12.5 if apart else 7, 4.8), dpi=150, layout="constrained")
        axes = figure.subplots(1, 2 if apart else 1, squeeze=False)[0]
        for name, points in training.items():
            axes[0].plot(*_columns(smoothed(points)), color=looks[name][0], linewidth=0.8, alpha=0.35)
        _lines(axes[0], validation, looks)
        axes[0].set_title("Loss on the text held out (faint: on the batches)")
        axes[0].set_ylabel("nats a byte")
        if validation:
            axes[0].legend(frameon=False)
        if apart:
            _lines(axes[1], apart, looks)
            axes[1].axhline(0, color=looks[FLOAT32][0], linewidth=1.5)
            _name_ends(axes[1], apart, looks)
            axes[1].set_title("How far above float32 that is")
            axes[1].set_ylabel("%")
        figure.suptitle(title(records), x=0.01, ha="left", fontsize=15, fontweight="bold")
        figure.savefig(path)


def title(records: Sequence[Record]) -> str:
    """What was trained."""
    head = next((record for record in records if record["record"] == "run"), None)
    if head is None:
        return "Training"
    return f"A transformer of {head['parameters']:,} weights on {head['text']}, under each recipe"


def smoothed(points: Curve) -> Curve:
    """Means over a thirtieth of the curve."""
    width = max(1, len(points) // 30)
    parts = [points[i : i + width] for i in range(0, len(points) - width + 1, width)]
    return [(part[-1][0], sum(v for _, v in part) / width) for part in parts]


def _lines(axes: Axes, of: dict[str, Curve], looks: dict[str, tuple[str, str]]) -> None:
    for name, points in of.items():
        color, dashes = looks[name]
        axes.plot(*_columns(points), color=color, linestyle=dashes, marker="o", markersize=4, linewidth=2, label=name)
    axes.set_xlabel("step")


def _name_ends(axes: Axes, of: dict[str, Curve], looks: dict[str, tuple[str, str]]) -> None:
    for name, points in of.items():
        x, y = points[-1]
        place: Any = {"textcoords": "offset points", "annotation_clip": False}
        axes.annotate(f"{name} {y:+.2f} %", (x, y), (7, 0), va="center", color=looks[name][0], **place)


def _columns(points: Curve) -> tuple[list[int], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
