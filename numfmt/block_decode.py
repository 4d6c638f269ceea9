"""The compiled engine of blocks, decoding: which loops read the codes, and what they are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import block_compiled, packed_codes
from ._core.parameters import BINARY32
from .block_compiled import Ranges, tensor_operand
from .block_layout import Layout, Task
from .blocks import BlockFormat, precision
from .compiled import block_loop
from .formats import FloatFormat, Format, Subnormals
from .packed_codes import PackedCodes
from .scale_rules import from_scale
from .sources import decode_table

Array = npt.NDArray[Any]
f32 = np.float32


@dataclass(frozen=True)
class Reading:
    """What the loops read and write: canonical arrays."""

    format: BlockFormat
    layout: Layout
    codes: Array | PackedCodes
    scales: Array  # as they are stored: codes or floats
    target: Array
    tensor_scale: Any


def decode_function(reading: Reading) -> Any:
    """A function of a task that writes its values; None where NumPy is to do it."""
    fmt, codes = reading.format, reading.codes
    exact = precision(fmt.element) + precision(fmt.scale_value_format) <= 24
    if fmt.element.bits > 16 or fmt.scale_rule.zero_point or fmt.micro:
        return None
    if reading.tensor_scale is not None and not exact:
        return None
    arrays = (reading.target, codes.data if isinstance(codes, PackedCodes) else codes)
    if not all(array.flags.c_contiguous for array in arrays):
        return None
    return _in_vectors(reading) or _in_pieces(reading)


def _in_vectors(reading: Reading) -> Any:
    """Blocks of a known length in rows, of floats whose values are put together from fields."""
    fmt, layout = reading.format, reading.layout
    ranges, facts = Ranges(layout), _facts_of_codes(fmt.element)
    packed = isinstance(reading.codes, PackedCodes)
    codes = packed_codes.nibbles(reading.codes, layout) if isinstance(reading.codes, PackedCodes) else reading.codes
    if codes is None or len(facts) == 1 or ranges.columns or not ranges.unrolled:
        return None
    coded = reading.scales.dtype == np.uint8
    scales = reading.scales if coded else from_scale(fmt, reading.scales)
    values = decode_table(fmt.scale_value_format, BINARY32).view(f32) if coded else scales[:0, :0, 0]
    element = fmt.element
    assert isinstance(element, FloatFormat)
    tensor, how = tensor_operand(fmt, reading.tensor_scale)
    finite = element.max_code == element.magnitude_mask
    loop = block_loop(("decode vectors", ranges.unrolled, packed, finite, coded, how), reading.target.size)
    if loop is None:
        return None
    quantum = decode_table(element, BINARY32).view(f32)[1]
    far = reading.target.nbytes >= block_compiled.FAR
    operands = (codes, reading.target, scales, values, quantum, facts, tensor, far)
    return lambda task: loop(*operands, *ranges.of(task))


def _in_pieces(reading: Reading) -> Any:
    """Any elements of at most 16 bits."""
    fmt, layout, codes, target = reading.format, reading.layout, reading.codes, reading.target
    ranges, facts = Ranges(layout), _facts_of_codes(fmt.element)
    loop = block_loop(("decode", len(facts) > 1, ranges.unrolled, ranges.columns), target.size)
    if loop is None:
        return None
    scales = np.ascontiguousarray(from_scale(fmt, reading.scales))
    table = decode_table(fmt.element, BINARY32).view(f32)
    tensor, how = tensor_operand(fmt, reading.tensor_scale)
    if not isinstance(codes, PackedCodes):
        return lambda task: loop(codes, target, scales, table, facts, tensor, how, *ranges.of(task))
    read = packed_codes.reader(codes, layout)
    if read is None:
        return None

    def decode(task: Task) -> None:
        own = read(task)
        _, rows, columns = own.shape
        r, c = task.block_rows[0], task.block_columns[0] * layout.g
        values = target[:, r : r + rows, c : c + columns]
        factors = scales[:, r : r + rows, slice(*task.block_columns)]
        loop(own, values, factors, table, facts, tensor, how, 1, layout.g, 0, 1, 0, rows, 0, factors.shape[2])

    return decode


def _facts_of_codes(element: Format) -> Array:
    """The mask of a code; and for floats whose values are put together from fields: those fields' places."""
    mask = 2**element.bits - 1
    regular = (
        isinstance(element, FloatFormat) and element.signed and element.subnormals is Subnormals.GRADUAL
        and element.has_negative_zero and element.trailing_bits > 0 and not element.integer_bit
        and element.emin - element.trailing_bits >= 1 - BINARY32.bias and element.emax <= BINARY32.bias
    )  # fmt: skip
    if not regular:
        return np.array([mask], np.int64)
    assert isinstance(element, FloatFormat)
    up = BINARY32.trailing - element.trailing_bits
    infinity = -1 if element.infinity_code is None else element.infinity_code
    return np.array([
        mask, element.magnitude_mask, 2**element.trailing_bits, up, (BINARY32.bias - element.bias) << BINARY32.trailing,
        element.max_code, infinity, element.bits - 1,
    ], np.int64)  # fmt: skip
