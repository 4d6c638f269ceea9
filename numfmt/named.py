"""Every named format in one line with its source, and the grammar of format names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from .formats import CodebookFormat, FixedFormat, FloatFormat, Format, Specials, Subnormals
from .rounding import Overflow, Rounding, unknown


class Entry(NamedTuple):
    """A named format: where it comes from, and what nobody has confirmed about it."""

    format: Format
    family: str
    source: str
    aliases: tuple[str, ...] = ()
    unverified: str = ""


def _float(e: int, m: int, bias: int | None = None, **fields: object) -> FloatFormat:
    return FloatFormat.from_fields(e, m, bias, **fields)  # type: ignore[arg-type]


FN, FNUZ, FINITE, MERGED = Specials.FN, Specials.FNUZ, Specials.FINITE, Specials.MERGED
NORMAL, SHIFTED = Subnormals.NORMAL, Subnormals.SHIFTED

IEEE = "IEEE 754-2019 §3.4, table 3.5"
OFP8 = "OCP 8-bit floating point specification (OFP8) v1.0, table 1"
MX = "OCP microscaling formats (MX) v1.0 §5.3"
FNUZ_PAPER = "Noune et al., 8-bit numerical formats for deep neural networks, arXiv 2206.02915"
DOJO = "Tesla Dojo technology white paper, CFloat"
BNB = "bitsandbytes functional.py, get_4bit_type"

# Code order as in bitsandbytes; each decimal is the shortest one of its binary32 value.
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
AF4 = (
    1.0, 0.72424863, 0.55496234, 0.42563882, 0.31675666, 0.21961274, 0.12934483, 0.04273164,
    0.0, -0.04934812, -0.14982478, -0.25607552, -0.3736951, -0.51243739, -0.69441008, -1.0,
)  # fmt: skip
FP4_TWELFTHS = ("0", "1/16", "8", "12", "4", "6", "2", "3")


def _binary32(value: Fraction) -> Fraction:
    """Nearest binary32 value of a normal number, ties to even (the lists above are binary32 tensors)."""
    if value == 0:
        return value
    quantum = Fraction(2) ** -23
    while abs(value) < quantum * 2**23:
        quantum /= 2
    return round(value / quantum) * quantum


def _codebook(values: Iterator[Fraction] | list[Fraction]) -> CodebookFormat:
    return CodebookFormat(_binary32(v) for v in values)


_MAGNITUDES = [Fraction(n) / 12 for n in FP4_TWELFTHS]

NAMED: dict[str, Entry] = {
    # IEEE 754 and formats of the same shape
    "float16": Entry(_float(5, 10), "ieee754", IEEE, ("binary16", "fp16", "half", "f16", "e5m10")),
    "float32": Entry(_float(8, 23), "ieee754", IEEE, ("binary32", "fp32", "single", "f32", "e8m23")),
    "float64": Entry(_float(11, 52), "ieee754", IEEE, ("binary64", "fp64", "double", "f64", "e11m52")),
    "binary128": Entry(_float(15, 112), "ieee754", IEEE, ("float128", "quad", "fp128", "f128", "e15m112")),
    "binary256": Entry(_float(19, 236), "ieee754", IEEE + " (k ≥ 128)", ("float256", "octuple", "e19m236")),
    "bfloat16": Entry(_float(8, 7), "google", "ml_dtypes bfloat16; P3109 v4.0 annex F", ("bf16", "brain float", "e8m7")),
    "tf32": Entry(_float(8, 10), "nvidia", "PTX ISA 9.0 §5.2.3 and §9.7.9.21", ("tensorfloat32", "e8m10")),
    "pxr24": Entry(_float(8, 15, default_rounding=Rounding.TIES_TO_AWAY, default_overflow=Overflow.PROPAGATE),
                   "openexr", "OpenEXR PXR24 compressor: ties away, finite values never become infinite", ("float24",)),
    "fp24_amd": Entry(_float(7, 16, subnormals=False), "amd", "ATI R300 24-bit float", ("s16e7", "ati fp24"),
                      "no primary source: IEEE specials, no subnormals"),
    "fp16_alt": Entry(_float(5, 10, specials=FINITE), "arm", "Arm compiler guide, alternative half-precision", ("arm alternative half",)),
    "dlfloat16": Entry(_float(6, 9, specials=MERGED, subnormals=NORMAL), "ibm",
                       "onnx-mlir NNPA limits header; Agrawal et al., DLFloat, ARITH 2019", ("dlfloat",),
                       "rules of zero and of the sign"),
    "x87_extended": Entry(FloatFormat(80, 64, 16383, integer_bit=True), "intel", "Berkeley TestFloat extF80; Intel SDM vol. 1 §4.2",
                          ("extf80", "long double", "x87"), "encodings with a wrong integer bit"),
    # 8 bits
    "float8_e4m3fn": Entry(_float(4, 3, specials=FN), "ocp", OFP8, ("e4m3fn", "e4m3", "ocp_e4m3", "ofp8 e4m3", "f8e4m3fn", "hf8")),
    "float8_e5m2": Entry(_float(5, 2), "ocp", OFP8, ("e5m2", "ocp_e5m2", "ofp8 e5m2", "f8e5m2", "bf8")),
    "float8_e4m3": Entry(_float(4, 3), "ieee-like", "LLVM APFloat Float8E4M3 (PR 97179)", ("f8e4m3", "ieee-like e4m3")),
    "float8_e3m4": Entry(_float(3, 4), "ieee-like", "LLVM APFloat Float8E3M4 (PR 99698)", ("e3m4", "f8e3m4", "ieee-like e3m4")),
    "float8_e4m3fnuz": Entry(_float(4, 3, specials=FNUZ), "fnuz", FNUZ_PAPER, ("e4m3fnuz", "f8e4m3fnuz", "graphcore f143")),
    "float8_e5m2fnuz": Entry(_float(5, 2, specials=FNUZ), "fnuz", FNUZ_PAPER, ("e5m2fnuz", "f8e5m2fnuz", "graphcore f152")),
    "float8_e4m3b11fnuz": Entry(_float(4, 3, 11, specials=FNUZ), "fnuz", "LLVM APFloat Float8E4M3B11FNUZ",
                                ("e4m3b11fnuz", "e4m3b11", "f8e4m3b11fnuz")),
    "float8_e8m0fnu": Entry(_float(8, 0, 127, signed=False, specials=FN, subnormals=NORMAL, zero=False), "ocp",
                            "OCP MX v1.0 §5.4.1", ("e8m0fnu", "e8m0", "ue8m0", "f8e8m0fnu", "mx scale")),
    "ue5m3": Entry(_float(5, 3, signed=False, specials=FN), "amd", "ROCm COMGR f32-to-e5m3 conversion", ("e5m3 unsigned", "ue5m3fn"),
                   "bias inferred from the binary16 construction"),
    "hif4_scale_e6m2": Entry(_float(6, 2, 48, signed=False, specials=FN, subnormals=NORMAL, zero=False,
                                    default_rounding=Rounding.TIES_TO_AWAY), "huawei", "HiFloat4 block scale", ("hif4_scale",),
                             "bias inferred from the range 2^-48 … 49152; place of the NaN"),
    "cfloat8_1_4_3": Entry(_float(4, 3, 7, specials=FINITE, subnormals=SHIFTED), "tesla", DOJO + " p. 4-7", (),
                           "-0; the bias is configurable, 0 to 63, and 7 is this library's choice"),
    "cfloat8_1_5_2": Entry(_float(5, 2, 15, specials=FINITE, subnormals=SHIFTED), "tesla", DOJO + " p. 4-7", (),
                           "-0; the bias is configurable, 0 to 63, and 15 is this library's choice"),
    "cfloat16_shp": Entry(_float(5, 10, 31, specials=FINITE, subnormals=SHIFTED), "tesla", DOJO + " table 6",
                          ("tesla shp", "signed half precision"), "-0; the bias is configurable, 0 to 63, and 31 is this library's choice"),
    "cfloat16_uhp": Entry(_float(6, 10, 31, signed=False, specials=FINITE, subnormals=SHIFTED), "tesla", DOJO + " table 6",
                          ("tesla uhp", "unsigned half precision"), "specials and subnormals: read as finite, with the subnormals of CFloat8"),
    # 7 bits and fewer
    "ue4m3": Entry(_float(4, 3, signed=False, specials=FN), "nvidia", "nvmath MatmulQuantizationScales: e4m3fn without its sign bit", ("ue4m3fn",)),
    "float6_e2m3fn": Entry(_float(2, 3, specials=FINITE), "ocp", MX + ".2", ("e2m3fn", "e2m3", "fp6 e2m3", "f6e2m3fn")),
    "float6_e3m2fn": Entry(_float(3, 2, specials=FINITE), "ocp", MX + ".2", ("e3m2fn", "e3m2", "fp6 e3m2", "f6e3m2fn", "bf6")),
    "float4_e2m1fn": Entry(_float(2, 1, specials=FINITE), "ocp", MX + ".3", ("e2m1fn", "e2m1", "fp4 e2m1", "f4e2m1fn")),
    "float4_e1m2": Entry(_float(1, 2, 1, specials=FINITE), "huawei", "CANN hifloat4.h; en_dtypes float4_e1m2", ("e1m2", "s1p2", "e1m2fn")),
    "float4_e3m0": Entry(_float(3, 0, specials=FINITE), "research", "Dettmers & Zettlemoyer, arXiv 2212.09720",
                         ("e3m0", "fp4 e3m0", "e3m0fn"), "the 4-bit float of that paper"),
    # Codebooks
    "nf4": Entry(_codebook([Fraction(v) for v in NF4]), "codebook", f"{BNB}('nf4'); QLoRA, arXiv 2305.14314", ("normalfloat4", "qlora nf4")),
    "af4": Entry(_codebook([Fraction(v) for v in AF4]), "codebook", f"{BNB}('af4'); arXiv 2306.06965", ("abnormalfloat4",)),
    "fp4_bnb": Entry(_codebook([*_MAGNITUDES, *(-v for v in _MAGNITUDES)]), "codebook", f"{BNB}('fp4')", ("bitsandbytes fp4",)),
    "ternary": Entry(CodebookFormat((-1, 0, 1)), "codebook", "BitNet b1.58, arXiv 2402.17764", ("bitnet b1.58 weight",),
                     "code order: ascending values"),
    "binary": Entry(CodebookFormat((-1, 1)), "codebook", "Courbariaux et al., BinaryConnect, arXiv 1511.00363", ("sign",),
                    "code order: ascending values"),
    # Fixed point
    "s2f6": Entry(FixedFormat(8, 6), "ocp", "OCP MX v1.0 §5.3.4, MXINT8 element; PTX ISA 9.1 s2f6", ("mxint8 element",)),
}  # fmt: skip

for _bits in (2, 3, 4, 5, 6, 7, 8, 16, 32):
    NAMED[f"int{_bits}"] = Entry(FixedFormat(_bits), "int", "two's complement", (f"s{_bits}",))
for _bits in (1, 2, 3, 4, 8, 16):
    NAMED[f"uint{_bits}"] = Entry(FixedFormat(_bits, signed=False), "int", "unsigned integer", (f"u{_bits}",))

P3109_SOURCE = "IEEE P3109 Interim Report v4.0 (2026-06-26) §3.1, §4.7.2, §4.7.6"
SUFFIXES = {"": Specials.IEEE, "fn": FN, "fnu": FN, "fnuz": FNUZ, "uz": Specials.UZ, "f": FINITE}

_FLOAT = re.compile(r"(?:float\d+_)?(u?)e(\d+)m(\d+)(?:b(-?\d+))?(fnuz|fnu|fn|uz|f)?")
_P3109 = re.compile(r"(?:binary|p3109_k)(\d+)p(\d+)([su])([ef])|binary\{(\d+),(\d+),(s|u)\w+,(e|f)\w+\}")
_INTEGER = re.compile(r"(u?)int(\d+)")
_Q = re.compile(r"(u?)q(\d+)\.(\d+)")
_AP_FIXED = re.compile(r"ap_(u?)fixed<(\d+),(-?\d+)>")
_CALL = re.compile(r"(\w+)\((.*)\)")


class UnknownFormat(ValueError):
    """A name that is no format's."""


def squeeze(name: str) -> str:
    """A name as it is looked up: lower case, without spaces, underscores and hyphens."""
    return re.sub(r"[\s_-]", "", name.lower())


_LOOKUP = {squeeze(n): e.format for name, e in NAMED.items() for n in (name, *e.aliases)}


def p3109(k: int, p: int, signed: bool, extended: bool) -> FloatFormat:
    """Format Binary{K, P, signedness, domain} (P3109 v4.0 §3.1): the value 1 is the middle code."""
    if k <= 2 or not 0 < p < k + (not signed):
        raise ValueError(f"binary{k}p{p} is given; P3109 has K > 2 and 0 < P < K, or P ≤ K for unsigned formats")
    specials = Specials.UZ if extended else FNUZ if signed else FN
    return FloatFormat(k, p, 2 ** (k - p - signed), signed, specials)


def p3109_names(widths: range = range(3, 17)) -> list[str]:
    """Names of all P3109 formats of the given widths."""
    return [f"binary{k}p{p}{s}{d}" for k in widths for s in "su" for p in range(1, k + (s == "u")) for d in "ef"]


@lru_cache(maxsize=4096)
def parse(name: str) -> Format:
    """The scalar format that a name describes; raises ValueError, UnknownFormat where it is no name at all."""
    text = name.strip().lower()
    found = _LOOKUP.get(squeeze(text))
    if found is not None:
        return found
    compact = text.replace(" ", "")
    if match := _P3109.fullmatch(compact):
        k, p, s, d = (g for g in match.groups() if g is not None)
        return p3109(int(k), int(p), s == "s", d == "e")
    if match := _FLOAT.fullmatch(compact):
        u, e, m, bias, suffix = match.groups(default="")
        unsigned = u == "u" or suffix == "fnu"
        if int(m) == 0 and not suffix:
            raise ValueError(
                f"{name!r} has no trailing significand bits; say which codes are special, as in {compact}fn or {compact}f"
            )
        return _float(int(e), int(m), int(bias) if bias else None, signed=not unsigned, specials=SUFFIXES[suffix])
    if match := _INTEGER.fullmatch(compact):
        return FixedFormat(int(match[2]), signed=not match[1])
    if match := _Q.fullmatch(compact):
        integer, fraction, signed = int(match[2]), int(match[3]), not match[1]
        return FixedFormat(signed + integer + fraction, fraction, signed)
    if match := _AP_FIXED.fullmatch(compact):
        return FixedFormat(int(match[2]), int(match[2]) - int(match[3]), signed=not match[1])
    if match := _CALL.fullmatch(text):
        return _call(name, match[1], [part.strip() for part in match[2].split(",") if part.strip()])
    raise UnknownFormat(unknown("format", name, scalar_names()))


def _call(name: str, kind: str, arguments: list[str]) -> Format:
    """A format written as a call: float(e=4, m=3, …), fixed(bits=8, …), codebook(-1, 0, 1)."""
    options = dict(part.replace(" ", "").split("=", 1) for part in arguments if "=" in part)
    positional = [part for part in arguments if "=" not in part]
    flags = {"yes": True, "true": True, "no": False, "false": False}

    def take(key: str, default: object = None) -> object:
        text = options.pop(key, None)
        if text is None:
            return default
        return flags.get(text, text)

    if kind == "codebook":
        rounding = Rounding.parse(str(take("rounding", "ties_to_even")))
        made: Format = CodebookFormat([Fraction(v) for v in positional], rounding)
        positional = []
    elif kind == "fixed":
        made = FixedFormat(
            int(str(take("bits", 0))), int(str(take("fraction", 0))), bool(take("signed", True)),
            bool(take("sign_magnitude", False)), Rounding.parse(str(take("rounding", "ties_to_even"))),
            Overflow.parse(str(take("overflow", "saturate"))),
        )  # fmt: skip
    elif kind == "float":
        bias, overflow = take("bias"), take("overflow")
        made = _float(
            int(str(take("e", 0))), int(str(take("m", 0))), None if bias is None else int(str(bias)), signed=bool(take("signed", True)),
            specials=Specials(str(take("specials", "ieee"))), subnormals=Subnormals(str(take("subnormals", "gradual"))),
            zero=bool(take("zero", True)), integer_bit=bool(take("integer_bit", False)),
            default_rounding=Rounding.parse(str(take("rounding", "ties_to_even"))),
            default_overflow=None if overflow is None else Overflow.parse(str(overflow)),
        )  # fmt: skip
    else:
        raise ValueError(f"{name!r} is given; formats written as a call are float(…), fixed(…), codebook(…), block(…) and bfp(…)")
    if options or positional:
        raise ValueError(
            f"{name!r} has an argument {next(iter(options), None) or positional[0]!r} that {kind}(…) does not take"
        )
    return made


def scalar_format(name: str | Format) -> Format:
    """The scalar format called `name`; a format is returned as it is.

    Raises:
        ValueError: an unknown name, or that of a block format.

    >>> scalar_format("bf16") == scalar_format("e8m7")
    True
    """
    if isinstance(name, FloatFormat | FixedFormat | CodebookFormat):
        return name
    if isinstance(name, str):
        try:
            return parse(name)
        except UnknownFormat:
            pass
    from .named_blocks import get_format  # the error is that of all formats together

    made = get_format(name)
    raise ValueError(f"{made} is a block format; a scalar format is taken here, such as {made.element}, its element")  # type: ignore[union-attr]


def scalar_names() -> list[str]:
    """Names and aliases of the named scalar formats."""
    return [n for n, e in NAMED.items()] + [a for e in NAMED.values() for a in e.aliases]


def scalar_formats(family: str | None = None) -> list[str]:
    """Names of the named scalar formats, of one family or of all.

    >>> scalar_formats("fnuz")
    ['float8_e4m3fnuz', 'float8_e5m2fnuz', 'float8_e4m3b11fnuz']
    """
    names = [name for name, entry in NAMED.items() if family in (None, entry.family)]
    return names + (p3109_names() if family in (None, "p3109") else [])


def scalar_families() -> list[str]:
    """The families of named scalar formats."""
    return [*dict.fromkeys(e.family for e in NAMED.values()), "p3109"]


def source_of(fmt: Format) -> tuple[str, str]:
    """The source of a format's definition, and what of it is unverified; empty where nothing is known."""
    for entry in NAMED.values():
        if entry.format == fmt:
            return entry.source, entry.unverified
    return (P3109_SOURCE if _P3109.fullmatch(str(fmt)) else "custom format"), ""


@lru_cache(maxsize=4096)
def name_of(fmt: Format) -> str:
    """The canonical name of a format; `get_format` of it gives an equal format."""
    return next(name for name in _candidates(fmt) if _parses_to(name, fmt))


def _parses_to(name: str, fmt: Format) -> bool:
    try:
        return parse(name) == fmt
    except ValueError:
        return False


def _candidates(fmt: Format) -> Iterator[str]:
    yield from (name for name, entry in NAMED.items() if entry.format == fmt)
    match fmt:
        case FloatFormat():
            k, p, s = fmt.bits, fmt.precision, "su"[not fmt.signed]
            yield from (f"binary{k}p{p}{s}e", f"binary{k}p{p}{s}f")
            prefix = "u" * (not fmt.signed)
            suffix = next(x for x, special in {**SUFFIXES, "merged": MERGED}.items() if special is fmt.specials)
            for bias in ("", f"b{fmt.bias}"):
                yield f"{prefix}e{fmt.exponent_bits}m{fmt.trailing_bits}{bias}{suffix}"
            options: dict[str, object] = {
                "bias": fmt.bias, "signed": "yes" if fmt.signed else "no", "specials": fmt.specials.value,
                "subnormals": str(fmt.subnormals), "zero": "yes" if fmt.zero else "no",
                "integer_bit": "yes" if fmt.integer_bit else "no", "rounding": fmt.default_rounding.value,
                "overflow": Overflow(str(fmt.default_overflow)).value,
            }  # fmt: skip
            yield _shortest_call(f"float(e={fmt.exponent_bits}, m={fmt.trailing_bits}", options, fmt)
        case FixedFormat():
            integer = fmt.bits - fmt.signed - fmt.fraction_bits
            prefix = "" if fmt.signed else "u"
            if fmt.fraction_bits == 0:
                yield f"{prefix}int{fmt.bits}"
            yield f"{prefix}q{integer}.{fmt.fraction_bits}"
            yield f"ap_{prefix}fixed<{fmt.bits},{fmt.bits - fmt.fraction_bits}>"
            options = {
                "fraction": fmt.fraction_bits, "signed": "yes" if fmt.signed else "no",
                "sign_magnitude": "yes" if fmt.sign_magnitude else "no",
                "rounding": fmt.default_rounding.value, "overflow": fmt.default_overflow.value,
            }  # fmt: skip
            yield _shortest_call(f"fixed(bits={fmt.bits}", options, fmt)
        case CodebookFormat():
            tail = "" if fmt.default_rounding is Rounding.TIES_TO_EVEN else f", rounding={fmt.default_rounding.value}"
            yield f"codebook({', '.join(map(str, fmt.values))}{tail})"


def _shortest_call(head: str, options: dict[str, object], fmt: Format) -> str:
    """The call with only the options that are needed to give the format back."""
    needed = dict(options)
    for key in options:
        rest = {k: v for k, v in needed.items() if k != key}
        if _parses_to(", ".join([head, *(f"{k}={v}" for k, v in rest.items())]) + ")", fmt):
            needed = rest
    return ", ".join([head, *(f"{k}={v}" for k, v in needed.items())]) + ")"
