"""Every named block format in one line with its source; `get_format` and `list_formats` for all formats."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from .blocks import NONFINITE, WHOLE_AXIS, BlockFormat
from .formats import CodebookFormat, FixedFormat, FloatFormat, Format
from .named import UnknownFormat, scalar_families, scalar_format, scalar_formats, scalar_names, squeeze
from .rounding import unknown


class BlockEntry(NamedTuple):
    """A named block format: where it comes from, and what nobody has confirmed about it."""

    format: BlockFormat
    family: str
    source: str
    aliases: tuple[str, ...] = ()
    unverified: str = ""


def bfp(m: int, size: int | tuple[int, ...] = 16, scale: str = "e8m0", rule: str = "floor") -> BlockFormat:
    """Block floating point: a shared exponent over sign-magnitude integers of m magnitude bits."""
    if not 1 <= m <= 23:
        raise ValueError(f"bfp(m={m}) is given; m is 1 to 23 magnitude bits")
    return BlockFormat(FixedFormat(m + 1, m - 1, sign_magnitude=True), scale, size, rule)  # type: ignore[arg-type]


def _mx(element: str, rule: str = "floor", size: int = 32) -> BlockFormat:
    return BlockFormat(element, "e8m0", (size,), rule)  # type: ignore[arg-type]


def _nvfp4(rule: str, *block: int) -> BlockFormat:
    return BlockFormat("e2m1", "e4m3fn", block or (16,), rule)  # type: ignore[arg-type]


def _real(element: str | Format, block: tuple[int, ...], rule: str = "absmax", flat: bool = False) -> BlockFormat:
    return BlockFormat(element, "float32", block, rule, flat)  # type: ignore[arg-type]


def _gguf(element: str | CodebookFormat, rule: str) -> BlockFormat:
    return BlockFormat(element, "float16", (32,), rule, flat=True)  # type: ignore[arg-type]


def _offset_integers(bits: int) -> CodebookFormat:
    """Integers whose code is their distance from the least: -8 is code 0."""
    return CodebookFormat(range(-(2 ** (bits - 1)), 2 ** (bits - 1)))


_INT8, _INT4 = (FixedFormat(bits, default_overflow="symmetric") for bits in (8, 4))  # type: ignore[arg-type]
TENSOR, AXIS = (), (WHOLE_AXIS,)
OCP = "OCP microscaling formats (MX) v1.0"
NV = "TransformerEngine core_nvfp4.cuh"
MICRO = "Rouhani et al., With shared microexponents, a little shifting goes a long way, arXiv 2302.08007; AMD Quark"
GGUF = "ggml-quants.c; gguf.quants"
AFFINE = "Jacob et al., arXiv 1712.05877 §2.1"
ROUNDING_OPEN = "the rounding of elements: ties to even is this library's choice"
_INT5 = _offset_integers(5)

NAMED_BLOCKS: dict[str, BlockEntry] = {
    # OCP MX
    "mxfp8_e4m3": BlockEntry(_mx("e4m3fn"), "mx", OCP + " §5.2, §6.3", ("mxfp8",)),
    "mxfp8_e5m2": BlockEntry(_mx("e5m2"), "mx", OCP + " §5.2, §6.3"),
    "mxfp6_e2m3": BlockEntry(_mx("e2m3"), "mx", OCP + " §5.2, §6.3", ("mxfp6",)),
    "mxfp6_e3m2": BlockEntry(_mx("e3m2"), "mx", OCP + " §5.2, §6.3"),
    "mxfp4": BlockEntry(_mx("e2m1"), "mx", OCP + " §5.2, §6.3", ("mxfp4_e2m1",)),
    "mxint8": BlockEntry(_mx("s2f6"), "mx", OCP + " §5.2, §6.3", (), "whether -2 is used: it is; overflow='symmetric' leaves it out"),
    "mxfp8_te": BlockEntry(_mx("e4m3fn", "rceil"), "mx", "TransformerEngine docs mxfp8; cuBLAS", ("mxfp8_nvidia",)),
    # NVIDIA FP4
    "nvfp4": BlockEntry(_nvfp4("transformer_engine"), "nvfp4", NV),
    "nvfp4_16x16": BlockEntry(_nvfp4("transformer_engine", 16, 16), "nvfp4", NV + ": weights"),
    "nvfp4_4over6": BlockEntry(_nvfp4("4over6"), "nvfp4", "TransformerEngine quantize_4over6_nvfp4.cuh; arXiv 2512.02010"),
    "nvfp4_4over6_mse": BlockEntry(_nvfp4("4over6_mse"), "nvfp4", "TransformerEngine quantize_4over6_nvfp4.cuh; arXiv 2512.02010"),
    "nvfp4_torchao": BlockEntry(_nvfp4("torchao"), "nvfp4", "torchao nvfp4_tensor.py, two-level scaling"),
    "nvfp4_torchao_1level": BlockEntry(_nvfp4("torchao_1level"), "nvfp4", "torchao nvfp4_tensor.py, one-level scaling"),
    "nvfp4_modelopt": BlockEntry(_nvfp4("modelopt"), "nvfp4", "NVIDIA ModelOpt NVFP4QTensor", (), "the order of binary32 operations"),
    "nvfp4_compressed_tensors": BlockEntry(_nvfp4("compressed_tensors"), "nvfp4", "compressed-tensors nvfp4-pack-quantized", (),
                                           "the order of binary32 operations"),
    # FP8 with block scales
    "deepseek_fp8": BlockEntry(_real("e4m3fn", (128,), "deepseek"), "fp8 block", "DeepSeek-V3 inference/kernel.py", ("deepseek_fp8_1x128",)),
    "deepseek_fp8_128x128": BlockEntry(_real("e4m3fn", (128, 128), "deepseek"), "fp8 block", "DeepSeek-V3 inference/kernel.py"),
    "deepseek_fp8_ue8m0": BlockEntry(_mx("e4m3fn", "deepgemm", 128), "fp8 block", "DeepGEMM ceil_to_ue8m0"),
    "deepseek_fp8_ue8m0_128x128": BlockEntry(BlockFormat("e4m3fn", "e8m0", (128, 128), "deepgemm"), "fp8 block", "DeepGEMM ceil_to_ue8m0"),  # type: ignore[arg-type]
    # Integers
    "int8_tensor": BlockEntry(_real(_INT8, TENSOR), "int block", AFFINE + ", symmetric"),
    "int8_axis": BlockEntry(_real(_INT8, AXIS), "int block", AFFINE + ", symmetric, one scale a row", ("int8_row",)),
    "int8_group128": BlockEntry(_real(_INT8, (128,)), "int block", AFFINE + ", symmetric, groups of 128"),
    "int4_axis": BlockEntry(_real(_INT4, AXIS), "int block", AFFINE + ", symmetric, one scale a row", ("int4_row",)),
    "int4_group32": BlockEntry(_real(_INT4, (32,)), "int block", AFFINE + ", symmetric, groups of 32"),
    "int4_group128": BlockEntry(_real(_INT4, (128,)), "int block", AFFINE + ", symmetric, groups of 128"),
    "int8_affine_tensor": BlockEntry(_real("int8", TENSOR, "affine"), "int block", AFFINE),
    "int8_affine_axis": BlockEntry(_real("int8", AXIS, "affine"), "int block", AFFINE),
    "int4_affine_group32": BlockEntry(_real("int4", (32,), "affine"), "int block", AFFINE),
    "int4_affine_group128": BlockEntry(_real("int4", (128,), "affine"), "int block", AFFINE),
    # Block floating point
    "mx9": BlockEntry(BlockFormat(FixedFormat(8, 6, sign_magnitude=True), "e8m0", (16,), "micro", micro=((2, 1),)), "bfp", MICRO, (), ROUNDING_OPEN),  # type: ignore[arg-type]
    "mx6": BlockEntry(BlockFormat(FixedFormat(5, 3, sign_magnitude=True), "e8m0", (16,), "micro", micro=((2, 1),)), "bfp", MICRO, (), ROUNDING_OPEN),  # type: ignore[arg-type]
    "mx4": BlockEntry(BlockFormat(FixedFormat(3, 1, sign_magnitude=True), "e8m0", (16,), "micro", micro=((2, 1),)), "bfp", MICRO, (), ROUNDING_OPEN),  # type: ignore[arg-type]
    "hif4": BlockEntry(BlockFormat("e1m2", "hif4_scale_e6m2", (64,), "hif4", micro=((8, 1), (4, 1))), "bfp",  # type: ignore[arg-type]
                       "HiFloat4/hif4_gpu; CANN opbase hifloat4.h", ("hifx4", "hifloat4"), "the rounding of the scale: two sources differ"),
    "msfp12": BlockEntry(bfp(3, 16), "bfp", "Darvish Rouhani et al., Pushing the limits of narrow precision inferencing, NeurIPS 2020", (),
                         "exponent width and box size"),
    "msfp16": BlockEntry(bfp(7, 16), "bfp", "Darvish Rouhani et al., NeurIPS 2020", (), "exponent width and box size"),
    "hbfp8": BlockEntry(bfp(7, (24, 24)), "bfp", "Drumond et al., Training DNNs with hybrid block floating point, NeurIPS 2018", (),
                        "mantissa width and tile"),
    "flexpoint": BlockEntry(BlockFormat(FixedFormat(16), scalar_format("float(e=5, m=0, bias=15, signed=no, specials=fn, subnormals=normal, zero=no)"),
                                        TENSOR, "floor"), "bfp", "Köster et al., Flexpoint, NeurIPS 2017: flex16+5", ("flex16+5",),
                            "the bias of the 5-bit exponent; the exponent is that of this tensor, not predicted"),
    # Codebooks
    "nf4_block": BlockEntry(_real("nf4", (64,), "bitsandbytes", flat=True), "codebook block", "bitsandbytes quantize_4bit; QLoRA, arXiv 2305.14314"),
    "af4_block": BlockEntry(_real("af4", (64,), "bitsandbytes", flat=True), "codebook block", "bitsandbytes quantize_4bit; arXiv 2306.06965"),
    "fp4_block": BlockEntry(_real("fp4_bnb", (64,), "bitsandbytes", flat=True), "codebook block", "bitsandbytes quantize_4bit"),
    "nf4_double": BlockEntry(BlockFormat("nf4", _real(_INT8, (256,), flat=True), (64,), "bitsandbytes", True),  # type: ignore[arg-type]
                             "codebook block", "QLoRA, arXiv 2305.14314 §3", (), "bitsandbytes itself subtracts the mean and uses a dynamic 8-bit code"),
    # GGUF
    "q8_0": BlockEntry(_gguf("int8", "q8_0"), "gguf", GGUF),
    "q4_0": BlockEntry(_gguf(_offset_integers(4), "q4_0"), "gguf", GGUF),
    "q4_1": BlockEntry(_gguf("uint4", "q4_1"), "gguf", GGUF),
    "q5_0": BlockEntry(_gguf(_INT5, "q5_0"), "gguf", GGUF),
    "q5_1": BlockEntry(_gguf("uint5", "q5_1"), "gguf", GGUF),
}  # fmt: skip

BLOCK_NAMES = [n for name, entry in NAMED_BLOCKS.items() for n in (name, *entry.aliases)]
_LOOKUP = {squeeze(n): e.format for name, e in NAMED_BLOCKS.items() for n in (name, *e.aliases)}
_SIZE = re.compile(r"(axis|\d+)(?:[x×](axis|\d+))?")
_CALL = re.compile(r"\s*(block|bfp)\s*\((.*)\)\s*", re.IGNORECASE | re.DOTALL)


@lru_cache(maxsize=4096)
def find_block(name: str) -> BlockFormat | None:
    """The block format called `name`, or None; raises ValueError for a call that describes none."""
    found = _LOOKUP.get(squeeze(name.strip()))
    if found is not None:
        return found
    match = _CALL.fullmatch(name)
    if match is None:
        return None
    positional, options = _arguments(match[2])
    made = _block_of(name, positional, options) if match[1].lower() == "block" else _bfp_of(name, positional, options)
    if options:
        raise ValueError(f"{name!r} has an argument {next(iter(options))!r} that {match[1]}(…) does not take")
    return made


def _arguments(text: str) -> tuple[list[str], dict[str, str]]:
    """Arguments of a call, split at commas outside parentheses."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    given = [part.strip() for part in parts if part.strip()]
    named: dict[str, str] = {}
    positional: list[str] = []
    for part in given:
        head, equals, tail = part.partition("=")
        key = head.strip().lower()
        if equals and "(" not in head:
            if key in named:
                raise ValueError(f"{key}= is given twice, {named[key]} and {tail.strip()}; one of them is enough")
            named[key] = tail.strip()
        else:
            positional.append(part)
    return positional, named


def _block_of(name: str, positional: list[str], options: dict[str, str]) -> BlockFormat:
    if len(positional) != 1:
        raise ValueError(f"{name!r} is given; block(element, scale=…, size=…, rule=…) has one element format")
    scale = options.pop("scale", "e8m0")
    return BlockFormat(
        scalar_format(positional[0]), get_format(scale), _size(options.pop("size", "32")),
        options.pop("rule", "project"), _flag(options.pop("flat", "no")), _micro(options.pop("micro", "")),
        options.pop("nonfinite", NONFINITE[0]),
    )  # fmt: skip


def _bfp_of(name: str, positional: list[str], options: dict[str, str]) -> BlockFormat:
    if positional or "m" not in options:
        raise ValueError(f"{name!r} is given; bfp(m=…, size=…) has m, the magnitude bits of an element")
    return bfp(
        _integer(options.pop("m")), _size(options.pop("size", "16")), options.pop("scale", "e8m0"), options.pop("rule", "floor")
    )


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is given; it must be an integer") from None


def _flag(text: str) -> bool:
    flags = {"yes": True, "true": True, "no": False, "false": False}
    if text.lower() not in flags:
        raise ValueError(f"flat={text} is given; it is yes or no")
    return flags[text.lower()]


def _size(text: str) -> tuple[int, ...]:
    """32, 16x16, axis, tensor."""
    if text.strip().lower() == "tensor":
        return TENSOR
    match = _SIZE.fullmatch(text.replace(" ", "").lower())
    sizes = [WHOLE_AXIS if part == "axis" else int(part) for part in match.groups() if part] if match else [0]
    if 0 in sizes:
        raise ValueError(f"size={text} is given; it is a positive number, two of them (16x16), axis or tensor")
    return tuple(sizes)


def _micro(text: str) -> tuple[tuple[int, int], ...]:
    """2:1, or 8:1+4:1: elements and bits of each level."""
    levels = [part.split(":") for part in text.split("+") if part]
    try:
        return tuple((int(part), int(bits)) for part, bits in levels)
    except ValueError:
        raise ValueError(f"micro={text} is given; it is elements:bits, as in 2:1 or 8:1+4:1") from None


@lru_cache(maxsize=1024)
def block_name_of(fmt: BlockFormat) -> str:
    """The canonical name of a block format; `get_format` of it gives an equal format."""
    for name, entry in NAMED_BLOCKS.items():
        if entry.format == fmt:
            return name
    size = "x".join("axis" if k == WHOLE_AXIS else str(k) for k in fmt.block) or "tensor"
    options = {"scale": str(fmt.scale), "size": size}
    if fmt.rule != "project":
        options["rule"] = fmt.rule
    if fmt.flat:
        options["flat"] = "yes"
    if fmt.micro:
        options["micro"] = "+".join(f"{part}:{bits}" for part, bits in fmt.micro)
    if fmt.nonfinite != NONFINITE[0]:
        options["nonfinite"] = fmt.nonfinite
    return f"block({fmt.element}, {', '.join(f'{k}={v}' for k, v in options.items())})"


# ---- all formats -----------------------------------------------------------------------------------------------


def get_format(name: str | Format | BlockFormat) -> Format | BlockFormat:
    """The format called `name`; a format is returned as it is.

    Names are ml_dtypes' and their short forms (e4m3fn, bf16, f32), P3109's (binary8p3se), custom
    floats eXmY with an optional bias and the suffixes fn, fnuz, uz, f (e5m7, e5m7b20, ue3m3fn), int4,
    uint8, q3.12, uq0.8, ap_fixed<8,4>, nf4, ternary, and calls: float(e=4, m=3, specials=fn),
    fixed(bits=8, sign_magnitude=yes), codebook(-1, 0, 1). Block formats are mxfp4, nvfp4, q8_0, …,
    block(e2m1, scale=e8m0, size=32, rule=ceil) and bfp(m=4, size=16); sizes are 32, 16x16, axis,
    tensor. Case, spaces, hyphens and underscores of listed names do not matter.

    Raises:
        ValueError: an unknown name; the message gives the nearest ones.

    >>> get_format("bf16") == get_format("e8m7")
    True
    >>> get_format("mxfp4").element == get_format("e2m1")
    True
    """
    if isinstance(name, FloatFormat | FixedFormat | CodebookFormat | BlockFormat):
        return name
    if not isinstance(name, str):
        raise TypeError(f"a {type(name).__name__} is given as a format; it must be a name or a format object")
    block = find_block(name)
    if block is not None:
        return block
    try:
        from .named import parse

        return parse(name)
    except UnknownFormat:
        raise ValueError(unknown("format", name, [*scalar_names(), *BLOCK_NAMES])) from None


def list_formats(family: str | None = None) -> list[str]:
    """Names of the named formats, of one family or of all: ieee754, ocp, fnuz, p3109, int, mx, nvfp4, ….

    >>> list_formats("mx")
    ['mxfp8_e4m3', 'mxfp8_e5m2', 'mxfp6_e2m3', 'mxfp6_e3m2', 'mxfp4', 'mxint8', 'mxfp8_te']
    """
    families = [*scalar_families(), *block_families()]
    if family is not None and family not in families:
        raise ValueError(unknown("family", family, families))
    return scalar_formats(family) + [name for name, e in NAMED_BLOCKS.items() if family in (None, e.family)]


def block_families() -> list[str]:
    """The families of named block formats."""
    return list(dict.fromkeys(e.family for e in NAMED_BLOCKS.values()))
