"""`BlockArray`: an array in a block format."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .block_layout import Axis, Layout, layout_of
from .blocks import BlockFormat
from .packed_codes import PackedCodes

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False, repr=False)
class BlockArray:
    """An array in a block format: codes of elements, and the scales that blocks of them share.

    Attributes:
        codes: unsigned integers of the array's shape, codes of `format.element`; or `PackedCodes`.
        scales: one a block: uint8 codes of `format.scale`, or values where NumPy has that format
            (float16, float32); ceil(n / k) along each block axis, the array's length along the others.
        tensor_scale: float32 that scales the whole array, or None.
        format: the `BlockFormat`.
        axis: the block axis, two of them for tiles, None for blocks over the flattened or whole array.
        shape: of the array.
        tensor_amax: float32, the largest magnitude of the array, where the format has a tensor scale.
        zero_points: one a block, in affine formats (integers) and those with a minimum (float16).
        micro: second-level exponents, uint8, of shape scales.shape + (parts of a block,); one array a level.
        nested: the scales as a `BlockArray`, where the format quantizes them in turn.

    >>> import numpy as np, numfmt as nf
    >>> q = nf.encode(np.arange(64, dtype=np.float32).reshape(2, 32), "mxfp4")
    >>> q
    BlockArray(mxfp4, shape (2, 32), axis 1, 34 bytes: 32 of codes, 2 of scales)
    >>> q.scales.tolist()
    [[129], [130]]
    >>> np.asarray(q)[0, :8].tolist()
    [0.0, 0.0, 2.0, 4.0, 4.0, 4.0, 6.0, 8.0]
    """

    codes: Any
    scales: Array
    tensor_scale: np.float32 | None
    format: BlockFormat
    axis: Axis
    shape: tuple[int, ...]
    tensor_amax: np.float32 | None = None
    zero_points: Array | None = None
    micro: tuple[Array, ...] = ()
    nested: BlockArray | None = None

    def __post_init__(self) -> None:
        if tuple(self.codes.shape) != tuple(self.shape):
            raise ValueError(f"codes has shape {self.codes.shape}; the array has shape {self.shape}")
        expected = self.layout.scales_shape
        if tuple(self.scales.shape) != expected:
            raise ValueError(
                f"scales has shape {self.scales.shape}; {self.format} has {expected} for an array of shape {self.shape}"
            )

    @property
    def layout(self) -> Layout:
        """How the blocks lie in the array."""
        return layout_of(tuple(self.shape), self.format, self.axis)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(self.codes.size)

    @property
    def nbytes(self) -> int:
        """Bytes of a packed copy: elements, scales, zero points and micro-exponents, each rounded up to bytes."""
        return sum(self._parts().values())

    def _parts(self) -> dict[str, int]:
        fmt = self.format
        parts = {"codes": -(-self.size * fmt.element.bits // 8)}
        if self.nested is not None:
            parts["scales"] = self.nested.nbytes
        else:
            assert not isinstance(fmt.scale, BlockFormat)
            parts["scales"] = -(-self.scales.size * fmt.scale.bits // 8)
        if self.zero_points is not None:
            parts["zero points"] = -(-self.zero_points.size * fmt.scale_rule.zero_point_bits(fmt) // 8)
        for (_, bits), level in zip(fmt.micro, self.micro, strict=True):
            parts["micro-exponents"] = parts.get("micro-exponents", 0) + -(-level.size * bits // 8)
        if self.tensor_scale is not None:
            parts["tensor scale"] = 4
        return parts

    def __repr__(self) -> str:
        parts = ", ".join(f"{n:,} of {what}" for what, n in self._parts().items())
        axis = f"axis {self.axis}"
        if self.axis is None:
            axis = "flat blocks" if self.format.flat else "one block"
        return f"BlockArray({self.format}, shape {tuple(self.shape)}, {axis}, {self.nbytes:,} bytes: {parts})"

    def __len__(self) -> int:
        return len(self.codes)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("copy=False is given; the values of a BlockArray are made when they are asked for")
        return self.decode(dtype=dtype)

    def pack(self, layout: str = "low_first") -> BlockArray:
        """The same array with its codes packed along the last axis (`numfmt.pack`); decoding reads them as they are."""
        from .packing import pack

        bits = self.format.element.bits
        data = pack(np.asarray(self.codes), bits, layout=layout)
        return replace(self, codes=PackedCodes(data, bits, tuple(self.shape), layout))

    def unpack(self) -> BlockArray:
        """The same array with its codes one an element."""
        return replace(self, codes=np.asarray(self.codes)) if isinstance(self.codes, PackedCodes) else self

    def decode(self, **options: Any) -> Array:
        """The values, as `numfmt.decode`."""
        from .block_functions import decode_array

        return decode_array(self, **options)

    def requantize(self, axis: Axis = None, format: str | BlockFormat | None = None, **options: Any) -> BlockArray:
        """The decoded values encoded again, along another axis or in another format.

        Without an axis it is this array's, or the last where the other format's blocks are of another kind.
        """
        from .block_functions import encode_array
        from .named_blocks import get_format

        fmt = self.format if format is None else get_format(format)
        if not isinstance(fmt, BlockFormat):
            raise ValueError(f"{fmt} is given; requantize() takes block formats, decode() gives values for others")
        if axis is None:
            same = len(fmt.block) == len(self.format.block) and fmt.flat == self.format.flat
            axis = self.axis if same else -1
        return encode_array(self.decode(), fmt, axis=axis, **options)

    @property
    def T(self) -> BlockArray:
        """The transposed array."""
        return self.transpose()

    def transpose(self, *axes: int) -> BlockArray:
        """The array with its axes permuted; no element changes.

        Raises:
            ValueError: the format's blocks run over the flattened array, or the axes are no permutation.
        """
        if self.format.flat:
            raise ValueError(f"{self.format} has blocks over the flattened array, which no transpose keeps")
        given: Any = axes[0] if len(axes) == 1 else axes
        given = given if isinstance(given, tuple | list) else axes
        order = tuple(i % self.ndim for i in given) if given else tuple(reversed(range(self.ndim)))
        if sorted(order) != list(range(self.ndim)):
            raise ValueError(f"axes {axes} are given; they must be a permutation of 0 to {self.ndim - 1}")
        axis = self.axis
        if isinstance(axis, tuple):
            axis = tuple(order.index(i) for i in axis)
        elif axis is not None:
            axis = order.index(axis)
        return replace(
            self, codes=np.asarray(self.codes).transpose(order), scales=self.scales.transpose(order), axis=axis,
            shape=tuple(self.shape[i] for i in order),
            zero_points=None if self.zero_points is None else self.zero_points.transpose(order),
            micro=tuple(level.transpose(*order, self.ndim) for level in self.micro),
        )  # fmt: skip

    def __getitem__(self, key: Any) -> BlockArray:
        """Slices whose borders along block axes are block borders.

        Raises:
            ValueError: a slice tears a block, or blocks run over the flattened array.
            IndexError: out of range, or an index other than integers, slices and an ellipsis.
        """
        if self.format.flat or self.format.block == ():
            raise ValueError(f"{self.format} has blocks over the whole array; slice the decoded values instead")
        if self.nested is not None:
            raise ValueError(f"{self.format} has quantized scales; slice the decoded values instead")
        keys = _full_key(key, self.ndim)
        layout, axes = self.layout, self.axis if isinstance(self.axis, tuple) else (self.axis,)
        sizes = dict(zip(axes, (layout.a, layout.g) if len(axes) == 2 else (max(layout.a, layout.g),), strict=True))
        scale_keys = [
            _scale_key(k, n, sizes[i], i) if i in sizes else k
            for i, (k, n) in enumerate(zip(keys, self.shape, strict=True))
        ]
        codes = np.asarray(self.codes)[tuple(keys)]
        kept = [i for i, k in enumerate(keys) if isinstance(k, slice)]
        axis = tuple(kept.index(i) for i in axes)  # type: ignore[arg-type]
        scales = self.scales[tuple(scale_keys)]
        return replace(
            self, codes=codes, scales=scales, axis=axis if len(axis) == 2 else axis[0], shape=codes.shape,
            zero_points=None if self.zero_points is None else self.zero_points[tuple(scale_keys)],
            micro=tuple(level[tuple(scale_keys)] for level in self.micro),
        )  # fmt: skip


def _full_key(key: Any, ndim: int) -> list[Any]:
    """One integer or slice for each axis."""
    keys = list(key) if isinstance(key, tuple) else [key]
    plain = [k for k in keys if k is not Ellipsis]
    if not all(isinstance(k, int | np.integer | slice) and not isinstance(k, bool) for k in plain):
        raise IndexError("a BlockArray takes integers, slices and one ... as indices")
    if len(keys) - len(plain) > 1:
        raise IndexError("two ... are given as indices; a BlockArray takes one")
    if Ellipsis in keys:
        at = keys.index(Ellipsis)
        keys[at : at + 1] = [slice(None)] * (ndim - len(keys) + 1)
    keys += [slice(None)] * (ndim - len(keys))
    if len(keys) != ndim:
        raise IndexError(f"{len(keys)} indices are given for {ndim} axes")
    return keys


def _scale_key(key: Any, n: int, size: int, axis: int) -> slice:
    """The slice of scales for a slice of elements along a block axis."""
    if not isinstance(key, slice):
        raise ValueError(f"an integer is given along block axis {axis}; a slice of whole blocks of {size} fits")
    start, stop, step = key.indices(n)
    stop = max(stop, start)
    if step != 1 or (start % size and start != n) or (stop % size and stop != n):
        raise ValueError(
            f"the slice {start}:{stop}:{step} is given along block axis {axis}; it must take whole blocks of {size}"
        )
    return slice(-(-start // size), -(-stop // size))
