"""Checkpoints: safetensors and GGUF files whose tensors may be quantized, in and out.

    with open_checkpoint("model.safetensors") as checkpoint:
        for name in checkpoint.tensors:
            values = checkpoint.values(name)        # as the layout's own loader gives them
            q = checkpoint.blocks(name)             # BlockArray: codes and scales

    with write_checkpoint("out.safetensors", targets, layout="gpt-oss") as writer:
        for target in targets:
            writer.put(target.name, nf.encode(x, target.format))

Files are read and written one tensor at a time, and appear whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from .arrays import decode
from .block_arrays import BlockArray
from .block_layout import Axis
from .blocks import BlockFormat
from .checkpoint_layouts import AnyFormat, Layout, Numfmt, Quantized, Stored, description, unpack_codes
from .formats import Format
from .gguf_files import MAGIC, GgufFile, check_spec, write_gguf
from .gguf_files import byte_count as gguf_bytes
from .gguf_layouts import PLAIN, Gguf
from .named_blocks import get_format
from .published_layouts import PUBLISHED
from .rounding import unknown
from .safetensors_files import DTYPES, SafetensorsFile, write_safetensors
from .safetensors_files import byte_count as safetensors_bytes
from .sources import FLOATS
from .tensor_files import Spec, TensorWriter, shown

Array = npt.NDArray[Any]

GGUF = Gguf()
_NUMFMT = Numfmt()
_QUANTIZED: dict[str, Layout] = {layout.name: layout for layout in (_NUMFMT, *PUBLISHED)}
LAYOUTS = (*_QUANTIZED, "gguf", "dequantized")

_GGUF_METADATA: dict[str, str | int | float | bool] = {
    "general.architecture": "numfmt",
    "general.quantization_version": 2,
}

# What safetensors' dtypes are to numfmt; the packed ones have no NumPy dtype to say it.
_PACKED = {"F4": "float4_e2m1fn", "F6_E2M3": "float6_e2m3fn", "F6_E3M2": "float6_e3m2fn"}


# Reading


class Checkpoint:
    """An open checkpoint; `open_checkpoint` makes it.

    Attributes:
        file: the `SafetensorsFile` or `GgufFile` under it.
        tensors: `Stored` by name, in the file's order; a quantized tensor is one, whatever it consists of.
    """

    def __init__(self, file: SafetensorsFile | GgufFile) -> None:
        self.file = file
        self.tensors: dict[str, Stored] = {}
        found = GGUF.find(file) if isinstance(file, GgufFile) else _find(file)
        for stored in found:
            if stored.name in self.tensors:
                raise file.error(stored.name, "lies in the file in two ways")
            self.tensors[stored.name] = stored

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.file.close()

    def stored(self, name: str) -> Stored:
        """How a tensor lies in the file."""
        try:
            return self.tensors[name]
        except KeyError:
            raise self.file.error(name, "there is no tensor of this name") from None

    def values(self, name: str, dtype: npt.DTypeLike | None = None) -> Array:
        """The values of a tensor.

        Args:
            name: of a tensor.
            dtype: of the result. Without it: a plain tensor's own; bfloat16 for gpt-oss and
                compressed-tensors, whose loaders give that; float32 for the rest.

        Returns:
            Array of the tensor's shape: what the layout's own loader gives. Other dtypes are rounded to
            from the loader's float32 value.

        Raises:
            TensorFileError: the file does not hold what it claims.
        """
        stored = self.stored(name)
        wanted = None if dtype is None else np.dtype(dtype)
        if isinstance(self.file, GgufFile):
            return GGUF.values(self.file, stored, wanted)
        if stored.layout != "plain":
            return _QUANTIZED[stored.layout].values(self.file, stored, wanted)
        info = self.file.info(name)
        values = self.file.tensor(name)
        if info.dtype in _PACKED:
            fmt = get_format(_PACKED[info.dtype])
            assert isinstance(fmt, Format)
            codes = unpack_codes(values, fmt.bits, info.size).reshape(info.shape)
            return np.asarray(decode(codes, fmt, dtype=wanted))
        return values if wanted is None else values.astype(wanted, copy=False)

    def blocks(self, name: str) -> Quantized:
        """A quantized tensor as it is: a `BlockArray`; codes where the format is a scalar one.

        Raises:
            ValueError: the tensor is not quantized.
        """
        stored = self.stored(name)
        if stored.layout == "plain":
            raise ValueError(f"{shown(name)} is not quantized; values() reads it")
        if isinstance(self.file, GgufFile):
            return GGUF.blocks(self.file, stored)
        return _QUANTIZED[stored.layout].blocks(self.file, stored)


def _find(file: SafetensorsFile) -> list[Stored]:
    """The tensors of a file, those that are parts of a quantized one together."""
    place = {name: i for i, name in enumerate(file.infos)}
    made = {}
    for layout in _QUANTIZED.values():
        for stored in layout.find(file):
            made[min(stored.parts.values(), key=place.__getitem__)] = stored
    parts = {part for stored in made.values() for part in stored.parts.values()}
    found = []
    for name, info in file.infos.items():
        if name in made:
            found.append(made[name])
        elif name not in parts:
            found.append(Stored(name, "plain", None, info.shape, None, {"data": name}))
    return found


@contextmanager
def open_checkpoint(path: str | os.PathLike[str]) -> Iterator[Checkpoint]:
    """A safetensors or GGUF file, told apart by its first bytes.

    Raises:
        TensorFileError: a file that is not what it claims; one line that names file and tensor.
        OSError: it cannot be read.
    """
    with open(path, "rb") as stream:
        gguf = stream.read(4) == MAGIC
    file = GgufFile(path) if gguf else SafetensorsFile(path)
    with file:
        yield Checkpoint(file)


# Writing


@dataclass(frozen=True)
class Target:
    """A tensor that is going to be written.

    Args:
        name, shape: of the tensor.
        dtype: its dtype as safetensors names it (F32), of a kept tensor and of dequantized values.
        format: to quantize to; None keeps the tensor.
        axis: of the blocks.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    format: AnyFormat | None = None
    axis: Axis = -1


class CheckpointWriter:
    """Takes the tensors that were announced, in any order; `write_checkpoint` makes it."""

    def __init__(self, writer: TensorWriter, plan: Mapping[str, tuple[Target, dict[str, Spec]]], layout: str) -> None:
        self._writer, self._plan, self._layout = writer, plan, layout

    def put(self, name: str, tensor: Quantized) -> None:
        """Write a quantized tensor, a `BlockArray` or codes; or rows of one after the other, from the first on.

        What belongs to a whole tensor, its tensor scale, is written with its first rows.
        """
        target, specs = self._plan[name]
        assert target.format is not None
        if self._layout == "dequantized":
            self._writer.write(name, _decoded(tensor, target))
            return
        layout = GGUF if self._layout == "gguf" else _QUANTIZED[self._layout]
        one_block = isinstance(target.format, BlockFormat) and target.format.block == ()
        for role, data in layout.arrays(tensor, target.format).items():
            of_the_whole = data.ndim == 0 or role == "global" or (one_block and role != "codes")
            if not (of_the_whole and self._writer.is_complete(specs[role].name)):
                self._writer.write(specs[role].name, data)

    def keep(self, name: str, data: Array | bytes) -> None:
        """Write bytes of a tensor that is kept, all or one piece after the other."""
        self._writer.write(name, data)


def _decoded(tensor: Quantized, target: Target) -> Array:
    """Values in the target's dtype, or their codes."""
    dtype = DTYPES[target.dtype].numpy
    if dtype is None:
        raise ValueError(f"{shown(target.name)}: dequantized values in {target.dtype} are not written; --dtype F32 are")
    if isinstance(tensor, BlockArray):
        return np.asarray(decode(tensor, dtype=dtype))
    assert isinstance(target.format, Format)
    return np.asarray(decode(tensor, target.format, dtype=dtype))


def plan_checkpoint(targets: Sequence[Target], layout: str) -> dict[str, tuple[Target, dict[str, Spec]]]:
    """What will be written for each tensor.

    Raises:
        TargetError: a tensor that the layout cannot hold.
        ValueError: an unknown layout.
    """
    if layout not in LAYOUTS:
        raise ValueError(unknown("layout", layout, list(LAYOUTS)))
    plan = {}
    owners: dict[str, str] = {}
    for target in targets:
        try:
            specs = _specs(target, layout)
            for spec in specs.values():
                if layout == "gguf":
                    check_spec(spec)
                if owners.setdefault(spec.name, target.name) != target.name:
                    raise ValueError(f"its part {shown(spec.name)} has the name of another tensor")
        except ValueError as error:
            raise TargetError(target.name, str(error)) from None
        plan[target.name] = target, specs
    return plan


class TargetError(ValueError):
    """A tensor that cannot be written as it is asked for."""

    def __init__(self, tensor: str, why: str) -> None:
        super().__init__(f"{shown(tensor)}: {why}")
        self.tensor, self.why = tensor, why


def check_format(layout: str, fmt: AnyFormat, axis: Axis) -> None:
    """Raise ValueError where a layout holds no tensor of a format."""
    if layout not in LAYOUTS:
        raise ValueError(unknown("layout", layout, list(LAYOUTS)))
    chosen = GGUF if layout == "gguf" else _QUANTIZED.get(layout, _NUMFMT)
    chosen.check(fmt, axis, None)


def byte_count(spec: Spec, layout: str) -> int:
    """Bytes of a tensor in a file."""
    return (gguf_bytes if layout == "gguf" else safetensors_bytes)(spec.dtype, spec.shape)


def _specs(target: Target, layout: str) -> dict[str, Spec]:
    if target.format is None or layout == "dequantized":
        if target.format is not None:
            _NUMFMT.check(target.format, target.axis, target.shape)
        dtype = target.dtype
        if layout == "gguf" and dtype not in PLAIN:
            raise ValueError(f"GGUF has no type for {dtype}; it has {', '.join(PLAIN)}")
        return {"data": Spec(target.name, dtype, target.shape)}
    chosen = GGUF if layout == "gguf" else _QUANTIZED[layout]
    chosen.check(target.format, target.axis, target.shape)
    return chosen.specs(target.name, target.format, target.axis, target.shape)


@contextmanager
def write_checkpoint(
    path: str | os.PathLike[str],
    targets: Sequence[Target],
    *,
    layout: str = "numfmt",
    metadata: Mapping[str, str] | None = None,
) -> Iterator[CheckpointWriter]:
    """A checkpoint whose tensors are written one after the other.

    The file appears under its name, complete and on disk, when the block ends; if it fails, there is
    nothing, or the file that was there before.

    Args:
        path: the file; GGUF under the layout gguf, else safetensors.
        targets: every tensor that will be written.
        layout: "numfmt" (any format), "gpt-oss", "compressed-tensors", "modelopt", "gguf", or
            "dequantized": values, which any loader reads.
        metadata: strings for the metadata of a safetensors file.

    Raises:
        ValueError: an unknown layout, a tensor that it cannot hold, one that was not written completely.

    >>> import tempfile
    >>> import numfmt as nf
    >>> target = Target("w", (2, 32), "F32", nf.get_format("mxfp4"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with write_checkpoint(f"{folder}/w.safetensors", [target], layout="gpt-oss") as writer:
    ...         writer.put("w", nf.encode(np.ones((2, 32), np.float32), target.format))
    ...     with open_checkpoint(f"{folder}/w.safetensors") as checkpoint:
    ...         print(checkpoint.stored("w").layout, checkpoint.values("w").sum())
    gpt-oss 64
    """
    plan = plan_checkpoint(targets, layout)
    specs = [spec for _, found in plan.values() for spec in found.values()]
    texts = dict(metadata or {})
    if layout == "gguf":
        with write_gguf(path, specs, _GGUF_METADATA) as writer:
            yield CheckpointWriter(writer, plan, layout)
        return
    if layout == "numfmt":
        ours = {t.name: (t.format, t.axis, t.shape) for t in targets if t.format is not None}
        texts["numfmt"] = description(ours, texts.get("numfmt"))
    with write_safetensors(path, specs, texts) as writer:
        yield CheckpointWriter(writer, plan, layout)


def is_float(dtype: str) -> bool:
    """Whether a safetensors dtype is one of floats that numfmt can quantize."""
    return dtype in DTYPES and DTYPES[dtype].numpy in FLOATS
