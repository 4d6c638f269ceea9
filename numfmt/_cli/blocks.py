"""`nfmt list` and `nfmt info` for block formats."""

from __future__ import annotations

from typing import Any

from ..blocks import WHOLE_AXIS, BlockFormat
from ..named_blocks import NAMED_BLOCKS, block_families
from .screen import Paint, columns, put

HEADER = ("name", "bits/element", "element", "scale", "block", "rule")


def put_block_list(paint: Paint, family: str | None) -> None:
    """The named block formats, by family."""
    names = [n for n, e in NAMED_BLOCKS.items() if family in (None, e.family)]
    lines = columns([HEADER, *(_row(name) for name in names)], "<><<<<")
    by_name = dict(zip(names, lines[1:], strict=True))
    put(paint.bold("  " + lines[0]))
    for one in block_families():
        members = [n for n in names if NAMED_BLOCKS[n].family == one]
        if members:
            put(paint.bold(one))
            for name in members:
                put("  " + by_name[name])


def _row(name: str) -> tuple[str, ...]:
    fmt = NAMED_BLOCKS[name].format
    bits = f"{float(fmt.bits_per_element):g}"
    return (name, bits, _short(str(fmt.element)), _short(str(fmt.scale)), _block(fmt), fmt.rule)


def _short(text: str) -> str:
    """A name in the width of a column; nfmt info has all of it."""
    return text if len(text) <= 26 else text[:25] + "…"


def _block(fmt: BlockFormat) -> str:
    shape = "×".join("axis" if k == WHOLE_AXIS else str(k) for k in fmt.block) or "tensor"
    return shape + (" flat" if fmt.flat else "")


def block_facts(fmt: BlockFormat) -> dict[str, Any]:
    """Every fact of a block format, as JSON takes it."""
    name = str(fmt)
    entry = NAMED_BLOCKS.get(name)
    rule = fmt.scale_rule
    unverified = "; ".join(text for text in (entry.unverified if entry else "", rule.unverified) if text)
    return {
        "name": name,
        "aliases": list(entry.aliases) if entry else [],
        "family": entry.family if entry else "custom",
        "kind": "block",
        "bits_per_element": str(fmt.bits_per_element),
        "element": str(fmt.element),
        "scale": str(fmt.scale),
        "block": list(fmt.block),
        "flat": fmt.flat,
        "tensor_scale": "float32" if fmt.has_tensor_scale else None,
        "zero_point": rule.zero_point,
        "micro": [list(level) for level in fmt.micro],
        "rule": rule.name,
        "rule_source": rule.source,
        "nonfinite": fmt.nonfinite,
        "default_rounding": fmt.default_rounding.value,
        "default_overflow": fmt.default_overflow.value,
        "source": entry.source if entry else "custom format",
        "unverified": unverified,
    }


def put_block_info(paint: Paint, fmt: BlockFormat, found: dict[str, Any]) -> None:
    """All of one block format."""
    put(paint.bold(found["name"]))
    shown = {**found, "aliases": ", ".join(found["aliases"]), "block": _block(fmt), "name": "", "kind": ""}
    shown["bits_per_element"] = f"{fmt.bits_per_element} = {float(fmt.bits_per_element):g}"
    shown["micro"] = ", ".join(f"{bits} bit over {part} elements" for part, bits in fmt.micro)
    shown["flat"] = "yes" if fmt.flat else ""
    rows = [(label.replace("_", " "), str(text)) for label, text in shown.items() if text]
    for line in columns(rows, "<<"):
        put("  " + line)
