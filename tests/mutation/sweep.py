"""Exhaustive sweeps: a mutant against numfmt itself on every float16 and bfloat16 value, for every format and mode.

Equality here does not prove that a change means the same, but a difference disproves the reason given for it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np

from tests.mutation import judge, judge_arithmetic, judge_blocks, judge_core, judge_dot, workers
from tests.mutation.mutants import Mutant

STOCHASTIC = judge.STOCHASTIC[::3]


def operands(bits: int) -> np.ndarray[Any, Any]:
    """All float16 and bfloat16 values in binary32; an eighth of them in binary64; and patterns at random."""
    codes = np.arange(2**16, dtype=np.uint16)
    rng = np.random.default_rng(bits)
    with np.errstate(all="ignore"):
        values = np.concatenate(
            [codes.view(np.float16).astype(np.float32), codes.view(ml_dtypes.bfloat16).astype(np.float32)]
        )
        if bits == 64:
            values = values[::8].astype(np.float64)
    patterns = rng.integers(0, 2**bits, 2**13, np.uint64 if bits == 64 else np.uint32)
    return np.concatenate([values.view(f"int{bits}"), patterns.view(f"int{bits}")])


def cases() -> Iterator[judge.Case]:
    """Every format, mode and carrier, and all codes to decode, without expectations."""
    for bits in (32, 64):
        x = operands(bits)
        random = judge._words(np.random.default_rng(1).integers(0, 2**32, x.size, np.uint32), bits)
        for name, found in judge.FORMATS.items():
            fmt = judge.oracle.get(found) if isinstance(found, str) else found
            modes = [(m, None) for m in judge.DETERMINISTIC] + STOCHASTIC
            modes += [(m, None) for m in sorted(judge.oracle.FIXED_ONLY) if fmt.kind == "fixed"]
            rules = [(mode, count, None) for mode, count in modes]
            rules += [("ties_to_even", None, overflow) for overflow in judge.oracle.OVERFLOWS[fmt.kind]]
            for in_carrier in (False, True):
                for mode, count, overflow in rules:
                    words = random if count else None
                    yield judge.Case(
                        judge._kernel(fmt),
                        name,
                        bits,
                        "numpy",
                        in_carrier,
                        x,
                        None,
                        mode,
                        overflow,
                        random=words,
                        count=count,
                    )
            if fmt.kind != "codebook":
                codes = np.arange(2**16, dtype=x.dtype) if fmt.bits <= 16 else x
                yield judge.Case(f"decode {fmt.kind}", name, bits, "numpy", True, codes, None)
    yield from judge_blocks.sweeps(operands(32), operands(64))
    yield from judge_core.sweeps()
    yield from judge_arithmetic.sweeps()
    yield from judge_dot.sweeps()


def compare(mutant: Mutant) -> workers.Answer:
    """Whether a mutant gives what numfmt gives; in a process of its own."""
    original = _imported()
    workers.become(mutant)
    changed = _imported()
    if judge.concerned(mutant.file, "threefry") and not np.array_equal(_words(original), _words(changed)):
        return "differs", "random words"
    for case in cases():
        if not judge.concerned(mutant.file, case.kernel):
            continue
        ours, theirs = _answer(case, original), _answer(case, changed)
        if (ours is None) != (theirs is None) or (ours is not None and not np.array_equal(ours, theirs)):
            return "differs", str(case)
    return "equal", ""


def _imported() -> dict[str, Any]:
    importlib.import_module("numfmt")
    return {name: module for name, module in sys.modules.items() if name == "numfmt" or name.startswith("numfmt.")}


def _answer(case: judge.Case, modules: dict[str, Any]) -> Any:
    """What one of two numfmts gives; None where it refuses the format on this carrier, or the mode."""
    sys.modules.update(modules)
    judge.forget()
    try:
        return judge.answer(case)
    except (judge.NoPlan, ValueError):
        return None


def _words(modules: dict[str, Any]) -> Any:
    starts = (0, 2**32 - 1000, 2**63 - 5)
    keys = ((0, 0), (0, 7), (2**32 - 1, 2**32 - 1), (0x13198A2E, 0x03707344))
    return np.concatenate([modules["numfmt.engines"].random_words(k, s, s + 2**14) for k in keys for s in starts])
