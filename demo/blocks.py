"""What a block format does to weights: codes and scales, and what was lost; the counts are numfmt.statistics'."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from measure import SEED
from weights import Tensor

import numfmt as nf
from numfmt.statistics import Statistics
from numfmt.statistics import measure as statistics_of

# What the demo runs, widest first: FORMAT[:ROUNDING].
BLOCK_CASES = (
    "mxint8", "mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "int4_group32", "nvfp4", "nvfp4_4over6",
    "nf4_block", "q4_0", "mxfp4", "mx4",
)  # fmt: skip

# fmt: off
DEFINITIONS = {
    "bits": "of an element, with its share of the scales",
    "slope": "<w, w'> / <w, w>; below 1 weights shrink",
    "saturated": "weights beyond the largest element × the scale of their block; last bin: weights that become it; "
                 "to zero: weights other than zero that become zero",
}
# fmt: on


@dataclass(frozen=True)
class BlockCase:
    """One row of the table of blocks: a format (by the name that was asked for) and a rounding mode."""

    name: str
    rounding: str

    @classmethod
    def parse(cls, text: str) -> BlockCase | None:
        """The case FORMAT[:ROUNDING], or None where FORMAT is no block format.

        Raises:
            ValueError: a rounding that the format does not take.
        """
        end = text.rfind(")") + 1 or text.find(":") % (len(text) + 1)  # calls may have colons inside
        name, rest = text[:end], text[end:].removeprefix(":")
        fmt = nf.get_format(name)
        if not isinstance(fmt, nf.BlockFormat):
            return None
        case = cls(name, nf.Rounding.parse(rest or fmt.default_rounding).value)
        encode(
            Tensor("", np.zeros(1, np.float32), (1,) * max(1, len(fmt.block))), case, 0
        )  # refuses what cannot be done
        return case

    @property
    def format(self) -> nf.BlockFormat:
        """The format."""
        fmt = nf.get_format(self.name)
        assert isinstance(fmt, nf.BlockFormat)
        return fmt

    def __str__(self) -> str:
        return f"{self.name}:{self.rounding}"


@dataclass(frozen=True)
class BlockRow:
    """What one case did to all weights; `sqnr_db` is None where nothing was lost."""

    format: str
    canonical_name: str
    rounding: str
    block: str
    scale: str
    rule: str
    bits: float
    sqnr_db: float | None
    slope: float
    saturated: int
    last_bin: int
    flushed_to_zero: int
    clamped_scales: int
    sha256: dict[str, str]

    @property
    def key(self) -> str:
        """The case, as `BlockCase.parse` reads it."""
        return f"{self.format}:{self.rounding}"

    @property
    def label(self) -> str:
        """The same, without the rounding that is usual for the format."""
        usual = BlockCase.parse(self.format)
        return self.format if usual and usual.rounding == self.rounding else self.key

    def as_json(self) -> dict[str, Any]:
        """The row as JSON holds it."""
        return asdict(self)


def measure_blocks(tensors: Iterable[Tensor], case: BlockCase) -> BlockRow:
    """The figures of one case over all tensors."""
    fmt, total, digests = case.format, Statistics(), {}
    for index, tensor in enumerate(tensors):
        q = encode(tensor, case, index)
        total += statistics_of(matrix(tensor, fmt), q)
        digests[tensor.name] = digest_of(q)
    finite = total.ee > 0 and total.xx > 0
    return BlockRow(
        case.name, str(fmt), case.rounding, _block(fmt), _scale(fmt), fmt.rule, float(fmt.bits_per_element),
        round(total.sqnr_db, 4) if finite else None, round(total.slope, 6) if total.xx else 1.0, total.beyond,
        total.at_end, total.to_zero, total.low_scales + total.high_scales, digests,
    )  # fmt: skip


def encode(tensor: Tensor, case: BlockCase, index: int) -> nf.BlockArray:
    """A tensor in blocks along the axis that products sum over; tensor number i takes the words of (SEED, i)."""
    fmt = case.format
    seed = (SEED, index) if nf.Rounding.parse(case.rounding).is_stochastic else None
    one_axis = len(fmt.block) == 1 and not fmt.flat
    rounding = None if case.rounding == fmt.default_rounding.value else case.rounding
    q: nf.BlockArray = nf.encode(
        matrix(tensor, fmt), fmt, axis=tensor.axis if one_axis else -1, rounding=rounding, seed=seed
    )
    return q


def matrix(tensor: Tensor, fmt: nf.BlockFormat) -> Any:
    """The tensor; one of fewer axes than a tile has as rows of one."""
    array = tensor.array
    return array.reshape(*(1,) * (len(fmt.block) - array.ndim), *array.shape)


def digest_of(q: nf.BlockArray) -> str:
    """SHA-256 of codes, scales, and the other levels that there are, little-endian, in C order."""
    parts = [q.codes, q.scales, q.tensor_scale, q.zero_points, *q.micro]
    if q.nested is not None:
        parts = [q.codes, q.nested.codes, q.nested.scales]
    digest = hashlib.sha256()
    for part in parts:
        if part is not None:
            array = np.asarray(part)
            digest.update(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"))).tobytes())
    return digest.hexdigest()


def _block(fmt: nf.BlockFormat) -> str:
    if not fmt.block:
        return "all"
    return "x".join("axis" if size < 0 else str(size) for size in fmt.block)


def _scale(fmt: nf.BlockFormat) -> str:
    """A short name of the scale format."""
    short = {"float8_e8m0fnu": "e8m0", "float8_e4m3fn": "e4m3", "float32": "f32", "float16": "f16"}
    if isinstance(fmt.scale, nf.BlockFormat):
        return "block"
    return short.get(str(fmt.scale), str(fmt.scale))
