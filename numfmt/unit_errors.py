"""What a unit's roundings cost: the error of a sum in units of its last place, and where a sum stops to grow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .block_arrays import BlockArray
from .carriers import floor_log2
from .formats import FixedFormat
from .named_units import get_unit
from .sums import dot
from .unit_operands import Formats
from .units import DotUnit, Kind, Order

Array = npt.NDArray[Any]


def sum_error(
    a: npt.ArrayLike | BlockArray,
    b: npt.ArrayLike | BlockArray,
    c: npt.ArrayLike | None = None,
    *,
    unit: str | DotUnit,
    formats: Formats | None = None,
    scales: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    threads: int | None = None,
) -> Any:
    """How far a unit's dots lie from the exact ones, in units of the last place of the exact one.

    Args:
        a, b, c, unit, formats, scales, threads: as for `numfmt.dot`; the unit rounds deterministically.

    Returns:
        float64 array of the result's shape: (result - exact) / ulp, ulp being that of the result's format at the exact
        sum, which is rounded to float64 first; NaN where either is no finite number.

    Raises:
        ValueError: as for `numfmt.dot`; a unit whose accumulator is an integer.

    >>> import numpy as np
    >>> ones = np.ones(64, np.float32)
    >>> float(sum_error(ones, ones, 16384.0, unit="h100.e4m3"))
    -32.0
    """
    unit = get_unit(unit)
    fmt = unit.result_format
    if isinstance(fmt, FixedFormat):
        raise ValueError(f"a unit with accumulator {fmt} is given; its sums have no last place that moves")
    exactly = replace(
        DotUnit(inputs=unit.inputs, kind=Kind.EXACT, length=None, accumulator="float64", addend_format=fmt),  # type: ignore[arg-type]
        scales=unit.scales, scale_blocks=unit.scale_blocks, input_rounding=unit.input_rounding,
    )  # fmt: skip
    options: dict[str, Any] = {"formats": formats, "scales": scales, "threads": threads}
    got = np.asarray(dot(a, b, c, unit=unit, **options), np.float64)
    exact = np.asarray(dot(a, b, c, unit=exactly, **options), np.float64)
    with np.errstate(invalid="ignore"):
        exponent = np.frexp(np.where(np.isfinite(exact), exact, 0.0))[1] - 1
        ulp = np.ldexp(1.0, np.maximum(exponent, floor_log2(fmt.min_normal)) - (fmt.precision - 1))
        error = np.where(np.isfinite(got) & np.isfinite(exact), (got - exact) / ulp, np.nan)
    return error[()]


def stall_point(unit: str | DotUnit, value: float = 1.0, *, formats: Formats | None = None) -> float | None:
    """The sum of equal products at which more of them no longer change it.

    Args:
        unit: name or `DotUnit`.
        value: both factors of every product.
        formats: as for `numfmt.dot`.

    Returns:
        The least value² · 2**n that stays what it is when a unit's step, or its stretch before a promotion, is added;
        None where every finite sum grows.

    Raises:
        ValueError: a value that the input format does not have, or that is not positive; a compensated sum, which keeps
            what a step does not show.

    References: N. Wang et al., "Training deep neural networks with 8-bit floating point numbers" (NeurIPS 2018), which
    calls it swamping.

    >>> stall_point("h100.e4m3"), stall_point("fp16"), stall_point("h100.e4m3.promote128")
    (16384.0, 2048.0, 2147483648.0)
    """
    unit = get_unit(unit)
    if not value > 0:
        raise ValueError(f"value {value} is given; it is positive")
    if unit.kind in (Kind.KAHAN, Kind.NEUMAIER):
        raise ValueError(f"a unit of kind {unit.kind.value!r} is given; its compensation grows where its sum does not")
    fmt = unit.promoted if unit.promote_every else unit.c_format
    products = unit.promote_every or unit.length or 1
    if unit.order is not Order.SEQUENTIAL:
        products = max(products, 2)
    sums = [float(value) ** 2 * 2.0**n for n in range(floor_log2(fmt.max) + 2)]
    sums = [s for s in sums if s <= fmt.max]
    terms = np.full((len(sums), products), value, np.float32)
    found = np.asarray(dot(terms, terms, np.array(sums), unit=unit, formats=formats), np.float64)
    still = np.flatnonzero(found == sums)
    return float(sums[still[0]]) if still.size else None
