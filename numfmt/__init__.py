"""numfmt: a bit-exact emulator of number formats.

>>> import numfmt as nf
>>> nf.quantize([0.1, 1.7, 300.0], "e4m3fn").tolist()
[0.1015625, 1.75, 288.0]
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING
from typing import Any as _Any

from .arrays import convert, decode, encode, exact, quantize, value_table
from .block_arrays import BlockArray
from .blocks import BlockFormat
from .formats import CodebookFormat, FixedFormat, FloatFormat, Specials, Subnormals
from .named_blocks import get_format, list_formats
from .packed_codes import PackedCodes
from .packing import pack, unpack
from .platforms import get_platform
from .random import random_bits
from .rounding import Overflow, Platform, Rounding
from .statistics import Statistics, measure

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import arithmetic, vectors
    from .named_units import get_unit, list_units
    from .reveal_units import Revealed, reveal
    from .sums import dot, matmul
    from .unit_errors import stall_point, sum_error
    from .units import DotUnit

_MODULES = ("arithmetic", "vectors")  # loaded when they are asked for, as what other modules define
_ELSEWHERE = {
    "DotUnit": "units", "dot": "sums", "get_unit": "named_units", "list_units": "named_units", "matmul": "sums",
    "Revealed": "reveal_units", "reveal": "reveal_units", "stall_point": "unit_errors", "sum_error": "unit_errors",
}  # fmt: skip


def __getattr__(name: str) -> _Any:
    if name in _MODULES:
        return _import_module(f".{name}", __name__)
    if name in _ELSEWHERE:
        return getattr(_import_module(f".{_ELSEWHERE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "BlockArray",
    "BlockFormat",
    "CodebookFormat",
    "DotUnit",
    "FixedFormat",
    "FloatFormat",
    "Overflow",
    "PackedCodes",
    "Platform",
    "Revealed",
    "Rounding",
    "Specials",
    "Statistics",
    "Subnormals",
    "arithmetic",
    "convert",
    "decode",
    "dot",
    "encode",
    "exact",
    "get_format",
    "get_platform",
    "get_unit",
    "list_formats",
    "list_units",
    "matmul",
    "measure",
    "pack",
    "quantize",
    "random_bits",
    "reveal",
    "stall_point",
    "sum_error",
    "unpack",
    "value_table",
    "vectors",
]
