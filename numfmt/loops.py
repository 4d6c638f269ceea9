"""Numba loops over the kernels; imported by compiled.py when a large array asks for them."""

from __future__ import annotations

from types import FunctionType
from typing import Any

from numba import njit

from . import lanes
from ._core import block, fixed, rounding, threefry
from ._core import float as floating
from ._core.fixed import Grid
from ._core.parameters import BINARY32, BINARY64, Results, Round, Source, Target
from .disk_cache import enable

STOCHASTIC = Round(nearest=0, lsb=0, sign=0, flip=0, random_bits=32, high_ones=2**31 - 1)
LANE = {32: lanes.lane32, 64: lanes.lane64}
CARRIER = {32: BINARY32, 64: BINARY64}


def _compiled_kernels() -> dict[str, Any]:
    """The functions of `_core` as Numba functions that call one another.

    Numba does not take keyword-only parameters, so `xp` becomes an ordinary last one.
    """
    bound: dict[str, Any] = {}
    for module in (rounding, floating, fixed, block, threefry):
        shared = {**vars(module), **bound}
        for name, function in list(vars(module).items()):
            if isinstance(function, FunctionType) and function.__module__ == module.__name__:
                key = f"{module.__name__.rsplit('.', 1)[1]}.{name}"
                bound[name] = bound[key] = shared[name] = kernel(function, shared)
    return bound


def kernel(function: FunctionType, shared: dict[str, Any]) -> Any:
    """A function of `_core` as a Numba function that sees `shared` as its module."""
    code = function.__code__
    code = code.replace(co_argcount=code.co_argcount + code.co_kwonlyargcount, co_kwonlyargcount=0)
    return njit(forceinline=True, error_model="numpy")(
        FunctionType(code, shared, function.__name__, function.__defaults__)
    )


KERNELS = _compiled_kernels()
decode_float, decode_fixed = KERNELS["float.decode"], KERNELS["fixed.decode"]
word = KERNELS["threefry.word"]


def make(kind: str, *options: Any) -> Any:
    """The loop of a kind and its options; compiled on first use, or loaded from disk."""
    match kind:
        case "random":
            return jit(_random_loop(), kind)
        case "take":
            return jit(_take, kind)
        case "decode":
            return jit(_decode_loop(*options), kind, *options)
        case _:
            return jit(_round_loop(kind, *options), kind, *options)


def jit(function: Any, *name: Any) -> Any:
    """A compiled loop, cached on disk under its name."""
    return enable(njit(nogil=True, error_model="numpy")(function), "_".join(str(part) for part in name))


def inner(function: Any) -> Any:
    """A compiled function that becomes part of the loops that call it.

    One that stayed a function would need a symbol that no other has, also in the processes that filled the
    cache: Numba numbers closures by process, and linked code takes the first symbol of a name.
    """
    return njit(error_model="numpy", forceinline=True)(function)


def unpackers(kind: str, lane: Any) -> tuple[Any, Any]:
    """Functions that read mode and results, and target or grid, from a parameter vector."""

    @njit(forceinline=True)
    def rules(p):
        mode = Round(lane(p[0]), lane(p[1]), lane(p[2]), lane(p[3]), lane(p[4]), lane(p[5]))
        results = Results(
            lane(p[6]), lane(p[7]), lane(p[8]), lane(p[9]), lane(p[10]), lane(p[11]), lane(p[12]), lane(p[13])
        )
        return mode, results

    make = Target if kind == "float" else Grid

    @njit(forceinline=True)
    def parameters(p):
        return make(
            lane(p[14]), lane(p[15]), lane(p[16]), lane(p[17]), lane(p[18]), lane(p[19]), lane(p[20]), lane(p[21]),
            lane(p[22]), lane(p[23]), lane(p[24]),
        )  # fmt: skip

    return rules, parameters


def _rounder(kind: str, in_carrier: bool, carrier: Any, general: bool) -> Any:
    """One element: carrier pattern in, code or carrier pattern out."""
    float_kernel = KERNELS["float.quantize" if in_carrier else "float.encode"]
    encode_fixed = KERNELS["fixed.encode"]

    @njit(forceinline=True)
    def round_float(bits, random, parameters, results, mode):
        return float_kernel(bits, random, carrier, parameters, results, mode, general, lanes)

    @njit(forceinline=True)
    def round_fixed(bits, random, parameters, results, mode):
        return encode_fixed(bits, random, carrier, parameters, results, mode, lanes)

    @njit(forceinline=True)
    def quantize_fixed(bits, random, parameters, results, mode):
        codes = encode_fixed(bits, random, carrier, parameters, results, mode, lanes)
        return decode_fixed(codes, carrier, parameters, lanes)

    if kind == "float":
        return round_float
    return quantize_fixed if in_carrier else round_fixed


def _round_loop(kind: str, in_carrier: bool, bits: int, general: bool, randomness: str) -> Any:
    """A loop over patterns: for deterministic modes, for given random numbers, or for those of a key."""
    lane, plain = LANE[bits], lanes.plain
    read_rules, read_parameters = unpackers(kind, lane)
    one = _rounder(kind, in_carrier, CARRIER[bits], general)
    word32 = lanes.word32

    def deterministic(patterns, p, out):
        mode, results = read_rules(p)
        parameters = read_parameters(p)
        for i in range(patterns.size):
            out[i] = plain(one(lane(patterns[i]), None, parameters, results, mode))

    def given(patterns, p, out, numbers):
        mode, results = read_rules(p)
        parameters = read_parameters(p)
        for i in range(patterns.size):
            out[i] = plain(one(lane(patterns[i]), lane(numbers[i]), parameters, results, mode))

    def stretch(patterns, p, out, k0, k1, high, low, shift):
        mode, results = read_rules(p)
        parameters = read_parameters(p)
        for i in range(patterns.size):
            random = word(k0, k1, high, low + word32(i)) >> shift
            out[i] = plain(one(lane(patterns[i]), lane(random), parameters, results, mode))

    def stochastic_stretch(patterns, p, out, k0, k1, high, low, shift):
        # `stretch` for the mode "stochastic" alone, whose constants fold away.
        _, results = read_rules(p)
        parameters = read_parameters(p)
        for i in range(patterns.size):
            random = word(k0, k1, high, low + word32(i))
            out[i] = plain(one(lane(patterns[i]), lane(random), parameters, results, STOCHASTIC))

    fill = inner(stochastic_stretch if randomness == "word" else stretch)

    def seeded(patterns, p, out, k0, k1, start, shift):
        key0, key1, high, low = word32(k0), word32(k1), word32(start >> 32), word32(start)
        room = 2**32 - (start & 0xFFFFFFFF)  # elements before a carry into the high word of the index
        fill(patterns[:room], p, out[:room], key0, key1, high, low, word32(shift))
        fill(patterns[room:], p, out[room:], key0, key1, high + 1, word32(0), word32(shift))

    return {"none": deterministic, "given": given}.get(randomness, seeded)


def _random_loop() -> Any:
    word32, plain = lanes.word32, lanes.plain

    def words(k0, k1, high, low, out):
        for i in range(out.size):
            out[i] = plain(word(k0, k1, high, low + word32(i)))

    stretch = inner(words)

    def fill(k0, k1, start, out):
        key0, key1, high, low = word32(k0), word32(k1), word32(start >> 32), word32(start)
        room = 2**32 - (start & 0xFFFFFFFF)
        stretch(key0, key1, high, low, out[:room])
        stretch(key0, key1, high + 1, word32(0), out[room:])

    return fill


def _take(codes, table, mask, out):
    """Entries of a table of all codes: as fast as a copy, for formats of up to 16 bits."""
    for i in range(codes.size):
        out[i] = table[codes[i] & mask]


def _decode_loop(kind: str, bits: int) -> Any:
    lane, plain, carrier = LANE[bits], lanes.plain, CARRIER[bits]

    def decode_floats(codes, p, out):
        source = Source(
            lane(p[0]), lane(p[1]), lane(p[2]), lane(p[3]), lane(p[4]), lane(p[5]), lane(p[6]), lane(p[7]), lane(p[8]),
            lane(p[9]), lane(p[10]), lane(p[11]), lane(p[12]),
        )  # fmt: skip
        for i in range(codes.size):
            out[i] = plain(decode_float(lane(codes[i]), carrier, source, lanes))

    def decode_integers(codes, p, out):
        grid = Grid(
            lane(p[0]), lane(p[1]), lane(p[2]), lane(p[3]), lane(p[4]), lane(p[5]), lane(p[6]), lane(p[7]), lane(p[8]),
            lane(p[9]), lane(p[10]),
        )  # fmt: skip
        for i in range(codes.size):
            out[i] = plain(decode_fixed(lane(codes[i]), carrier, grid, lanes))

    return decode_floats if kind == "Source" else decode_integers
