"""What other libraries make of blocks, each operation as a `Case`: operands, their results, ours.

A peer that is not installed skips the test that asks for it, with a message that says how to get it.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from importlib.metadata import version
from typing import Any

import numpy as np
import pytest

import numfmt as nf
from tests.judges.block_divergences import NAN, RAISED, Case
from tests.judges.operands import Array
from tests.test_blocks import adversarial

MODULES = {  # what must be importable, and how to get it
    "gguf": (("gguf",), "pip install --no-deps gguf==0.19.0"),
    "gfloat": (("gfloat",), "pip install gfloat==0.5.2"),
    "verifloat": (("verifloat",), "Python 3.12 and pip install verifloat==0.2.0"),
    "torchao": (("torch", "torchao"), "pip install torch==2.13.0 and pip install --no-deps torchao==0.18.0"),
}
MX = ("mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4", "mxint8")
f32 = np.float32


def need(peer: str) -> str:
    """The version of a peer; skips the test, or the module that asks, where it is not installed."""
    modules, advice = MODULES[peer]
    if any(importlib.util.find_spec(module) is None for module in modules):
        pytest.skip(f"{peer} is not installed ({advice})", allow_module_level=True)
    return version(peer)


# ---- operands --------------------------------------------------------------------------------------------------


@lru_cache
def float_blocks(name: str, k: int, step: int = 1, seed: int = 0) -> Array:
    """Blocks of float32, one a row: adversarial ones, every exponent, boundaries of the scale, random patterns, many magnitudes."""
    rng = np.random.default_rng(seed)
    largest = float(max(nf.get_format(name).element.max, 1))
    patterns = rng.integers(0, 2**32, (3000, k), np.uint64).astype(np.uint32)
    patterns[::2] &= np.uint32(0xBFFFFFFF)  # fewer NaNs, and none where the top exponent bit is clear
    spread = [rng.standard_normal((8, k)) * 2.0**e for e in range(-140, 122, 7)]
    with np.errstate(over="ignore"):
        rows = np.concatenate(
            [adversarial(name, k, 0), adversarial(name, k, 1), *_boundaries(largest, k, rng), patterns.view(f32), np.concatenate(spread).astype(f32)]
        )
    return np.ascontiguousarray(rows[::step])


def _boundaries(largest: float, k: int, rng: np.random.Generator) -> list[Array]:
    """Blocks whose amax is a power of two, or the largest element times one, and a few ulp beside, in every binade."""
    rows = []
    for head in {1.0, np.frexp(largest)[0] * 2, 1.5, 1.75}:
        with np.errstate(over="ignore", under="ignore"):
            at = np.ldexp(head, np.arange(-149, 128)).astype(f32)
        bits = at[np.isfinite(at) & (at > 0)].view(np.int32)
        for ulps in (-2, -1, 0, 1, 2, 5):
            amax = np.maximum(bits + ulps, 1).astype(np.int32).view(f32)
            amax = amax[np.isfinite(amax)]
            block = (rng.uniform(-1, 1, (len(amax), k)) * amax[:, None]).astype(f32)
            block[np.arange(len(amax)), rng.integers(0, k, len(amax))] = amax * rng.choice([-1, 1], len(amax))
            rows.append(block)
    return rows


@lru_cache
def tensors(seed: int = 0) -> Array:
    """Tensors of four blocks of 16, one a row, for formats with a tensor scale."""
    rng = np.random.default_rng(seed)
    rows = adversarial("nvfp4", 16, seed)
    rows = rows[np.isfinite(rows).all(axis=1)]
    near = rows[: len(rows) // 4 * 4].reshape(-1, 64)
    far = np.concatenate([rows[i::97][:4].reshape(1, 64) for i in range(97)])
    wide = rng.standard_normal((300, 4, 16)) * np.exp2(rng.uniform(-6, 6, (300, 4, 1))) * np.exp2(rng.integers(-120, 119, (300, 1, 1)))
    special = rng.standard_normal((8, 64)).astype(f32)
    special[0], special[1, 3], special[2, 20], special[3, [5, 40]] = 0, np.nan, np.inf, (np.nan, -np.inf)
    return np.concatenate([near, far, wide.astype(f32).reshape(-1, 64), special])


# ---- ours ------------------------------------------------------------------------------------------------------


def encoded(x: Array, fmt: Any, **options: Any) -> Array:
    """Codes of scales (and minimums), then of elements, of blocks that are rows; each row is a tensor of its own."""
    if fmt.has_tensor_scale:
        return np.concatenate([_row(nf.encode(row.reshape(-1, fmt.block[0]), fmt), 1) for row in x])
    with np.errstate(invalid="ignore"):  # signalling NaNs
        return _row(nf.encode(x, fmt, threads=1, **options), len(x))


def _row(q: Any, n: int) -> Array:
    parts = [canonical(q.scales).reshape(n, -1)]
    if q.zero_points is not None:
        parts.append(canonical(q.zero_points).reshape(n, -1))
    return np.concatenate([*parts, q.codes.reshape(n, -1).astype(np.int64)], axis=1)


def canonical(values: Array) -> Array:
    """Patterns of a float array, all NaNs as one; integers as they are."""
    if values.dtype.kind != "f":
        return values.astype(np.int64)
    bits = values.view(f"uint{8 * values.dtype.itemsize}").astype(np.int64)
    return np.where(np.isnan(values), np.int64(2 ** (8 * values.dtype.itemsize) - 1), bits)


def decoded(codes: Array, name: str) -> Array:
    """Bits of the values of blocks given as rows of scale and element codes."""
    fmt = nf.get_format(name)
    elements = np.ascontiguousarray(codes[:, 1:]).astype(np.uint8)
    blocks = nf.BlockArray(elements, codes[:, :1].astype(np.uint8), None, fmt, 1, elements.shape)
    return patterns(nf.decode(blocks))


def patterns(values: Array) -> Array:
    """Bits of float32 values, NaN as the one that stands for all."""
    assert values.dtype == f32
    return np.where(np.isnan(values), np.int64(NAN), values.view(np.uint32).astype(np.int64))


@lru_cache
def code_blocks(name: str, k: int, rows: int = 3000) -> Array:
    """Rows of codes to decode: every scale code, random elements among which every code."""
    bits = nf.get_format(name).element.bits
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 2**bits, (rows, 1 + k))
    codes[:, 0] = np.arange(rows) % 256
    return codes


# ---- gguf ------------------------------------------------------------------------------------------------------

GGUF_TYPES = ("q8_0", "q4_0", "q4_1", "q5_0", "q5_1")


def _gguf(operation: str, data: Array, name: str) -> Array:
    from gguf import GGMLQuantizationType, quants

    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # casts of NaN
        return np.asarray(getattr(quants, operation)(data, GGMLQuantizationType[name.upper()]))


def gguf_encoded(x: Array, name: str) -> Array:
    heads, minimums, codes = gguf_fields(_gguf("quantize", x, name), name)
    parts = [canonical(heads)] if minimums is None else [canonical(heads), canonical(minimums)]
    return np.concatenate([*parts, codes.astype(np.int64)], axis=1)


def gguf_fields(data: Array, name: str) -> tuple[Array, Array | None, Array]:
    """Scales (n, 1), minimums (n, 1) or None, and codes (n, 32) of GGUF blocks, read byte by byte from ggml-common.h's structs."""
    if name == "mxfp4":
        return data[:, :1].astype(np.int64), None, np.concatenate([data[:, 1:] & 15, data[:, 1:] >> 4], axis=1)
    at = 4 if name.endswith("_1") else 2
    halves = np.ascontiguousarray(data[:, :at]).view(np.float16)
    minimums = halves[:, 1:] if at == 4 else None
    if name == "q8_0":
        return halves[:, :1], minimums, data[:, at:]
    low = data[:, -16:]
    codes = np.concatenate([low & 15, low >> 4], axis=1)
    if name.startswith("q5"):
        codes = codes + 16 * np.unpackbits(data[:, at : at + 4], axis=1, bitorder="little")
    return halves[:, :1], minimums, codes


@lru_cache
def gguf_bytes(name: str) -> Array:
    """Random bytes of blocks: scales and minimums of every kind, NaN and infinity too."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    size = GGML_QUANT_SIZES[GGMLQuantizationType[name.upper()]][1]
    data = np.random.default_rng(2).integers(0, 256, (70000, size), np.uint16).astype(np.uint8)
    data[:65536, :2] = np.arange(65536, dtype="<u2").view(np.uint8).reshape(-1, 2)
    return data


def gguf_mxfp4_decoded(codes: Array) -> Array:
    data = np.concatenate([codes[:, :1], codes[:, 1:17] | codes[:, 17:] << 4], axis=1).astype(np.uint8)
    return patterns(_gguf("dequantize", data, "mxfp4"))


def gguf_cases() -> list[Case]:
    ours = [partial(encoded, fmt=nf.get_format(name)) for name in (*GGUF_TYPES, "mxfp4")]
    operands = [partial(float_blocks, name, 32) for name in (*GGUF_TYPES, "mxfp4")]
    cases = [
        Case("gguf", "quantize", name, x, partial(gguf_encoded, name=name), own)
        for name, x, own in zip((*GGUF_TYPES, "mxfp4"), operands, ours, strict=True)
    ]
    decode = Case("gguf", "dequantize", "mxfp4", partial(code_blocks, "mxfp4", 32), gguf_mxfp4_decoded, partial(decoded, name="mxfp4"), True)
    return [*cases, decode]


# ---- gfloat ----------------------------------------------------------------------------------------------------

GFLOAT_ROUNDINGS = {
    "TiesToEven": "ties_to_even", "TiesToAway": "ties_to_away", "TowardZero": "toward_zero",
    "TowardPositive": "toward_positive", "TowardNegative": "toward_negative",
}  # fmt: skip


def gfloat_info(name: str) -> Any:
    from gfloat import formats

    return getattr(formats, f"format_info_{'mxfp4_e2m1' if name == 'mxfp4' else name}")


def gfloat_encoded(x: Array, name: str, rounding: str) -> Array:
    from gfloat import RoundMode, compute_scale_amax, encode_block

    info, mode = gfloat_info(name), RoundMode[rounding]
    made = np.full((len(x), 1 + x.shape[1]), RAISED, np.int64)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i, row in enumerate(x):
            scale = compute_scale_amax(info.etype.emax, row)
            try:
                made[i] = list(encode_block(info, scale, row / scale, mode))
            except ValueError:
                continue
    return made


def gfloat_decoded(codes: Array, name: str) -> Array:
    from gfloat import decode_block

    values = np.array([list(decode_block(gfloat_info(name), row.tolist())) for row in codes])
    with np.errstate(over="ignore"):
        return patterns(values.astype(f32))


@lru_cache
def gfloat_blocks(name: str, dtype: type, step: int) -> Array:
    """float32, or float64 with some that float32 does not hold."""
    x = float_blocks(name, 32, step)
    special = np.random.default_rng(5).standard_normal((3, 32)).astype(f32)
    special[0, 7], special[1, 9], special[2, [1, 30]] = np.nan, -np.inf, (np.nan, np.inf)
    x = np.concatenate([x, special])
    if dtype is f32:
        return x
    with np.errstate(invalid="ignore"):
        wide = x.astype(np.float64)
    rng = np.random.default_rng(4)
    far = rng.standard_normal((40, 32)) * np.exp2(rng.choice([-400, -300, 200, 300], (40, 1)))
    between = np.nextafter(wide[5::40], rng.choice([-np.inf, np.inf], wide[5::40].shape))
    element = nf.get_format(name).element
    below_least_tie = np.full((1, 32), np.nextafter(float(element.min_positive) / 2, 0))
    below_least_tie[0, 0] = np.exp2(np.floor(np.log2(float(element.max))))
    return np.concatenate([wide, far, between, below_least_tie])


def gfloat_cases() -> list[Case]:
    cases = []
    for name in MX:
        fmt = nf.get_format(name)
        for dtype, step in ((np.float64, 21), (f32, 31)):
            x = partial(gfloat_blocks, name, dtype, step)
            mode = f"float{8 * np.dtype(dtype).itemsize}:TiesToEven"
            cases.append(Case("gfloat", mode, name, x, partial(gfloat_encoded, name=name, rounding="TiesToEven"), partial(encoded, fmt=fmt)))
        for theirs, ours in list(GFLOAT_ROUNDINGS.items())[1:]:
            x = partial(gfloat_blocks, name, np.float64, 101)
            cases.append(
                Case("gfloat", f"float64:{theirs}", name, x, partial(gfloat_encoded, name=name, rounding=theirs),
                     partial(encoded, fmt=fmt, rounding=ours))
            )  # fmt: skip
        cases.append(Case("gfloat", "decode", name, partial(code_blocks, name, 32, 600), partial(gfloat_decoded, name=name), partial(decoded, name=name), True))
    return cases


# ---- verifloat -------------------------------------------------------------------------------------------------

VERIFLOAT_ELEMENTS = ("e4m3fn", "e5m2", "e2m3", "e3m2", "e2m1", "s2f6", "int4")
VERIFLOAT_SCALES = ("float32", "e4m3fn", "bfloat16", "float16", "e5m2")
VERIFLOAT_AFFINE = ("int8", "int4", "uint8", "uint4")


def verifloat_format(name: str) -> Any:
    """verifloat's own block formats, and those that it can be told."""
    import verifloat as v

    scalars = {
        "e4m3fn": v.E4M3, "e5m2": v.E5M2, "e2m3": v.E2M3, "e3m2": v.E3M2, "e2m1": v.E2M1, "float32": v.FP32, "bfloat16": v.BF16,
        "float16": v.FP16, "e8m0": v.E8M0, "s2f6": v.IntFormat(8, frac_bits=6),
        **{f"{sign}int{bits}": v.IntFormat(bits, not sign) for bits in (4, 8) for sign in ("", "u")},
    }  # fmt: skip
    named = {"mxfp4": v.MXFP4, "mxint8": v.MXINT8, "nvfp4": v.NVFP4, "nvfp4_modelopt": v.NVFP4_MODELOPT}
    if name in named:
        return named[name]
    element, *options = name.removeprefix("block(").removesuffix(")").split(",")
    given = dict(option.split("=") for option in options)
    zero = scalars[element] if given["rule"] == "affine" else None
    return v.BlockFormat(scalars[element], int(given["size"]), scalars[given["scale"]], zero_point=zero)


def verifloat_encoded(x: Array, name: str) -> Array:
    """Each row quantized as a tensor of its own."""
    from verifloat import BlockTensor

    fmt, k = verifloat_format(name), nf.get_format(name).elements_per_block
    rows = []
    for row in x:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                made = BlockTensor.quantize(row.reshape(-1, k).tolist(), fmt)
            except ValueError:
                rows.append(None)
                continue
        parts = [made.scale_raw, made.elem_raw] if made.zero_raw is None else [made.scale_raw, _signed(made.zero_raw, name), made.elem_raw]
        rows.append(np.concatenate([np.array(part, np.int64).reshape(-1) for part in parts]))
    width = x.shape[1] + x.shape[1] // k * (2 if fmt.zero_point else 1)
    return np.array([np.full(width, RAISED) if row is None else row for row in rows])


def _signed(raw: Any, name: str) -> Array:
    """Zero points as the integers that numfmt keeps."""
    element = nf.get_format(name).element
    codes = np.array(raw, np.int64)
    return np.where(codes >> (element.bits - 1) & 1, codes - 2**element.bits, codes) if element.signed else codes


def verifloat_decoded(codes: Array, name: str) -> Array:
    from verifloat import BlockTensor

    def values(row: list[int]) -> list[float]:
        try:
            return BlockTensor.from_raw(row[1:], row[:1], verifloat_format(name)).to_float()
        except ValueError:
            return [np.nan] * (len(row) - 1)

    made = np.array([values(row) for row in codes.tolist()])
    with np.errstate(over="ignore"):
        return patterns(made.astype(f32))


def verifloat_cases() -> list[Case]:
    def encode(name: str, operands: Callable[[], Array]) -> Case:
        return Case("verifloat", "quantize", name, operands, partial(verifloat_encoded, name=name), partial(encoded, fmt=nf.get_format(name)))

    powers = [f"block({e},scale=e8m0,size=16,rule=floor)" for e in VERIFLOAT_ELEMENTS]
    projected = [f"block({e},scale={s},size=16,rule=project)" for e in VERIFLOAT_ELEMENTS for s in VERIFLOAT_SCALES]
    affine = [f"block({e},scale=float32,size=16,rule=affine)" for e in VERIFLOAT_AFFINE]
    cases = [encode(name, partial(float_blocks, name, 32, 3)) for name in ("mxfp4", "mxint8")]
    cases += [encode(name, partial(finite_blocks, name, 16, 11)) for name in (*powers, *projected, *affine)]
    cases += [encode(name, tensors) for name in ("nvfp4", "nvfp4_modelopt")]
    cases += [
        Case("verifloat", "decode", name, partial(code_blocks, name, 32), partial(verifloat_decoded, name=name), partial(decoded, name=name), True)
        for name in ("mxfp4", "mxint8")
    ]
    return cases


@lru_cache
def finite_blocks(name: str, k: int, step: int) -> Array:
    x = float_blocks(name, k, step)
    return x[np.isfinite(x).all(axis=1)]


# ---- torchao ---------------------------------------------------------------------------------------------------

TORCHAO_MODES = ("FLOOR", "CEIL", "EVEN", "RCEIL")
TORCHAO_MX = ("mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4")


@lru_cache
def torchao() -> Any:
    """torchao's modules for MX and NVFP4; what it says of missing CUDA libraries is not for us."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torchao.prototype.mx_formats import config, constants, kernels, mx_tensor, nvfp4_tensor
    finally:
        logging.disable(logging.NOTSET)
    return config, constants, kernels, mx_tensor, nvfp4_tensor


def torchao_element(name: str) -> Any:
    import torch

    constants = torchao()[1]
    return {
        "mxfp8_e4m3": torch.float8_e4m3fn, "mxfp8_e5m2": torch.float8_e5m2, "mxfp6_e2m3": constants.DTYPE_FP6_E2M3,
        "mxfp6_e3m2": constants.DTYPE_FP6_E3M2, "mxfp4": torch.float4_e2m1fn_x2,
    }[name]  # fmt: skip


def _bytes(tensor: Any, n: int, packed: bool = False) -> Array:
    import torch

    data = tensor.view(torch.uint8)
    return (torchao()[2].unpack_uint4(data) if packed else data).numpy().reshape(n, -1).astype(np.int64)


def torchao_encoded(x: Array, name: str, mode: str) -> Array:
    import torch

    config, _, _, mx_tensor, _ = torchao()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scales, codes = mx_tensor.to_mx(torch.from_numpy(x), torchao_element(name), 32, config.ScaleCalculationMode[mode])
    return np.concatenate([_bytes(scales, len(x)), _bytes(codes, len(x), name == "mxfp4")], axis=1)


def torchao_decoded(codes: Array, name: str) -> Array:
    import torch

    _, _, kernels, mx_tensor, _ = torchao()
    scales = torch.from_numpy(codes[:, :1].astype(np.uint8)).view(torch.float8_e8m0fnu)
    elements = torch.from_numpy(codes[:, 1:].astype(np.uint8))
    element = torchao_element(name)
    elements = kernels.pack_uint4(elements) if name == "mxfp4" else elements.view(element) if "mxfp8" in name else elements
    return patterns(mx_tensor.to_dtype(elements, scales, element, 32, torch.float32).numpy())


def torchao_nvfp4_encoded(x: Array, levels: int) -> Array:
    """Each row as a tensor of its own, with a tensor scale from its amax or with none."""
    import torch

    nvfp4 = torchao()[4]
    rows = []
    for row in torch.from_numpy(x):
        blocks = row.reshape(-1, 16)
        scale = nvfp4.per_tensor_amax_to_scale(blocks.abs().max()) if levels == 2 else None
        made = nvfp4.nvfp4_quantize(blocks, 16, scale)
        scales = _bytes(made[0], 1)
        scales[scales == 0xFF] = 0x7F  # the sign of 0 / 0 is the processor's
        rows.append(np.concatenate([scales, _bytes(made[1], 1, True)], axis=1))
    return np.concatenate(rows)


def torchao_cases() -> list[Case]:
    cases = [
        Case("torchao", mode, name, partial(float_blocks, name, 32), partial(torchao_encoded, name=name, mode=mode),
             partial(encoded, fmt=replace(nf.get_format(name), rule=mode.lower())))
        for name in TORCHAO_MX for mode in TORCHAO_MODES
    ]  # fmt: skip
    cases += [
        Case("torchao", "to_dtype", name, partial(code_blocks, name, 32), partial(torchao_decoded, name=name), partial(decoded, name=name), True)
        for name in TORCHAO_MX
    ]
    one = nf.get_format("nvfp4_torchao_1level")
    cases.append(Case("torchao", "nvfp4_quantize", str(one), partial(float_blocks, "nvfp4", 16), _one_level, partial(encoded, fmt=one)))
    two = nf.get_format("nvfp4_torchao")
    return [*cases, Case("torchao", "nvfp4_quantize", str(two), tensors, partial(torchao_nvfp4_encoded, levels=2), partial(encoded, fmt=two))]


def _one_level(x: Array) -> Array:
    """Without a tensor level all rows go at once."""
    import torch

    scales, codes = torchao()[4].nvfp4_quantize(torch.from_numpy(x), 16)
    return np.concatenate([_bytes(scales, len(x)), _bytes(codes, len(x), True)], axis=1)


# ---- all -------------------------------------------------------------------------------------------------------


@lru_cache
def cases() -> tuple[Case, ...]:
    return (*gguf_cases(), *gfloat_cases(), *verifloat_cases(), *torchao_cases())
