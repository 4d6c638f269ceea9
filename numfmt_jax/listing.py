"""The named recipes as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from numfmt import BlockFormat

from .receipt import Slot, slots_of
from .recipe import Operand
from .recipes import get_recipe, list_recipes

SCHEMA = 1  # of the JSON; a change that could break a reader raises it
WORDS = {
    "fprop.lhs": "x forward", "fprop.rhs": "w forward", "dgrad.grad": "g dgrad", "dgrad.rhs": "w dgrad",
    "wgrad.lhs": "x wgrad", "wgrad.grad": "g wgrad",
}  # fmt: skip
SHORT = {"float8_e4m3fn": "e4m3", "float8_e5m2": "e5m2", "bfloat16": "bf16"}
ROUNDINGS = {"ties_to_even": "", "stochastic": "SR", "ties_to_away": "away"}
LEGEND = (
    "x activation, w weight, g gradient; element/block where a block format has no name; SR stochastic rounding;",
    "H, RHT Hadamard transform, RHT with signs; =forward: what the forward product used; – as it is",
)
FIELDS = ("format", "block", "rule", "rounding", "axis", "transform", "scale", "source")


def summary() -> Iterator[str]:
    """Two lines a recipe: its six operands, and where it is from."""
    every = [get_recipe(name) for name in list_recipes()]
    rows = [(recipe.name, *map(short, recipe.slots().values())) for recipe in every]
    head, *lines = columns([("name", *WORDS.values()), *rows])
    yield head
    for recipe, line in zip(every, lines, strict=True):
        yield line
        yield f"    {recipe.source}"
    yield ""
    yield from LEGEND


def short(operand: Operand | None) -> str:
    """An operand in a few characters.

    >>> short(get_recipe("nvfp4").wgrad.rhs)
    'nvfp4 RHT16 SR'
    """
    if operand is None:
        return "–"
    fmt, rounds = operand.format, operand.rounds
    if fmt is None or rounds is None:
        return "=forward"
    name = SHORT.get(str(fmt), str(fmt))
    if isinstance(fmt, BlockFormat) and "(" in name:
        element = SHORT.get(str(fmt.element), str(fmt.element))
        name = f"{element}/{'x'.join('axis' if k == -1 else str(k) for k in fmt.block) or 'tensor'}"
    parts = [name, *(str(operand.transform).split()[:1] if operand.transform else [])]
    parts += [f"×{operand.scale}"] if operand.scale != 1 else []
    parts.append(ROUNDINGS.get(rounds.rules.rounding.value, rounds.rules.rounding.value))
    parts += [f"of {operand.source}"] if operand.source != "raw" else []
    return " ".join(part for part in parts if part)


def in_full(names: Sequence[str]) -> Iterator[str]:
    """Everything about some recipes."""
    for at, recipe in enumerate(map(get_recipe, names)):
        yield from [""] * (at > 0)
        yield recipe.name
        yield f"  source      {recipe.source}"
        if recipe.unverified:
            yield f"  unverified  {recipe.unverified}"
        yield ""
        rows: list[tuple[str, ...]] = [("operand", *FIELDS)]
        rows += [(WORDS[slot], *_cells(found)) for slot, found in slots_of(recipe).items()]
        kept = [i for i in range(len(rows[0])) if any(row[i] for row in rows[1:])]
        yield from (f"  {line}" for line in columns([tuple(row[i] for i in kept) for row in rows]))
        yield ""
        key = ", key=key" if recipe.needs_key else ""
        yield f'  jax.value_and_grad(numfmt_jax.emulate(loss, "{recipe.name}"{key}))(parameters, batch)'
        yield f"  python -m numfmt_jax train --recipe float32 {recipe.name}"


def _cells(slot: Slot | None) -> tuple[str, ...]:
    if slot is None:
        return ("as it is", *[""] * (len(FIELDS) - 1))
    cells = {name: str(getattr(slot, name)) for name in FIELDS}
    cells["scale"] = "" if slot.scale == "1" else f"× {slot.scale}"
    cells["source"] = "" if slot.source == "raw" else f"of {slot.source}"
    return tuple(cells.values())


def as_json(names: Sequence[str]) -> dict[str, Any]:
    """Recipes as dictionaries and lists; all of them where none is named."""
    every = [get_recipe(name) for name in names or list_recipes()]
    return {
        "schema": SCHEMA,
        "recipes": [
            {
                "name": recipe.name, "source": recipe.source, "unverified": recipe.unverified or None,
                "needs_key": recipe.needs_key,
                "slots": {name: None if slot is None else asdict(slot) for name, slot in slots_of(recipe).items()},
            }
            for recipe in every
        ],
    }  # fmt: skip


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines of aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
