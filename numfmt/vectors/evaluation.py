"""Results and flags of scalar functions, from `numfmt.arithmetic` and `numfmt.convert`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arithmetic import compute
from ..arrays import convert
from ..formats import FixedFormat, FloatFormat, Format
from ..rounding import Rounding
from .functions import Function, Rules

Array = npt.NDArray[Any]


def options_of(rules: Rules, random: Array | None) -> dict[str, Any]:
    """Rules as the keyword arguments of `encode` and of `arithmetic.compute`."""
    made: dict[str, Any] = {"rounding": rules.rounding, "overflow": rules.overflow, "platform": rules.platform}
    if rules.random_bits:
        made["random_bits"] = random
        if rules.rounding is not Rounding.STOCHASTIC:
            made["random_bit_count"] = rules.random_bit_count
    return made


def converted(
    function: Function, codes: Array, rules: Rules, random: Array | None, threads: int | None
) -> tuple[Array, Array]:
    """Conversions that a fixed-point format or a codebook takes part in."""
    assert function.to is not None
    options = options_of(rules, random)
    made = convert(
        codes, function.sources[0], function.to, return_flags=True, tininess=rules.tininess, threads=threads, **options
    )
    return made[0], made[1]


def computed(
    function: Function, operands: Sequence[Array], rules: Rules, random: Array | None, threads: int | None
) -> tuple[Array, Array]:
    """Scalar operations."""
    options = options_of(rules, random)
    if not function.rounds:
        options = {"platform": rules.platform}
    columns: list[Array] = list(operands)
    if function.operation == "scale_b":
        columns[1] = _integers(columns[1], function.sources[1])
    if function.operation == "from_integer":
        columns[0] = _integers(columns[0], function.sources[0])
        options["to"] = function.to
    if function.operation == "convert":
        options["to"] = function.to
    if function.operation == "to_integer":
        options["integer"] = function.integer
    fmt = function.to if function.operation == "from_integer" else function.sources[0]
    assert isinstance(fmt, FloatFormat | FixedFormat)
    results, flags = compute(
        function.operation, columns, fmt, tininess=rules.tininess, exact=rules.exact, threads=threads, **options
    )
    return _codes(results, function.result_bits), flags


def _integers(codes: Array, fmt: Format) -> Array:
    """The integers that codes of an integer operand are."""
    assert isinstance(fmt, FixedFormat)
    if not fmt.signed:
        return codes
    wide = codes.astype(np.uint64).view(np.int64)
    shift = np.int64(64 - fmt.bits)
    return (wide << shift) >> shift


def _codes(results: Array, bits: int) -> Array:
    """Results as unsigned codes: truth values are 0 and 1, integers two's complement."""
    if results.dtype.kind == "b":
        return results.view(np.uint8)
    if results.dtype.kind == "i":
        return results.view(f"uint{8 * results.dtype.itemsize}")
    return results
