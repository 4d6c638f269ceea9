"""`nfmt selftest --hardware`: what the processor at hand does, beside the platforms and units that describe it."""

from __future__ import annotations

import argparse

from ..hardware import Comparison, Unavailable, comparisons, processor
from .screen import MISMATCH, OK, Failure, Paint, columns, put, put_json, wants_colour


def run_hardware(args: argparse.Namespace) -> int:
    """Compare every instruction that is here; 0 if all equal their platforms and units, 1 otherwise."""
    try:
        found = list(comparisons())
    except Unavailable as reason:
        raise Failure(str(reason)) from reason
    equal = not any(c.differences for c in found)
    if args.json:
        put_json({"processor": processor(), "passed": equal, "instructions": [_row(c) for c in found]})
        return OK if equal else MISMATCH
    put(processor())
    rows = [(c.instruction.name, c.rounding.value, _verdict(c)) for c in found]
    for line, comparison in zip(columns(rows, "<<<"), found, strict=True):
        put(line)
        if comparison.first:
            put(f"  first: {comparison.first}")
    put(Paint(wants_colour(args.color)).bold("PASS" if equal else "FAIL"))
    return OK if equal else MISMATCH


def _verdict(comparison: Comparison) -> str:
    """One line about one instruction in one mode."""
    instruction, vectors = comparison.instruction, f"{comparison.vectors:,}"
    if not comparison.vectors:
        return f"absent: it needs {instruction.needs}"
    judge = instruction.described
    what = "results and flags" if instruction.has_flags else "results"
    if comparison.differences:
        return f"differs from {judge} in {comparison.differences:,} of {vectors} {what}"
    return f"equal to {judge}: {vectors} {what}"


def _row(comparison: Comparison) -> dict[str, object]:
    instruction = comparison.instruction
    return {
        "instruction": instruction.name,
        "needs": instruction.needs,
        "present": comparison.vectors > 0,
        "platform": None if instruction.operation == "dot" else instruction.platform,
        "unit": instruction.platform if instruction.operation == "dot" else None,
        "rounding": comparison.rounding.value,
        "vectors": comparison.vectors,
        "differences": comparison.differences,
        "first": comparison.first or None,
    }
