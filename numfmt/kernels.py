"""What another array engine needs: the kernels' parameters for a format, and how values become patterns.

numfmt_jax is built on this module and on `numfmt._core`; NumPy and Numba use the same functions.
"""

from typing import Any

from . import engines
from ._core.parameters import Carrier
from .block_compiled import closed_form
from .block_layout import Axis, Layout, layout_of
from .blocks import precision
from .carriers import holds, magnitude_pattern, pattern, signed, value_of
from .engines import apply
from .formats import CodebookFormat, FixedFormat, FloatFormat, Format, Subnormals
from .named import scalar_format
from .plans import Plan, encode_plan, quantize_plan, resolve, round_parameters
from .rounding import Overflow, Rounding, Rule, unknown
from .scale_rules import Steps, nan_scale, scale_dtype, steps_of
from .sources import (
    FLOATS,
    code_dtype,
    decode_plan,
    decode_table,
    dtype_format,
    narrowest_carrier,
    pattern_dtype,
    results_exact,
)
from .specials import Rules
from .unit_numbers import last_place, least_exponent, sum_bits
from .unit_plans import Plan as UnitPlan
from .unit_plans import plan_of as unit_plan
from .units import Kind, Order

__all__ = [
    "FLOATS", "Axis", "CodebookFormat", "FixedFormat", "FloatFormat", "Format", "Kind", "Layout", "Order",
    "Overflow", "Plan", "Rounding", "Rule", "Rules", "Steps", "Subnormals", "UnitPlan", "apply", "closed_form",
    "code_dtype", "decode_patterns", "decode_plan", "decode_table", "dtype_format", "encode_plan", "holds",
    "last_place", "layout_of", "least_exponent", "magnitude_pattern", "nan_scale", "narrowest_carrier", "pattern",
    "pattern_dtype", "precision", "quantize_plan", "resolve", "results_exact", "round_parameters", "scalar_format",
    "scale_dtype", "signed", "steps_of", "sum_bits", "unit_plan", "unknown", "value_of",
]  # fmt: skip


def decode_patterns(codes: Any, fmt: FloatFormat | FixedFormat, carrier: Carrier, *, xp: Any) -> Any:
    """Carrier patterns of codes, signed integers of the carrier's width, of a float or fixed-point format."""
    return engines.decode(codes, carrier, decode_plan(fmt, carrier), xp)
