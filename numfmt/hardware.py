"""The processor at hand as a judge: its own conversions, fused multiply-add and dot products, run on arrays of codes.

`hardware.c` beside this module is compiled when `machine` is first called, into a temporary folder. Nothing else of
numfmt needs a compiler.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import hardware_dots
from .named import scalar_format
from .rounding import Rounding

Array = npt.NDArray[Any]
MASKED = 0x1F80  # every exception of MXCSR
DENORMALS_ARE_ZERO, FLUSH_TO_ZERO = 0x0040, 0x8000
ROUNDINGS = (Rounding.TIES_TO_EVEN, Rounding.TOWARD_NEGATIVE, Rounding.TOWARD_POSITIVE, Rounding.TOWARD_ZERO)
LANES = 8  # elements that hardware.c converts at once


class Unavailable(RuntimeError):
    """The processor, or a compiler for it, is not here; the text says which."""


@dataclass(frozen=True)
class Instruction:
    """An instruction and the platform, or the dot-product unit, of numfmt that describes it.

    Attributes:
        name: as the processor's manual writes it.
        entry: its function in hardware.c.
        features: processor features of which one is needed, as hardware.c calls them, with Linux's names of them.
        operation: what it computes: "convert", "fma", or "dot", whose operands are words of several elements.
        source: name of the operands' format.
        to: name of the result's format.
        platform: name of the platform, or of the unit.
        roundings: the modes it has.
        has_flags: whether it reports IEEE exceptions.
    """

    name: str
    entry: str
    features: tuple[tuple[str, str], ...]
    operation: str
    source: str
    to: str
    platform: str
    roundings: tuple[Rounding, ...] = ROUNDINGS
    has_flags: bool = True

    @property
    def operands(self) -> int:
        """How many operands it takes."""
        return 1 if self.operation == "convert" else 3

    @property
    def operand_bits(self) -> int:
        """Width of an operand."""
        return 32 if self.operation == "dot" else scalar_format(self.source).bits

    @property
    def described(self) -> str:
        """What of numfmt it is compared with, in words."""
        return f"{'unit' if self.operation == 'dot' else 'platform'} {self.platform}"

    @property
    def needs(self) -> str:
        """Features of which the processor must have one, as Linux calls them."""
        return " or ".join(name for _, name in self.features)


_NEAREST = ROUNDINGS[:1]
_BF16 = (("bf16", "avx512_bf16"), ("ne_convert", "avx_ne_convert"))
_F16C, _FMA = (("f16c", "f16c"),), (("fma", "fma"),)
_DOT_BF16, _VNNI = (("bf16", "avx512_bf16"),), (("vnni", "avx512_vnni"), ("avx_vnni", "avx_vnni"))

# Intel SDM volume 2, and volume 1 §14.5 for the order in which the NaNs of VFMADD213 win.
INSTRUCTIONS = (
    Instruction(
        "VCVTNEPS2BF16", "numfmt_bf16", _BF16, "convert", "float32", "bfloat16", "x86.vcvtneps2bf16", _NEAREST, False
    ),
    Instruction("VCVTPS2PH", "numfmt_half", _F16C, "convert", "float32", "float16", "x86.vcvtps2ph"),
    Instruction("VCVTPH2PS", "numfmt_widen", _F16C, "convert", "float16", "float32", "x86.vcvtph2ps", _NEAREST),
    Instruction("VFMADD213SS", "numfmt_fma32", _FMA, "fma", "float32", "float32", "x86.sse"),
    Instruction("VFMADD213SD", "numfmt_fma64", _FMA, "fma", "float64", "float64", "x86.sse"),
    Instruction(
        "VDPBF16PS", "numfmt_dot_bf16", _DOT_BF16, "dot", "bfloat16", "float32", "x86.vdpbf16ps", _NEAREST, False
    ),
    Instruction("VPDPBUSD", "numfmt_dot_int8", _VNNI, "dot", "uint8", "int32", "x86.vpdpbusd", _NEAREST, False),
    Instruction(
        "VPDPBUSDS", "numfmt_dot_int8_saturating", _VNNI, "dot", "uint8", "int32", "x86.vpdpbusds", _NEAREST, False
    ),
)


class Machine:
    """The instructions of the processor at hand."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def has(self, instruction: Instruction) -> bool:
        """Whether the processor has the instruction."""
        return any(self._library.numfmt_has(name.encode()) for name, _ in instruction.features)

    def run(
        self,
        instruction: Instruction,
        operands: Sequence[Array],
        rounding: Rounding | str = Rounding.TIES_TO_EVEN,
        *,
        control: int = 0,
        return_flags: bool = False,
    ) -> tuple[Array, Array | None]:
        """Codes of the results, and with `return_flags` the exceptions of each element, uint8 in TestFloat's order.

        Args:
            operands: arrays of codes, all of one shape.
            control: more bits of MXCSR: DENORMALS_ARE_ZERO, FLUSH_TO_ZERO.

        Raises:
            ValueError: a rounding mode that the instruction has not.
            Unavailable: the processor has no such instruction.
        """
        mode = Rounding.parse(rounding)
        if mode not in instruction.roundings:
            known = ", ".join(instruction.roundings)
            raise ValueError(f"rounding {mode.value!r} is given; {instruction.name} has {known}")
        if not self.has(instruction):
            raise Unavailable(f"this processor has no {instruction.name}: it needs {instruction.needs}")
        shape = np.shape(operands[0])
        size = int(np.prod(shape))
        filled = -(-size // LANES) * LANES
        inputs = [_padded(codes, instruction.operand_bits, filled) for codes in operands]
        out = np.empty(filled, f"uint{scalar_format(instruction.to).bits}")
        flags = np.empty(filled, np.uint8) if return_flags else None
        number = ROUNDINGS.index(mode)
        pointers = [_pointer(array) for array in (*inputs, out, flags)]
        arguments = [*pointers, ctypes.c_long(filled), ctypes.c_uint(control | number << 13)]
        if instruction.entry == "numfmt_half":
            arguments.append(ctypes.c_int(number))
        getattr(self._library, instruction.entry)(*arguments)
        return out[:size].reshape(shape), None if flags is None else flags[:size].reshape(shape)


def _padded(codes: Array, bits: int, size: int) -> Array:
    """Codes as a flat contiguous array of `size`, the last ones zero."""
    flat = np.ascontiguousarray(codes, f"uint{bits}").reshape(-1)
    if flat.size == size:
        return flat
    longer = np.zeros(size, flat.dtype)
    longer[: flat.size] = flat
    return longer


def _pointer(array: Array | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if array is None else array.ctypes.data)


@cache
def machine() -> Machine:
    """The processor at hand; compiles hardware.c the first time.

    Raises:
        Unavailable: no x86-64, no C compiler, or one that fails.
    """
    kind = platform.machine()
    if kind.lower() not in ("x86_64", "amd64"):
        raise Unavailable(f"the processor is {kind or 'unknown'}; the instructions are those of x86-64")
    given = os.environ.get("CC")
    found = shlex.split(given) if given else next(([p] for c in ("cc", "gcc", "clang") if (p := shutil.which(c))), None)
    if not found:
        raise Unavailable("no C compiler is found (cc, gcc, clang, or what CC names); apt-get install gcc")
    source = resources.files("numfmt") / "hardware.c"
    with TemporaryDirectory(prefix="numfmt-", ignore_cleanup_errors=True) as folder, resources.as_file(source) as path:
        library = Path(folder) / "hardware.so"
        command = [*found, "-O2", "-shared", "-fPIC", "-o", str(library), str(path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise Unavailable(f"the C compiler {found[0]} does not run: {error.strerror}") from error
        if done.returncode:
            reason = next((line for line in done.stderr.splitlines() if "error" in line), "it says nothing")
            raise Unavailable(f"the C compiler {found[0]} cannot compile hardware.c: {reason.strip()}")
        return Machine(ctypes.CDLL(str(library)))


def processor() -> str:
    """What the processor calls itself."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


# Operands


def stratified(bits: int, trailing: int) -> Array:
    """Codes of a binary format: both signs and every exponent with significands of each characteristic shape."""
    ones = 2**trailing - 1
    shapes = {0, 1, 2, ones, ones - 1, ones // 3} | {1 << i for i in range(0, trailing, 3)}
    shapes |= {(1 << i) + 1 for i in range(2, trailing, 4)} | {ones ^ ((1 << i) - 1) for i in range(1, trailing, 4)}
    fields = np.arange(2 ** (bits - trailing), dtype=np.uint64) << np.uint64(trailing)
    codes = fields[:, None] | np.array(sorted(shapes), np.uint64)
    return codes.reshape(-1).astype(f"uint{bits}")


def triples(bits: int, trailing: int, count: int) -> list[Array]:
    """Three columns of `count` codes to multiply and add: specials with each other, then addends near the product."""
    bias = 2 ** (bits - trailing - 2) - 1
    least, top = 1, 2 * bias + 1
    one, quiet, signaling = bias << trailing, (top << trailing) + (1 << (trailing - 1)) + 1, (top << trailing) + 2
    special = [0, 1, one, (top << trailing) - 1, least << trailing, top << trailing, quiet, signaling]
    special += [code | 1 << (bits - 1) for code in special]
    columns = [np.array(column, np.uint64) for column in zip(*product(special, repeat=3), strict=True)]
    if count <= columns[0].size:
        return [column[:: columns[0].size // count][:count].astype(f"uint{bits}") for column in columns]
    more = count - columns[0].size
    words = np.random.default_rng(2019).integers(0, 2**64, (6, more), np.uint64, endpoint=False)
    ones = np.uint64(2**trailing - 1)
    # Some significands have most bits alike, so that products cancel, tie and carry.
    shapes = (words[:3] >> 62, words[:3] & ones, ones ^ (words[:3] & 7), words[:3] & 7 << trailing - 3)
    fractions = np.where(shapes[0] == 0, shapes[1], np.where(shapes[0] == 1, shapes[2], shapes[3]))
    a, b = ((words[i] >> 8) % top for i in (3, 4))
    offset = (words[5] >> 8).astype(np.int64) % (4 * trailing) - 2 * trailing
    near = a.astype(np.int64) + b.astype(np.int64) - bias + offset
    c = np.clip(near, 0, top - 1).astype(np.uint64)
    signs = [words[5] >> np.uint64(i) & np.uint64(1) for i in range(3)]
    for i, (exponent, fraction, sign) in enumerate(zip((a, b, c), fractions, signs, strict=True)):
        codes = sign << np.uint64(bits - 1) | exponent << np.uint64(trailing) | fraction
        columns[i] = np.concatenate([columns[i], codes])
    return [column.astype(f"uint{bits}") for column in columns]


def operands(instruction: Instruction, count: int) -> list[Array]:
    """Operand columns: characteristic ones first, then, up to `count`, random ones."""
    if instruction.operation == "dot":
        return hardware_dots.operands(instruction, count)
    fmt = scalar_format(instruction.source)
    trailing = {16: 10, 32: 23, 64: 52}[fmt.bits]
    if instruction.operation == "fma":
        return triples(fmt.bits, trailing, count)
    if fmt.bits <= 16:
        return [np.arange(2**fmt.bits, dtype=np.uint64).astype(f"uint{fmt.bits}")]
    codes = stratified(fmt.bits, trailing)
    if codes.size >= count:
        return [codes[:: codes.size // count]]
    more = np.random.default_rng(2019).integers(0, 2**fmt.bits, count - codes.size, np.uint64, endpoint=False)
    return [np.concatenate([codes, more.astype(codes.dtype)])]


# What numfmt says


def expected(instruction: Instruction, columns: Sequence[Array], rounding: Rounding) -> tuple[Array, Array]:
    """Codes and flags by the instruction's platform or unit; a unit raises no flags."""
    from . import arithmetic

    if instruction.operation == "dot":
        return hardware_dots.expected(instruction, columns), np.zeros(columns[0].shape, np.uint8)
    codes, flags = arithmetic.compute(
        instruction.operation, columns, instruction.source, to=instruction.to, rounding=rounding,
        platform=instruction.platform,
    )  # fmt: skip
    return np.asarray(codes), np.asarray(flags)


class Comparison(NamedTuple):
    """One instruction in one mode, beside its platform or unit; `vectors` is 0 where the processor lacks it."""

    instruction: Instruction
    rounding: Rounding
    vectors: int
    differences: int
    first: str  # explains the first difference


def compare(instruction: Instruction, rounding: Rounding, columns: Sequence[Array]) -> Comparison:
    """Run an instruction and its platform or unit on the same operands; bits of results and flags."""
    here = machine()
    got, flags = here.run(instruction, columns, rounding, return_flags=instruction.has_flags)
    wanted, wanted_flags = expected(instruction, columns, rounding)
    differs = got != wanted
    if flags is not None:
        differs |= flags != wanted_flags
    count = int(np.count_nonzero(differs))
    first = ""
    if count:
        i = int(np.argmax(differs))
        given = " ".join(_hex(column[i], instruction.operand_bits) for column in columns)
        results = [_hex(codes[i], scalar_format(instruction.to).bits) for codes in (got, wanted)]
        first = f"{given} gives {results[0]}, {instruction.platform} says {results[1]}"
        if flags is not None:
            first += f"; flags {int(flags[i]):02x} and {int(wanted_flags[i]):02x}"
    return Comparison(instruction, rounding, columns[0].size, count, first)


def _hex(code: Any, bits: int) -> str:
    return f"0x{int(code):0{bits // 4}x}"


def comparisons(count: int = 5000) -> Iterator[Comparison]:
    """Every instruction in every mode on about `count` operands.

    Raises:
        Unavailable: no x86-64 or no C compiler.
    """
    here = machine()
    for instruction in INSTRUCTIONS:
        columns = operands(instruction, count) if here.has(instruction) else []
        for rounding in instruction.roundings:
            if columns:
                yield compare(instruction, rounding, columns)
            else:
                yield Comparison(instruction, rounding, 0, 0, "")
