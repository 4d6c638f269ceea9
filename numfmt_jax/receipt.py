"""Receipts: what a policy does to a function, product by product."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from numfmt import BlockFormat

from .policy import Value
from .recipe import Operand, Recipe

SLOTS = ("fprop.lhs", "fprop.rhs", "dgrad.grad", "dgrad.rhs", "wgrad.lhs", "wgrad.grad")


@dataclass(frozen=True)
class Slot:
    """What one slot of a site does.

    `rule` is the scale rule of a block format, "" for scalar ones; `axis` is where blocks or tiles run.
    """

    format: str
    rounding: str
    rule: str = ""
    block: str = ""
    axis: str = ""
    transform: str = ""
    scale: str = "1"
    source: str = "raw"

    def __str__(self) -> str:
        extra = [self.block, self.rule, self.rounding, self.transform]
        extra += [f"× {self.scale}"] if self.scale != "1" else []
        extra += [f"of {self.source}"] if self.source not in ("raw", "forward") else []
        return " ".join([self.format, *(part for part in extra if part)])


@dataclass(frozen=True)
class Site:
    """One matrix product of a function.

    Args:
        path: what patterns match.
        primitive: "dot_general" or "conv_general_dilated".
        lhs, rhs, out: dtype and shape, such as "float32[8,16]".
        dimension_numbers: as lax has them.
        pattern: the one that decided, or None.
        recipe: name of the recipe (or all of it, where it has no name), or None: the product is lax's own.
        slots: the six slots by name, None where nothing is rounded.
        weight: the operand that is the recipe's weight.
        times: how often one call of the function runs it; "dynamic" inside a while loop.
        notes: where it stands ("branch 1 of 2"), and what that means.
    """

    path: str
    primitive: str
    lhs: str
    rhs: str
    out: str
    dimension_numbers: str
    pattern: str | None = None
    recipe: str | None = None
    slots: dict[str, Slot | None] = field(default_factory=dict)
    weight: str = "rhs"
    times: int | str = 1
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ValueSite:
    """An equation outside products whose result is rounded."""

    path: str
    out: str
    pattern: str
    format: str
    rounding: str
    times: int | str = 1
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Receipt:
    """Every product of a function with what a policy does to it; `str` is a table.

    Args:
        sites: the products, in program order.
        values: the other equations whose results are rounded.
        unmatched_patterns: patterns of the policy that match nothing.
        unmatched_sites: paths of products that no pattern matches.
        unreached: paths of what holds products that `emulate` cannot see or replace, and why.

    >>> Receipt().to_json()
    '{"sites": [], "values": [], "unmatched_patterns": [], "unmatched_sites": [], "unreached": {}}'
    """

    sites: tuple[Site, ...] = ()
    values: tuple[ValueSite, ...] = ()
    unmatched_patterns: tuple[str, ...] = ()
    unmatched_sites: tuple[str, ...] = ()
    unreached: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, path: str) -> Site:
        """The product at a path."""
        for site in self.sites:
            if site.path == path:
                return site
        raise KeyError(path)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain dictionaries, lists, strings and numbers."""
        plain: dict[str, Any] = json.loads(self.to_json())
        return plain

    def to_json(self, indent: int | None = None) -> str:
        """The same as JSON."""
        return json.dumps(asdict(self), indent=indent, ensure_ascii=False)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        rounded = sum(site.recipe is not None for site in self.sites)
        yield f"{len(self.sites)} products, {rounded} with a recipe"
        yield from _table(("path", "times", "lhs", "rhs", "out", "weight", "recipe", "notes"), map(_row, self.sites))
        recipes = {(site.recipe, tuple(site.slots.items())): site.slots for site in self.sites if site.recipe}
        for (name, _), slots in recipes.items():
            yield f"recipe {name}"
            yield from _table(("slot", "format", "block", "rule", "rounding", "axis", "transform", "of"), _slots(slots))
        if self.values:
            yield f"{len(self.values)} other results rounded"
            rows = ((v.path, str(v.times), v.out, f"{v.format} {v.rounding}", "; ".join(v.notes)) for v in self.values)
            yield from _table(("path", "times", "out", "format", "notes"), rows)
        for title, listed in (
            ("patterns that match nothing", self.unmatched_patterns),
            ("products that no pattern matches", self.unmatched_sites),
        ):
            if listed:
                yield f"{title}: {', '.join(listed)}"
        for path, why in self.unreached.items():
            yield f"not reached: {path}: {why}"


def slot_of(operand: Operand | None) -> Slot | None:
    """A slot of a recipe, in words."""
    if operand is None:
        return None
    transform = "" if operand.transform is None else str(operand.transform)
    scale, fmt, rounds = str(operand.scale), operand.format, operand.rounds
    if fmt is None or rounds is None:
        return Slot("as in forward", "", transform=transform, scale=scale, source=operand.source)
    rounding = rounds.rules.rounding.value
    if not isinstance(fmt, BlockFormat):
        return Slot(str(fmt), rounding, transform=transform, scale=scale, source=operand.source)
    block = "×".join("axis" if k == -1 else str(k) for k in fmt.block) or "tensor"
    return Slot(str(fmt), rounding, fmt.rule, block, operand.axis, transform, scale, operand.source)


def slots_of(recipe: Recipe | None) -> dict[str, Slot | None]:
    """The six slots of a recipe, in words; empty where there is none."""
    return {} if recipe is None else {name: slot_of(operand) for name, operand in recipe.slots().items()}


def value_site(path: str, out: str, pattern: str, value: Value, times: int | str, notes: tuple[str, ...]) -> ValueSite:
    """A rounded result, in words."""
    return ValueSite(path, out, pattern, str(value.format), value.rounds.rules.rounding.value, times, notes)


def _row(site: Site) -> tuple[str, ...]:
    weight = site.weight if site.recipe is not None else ""
    return (
        site.path, str(site.times), site.lhs, site.rhs, site.out, weight, site.recipe or "–", "; ".join(site.notes)
    )  # fmt: skip


def _slots(slots: dict[str, Slot | None]) -> Iterator[tuple[str, ...]]:
    for name in SLOTS:
        slot = slots.get(name)
        if slot is None:
            yield (name, "as it is", *[""] * 6)
        else:
            transform = slot.transform + (f" × {slot.scale}" if slot.scale != "1" else "")
            yield (name, slot.format, slot.block, slot.rule, slot.rounding, slot.axis, transform.strip(), slot.source)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Aligned columns; those that are empty everywhere are left out."""
    every = [tuple(row) for row in rows]
    if not every:
        return
    kept = [i for i in range(len(header)) if any(row[i] for row in every)]
    lines = [tuple(line[i] for i in kept) for line in (header, *every)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(kept))]
    for line in lines:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
