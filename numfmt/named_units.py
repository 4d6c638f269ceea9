"""Every named dot-product unit in one line with its evidence; `get_unit` and `list_units`.

A name is `chip.inputs`, and a third part where there are several: what the result is (`fp16out`; binary32 otherwise),
an instruction (`mma`, beside the chip's own), or a promotion. Accumulators that belong to no chip have no chip in their name.
"""

from __future__ import annotations

from typing import Any

from .rounding import unknown
from .units import DotUnit, Evidence

MMASIM = "MMA-Sim (mmasim 2.1.1, arXiv 2511.10909)"
TOOLBOX = "MATLAB Tensor Core toolbox (arXiv 2512.07004)"
MMAEMU = "mmaemu 0.1.0"
SDM = "Intel SDM vol. 2, pseudocode"
ARM = "Arm A64 instruction set XML, pseudocode"
ZEN5 = "measured on AMD Zen 5; Intel SDM vol. 2"

CORNERS = "the recordings have no NaN, infinity or overflow, and zero_exponent does not show: these are MMA-Sim's"
FLAT = "with binary16 results they hardly show F: one bit more or less gives them too"
NANS = "patterns of NaNs: canonical here"
CDNA = "patterns of NaNs and signs of zeros: canonical and as IEEE 754 here"
NAN_X86 = "which NaN: the default one of x86 here"
FPCR = "FPCR's reset value here: nearest, ties to even, subnormals kept, one NaN"

FP8, MIX = ("e4m3fn", "e5m2"), ("e4m3fn", "e5m2", "e3m2", "e2m3", "e2m1")
FP8_FNUZ = ("e4m3fnuz", "e5m2fnuz")
ANY = ("float32", "tf32", "bfloat16", "float16", *MIX, *FP8_FNUZ)


def _unit(**fields: Any) -> DotUnit:
    """A unit; formats and modes by name."""
    return DotUnit(**fields)


def _first(format: str, formats: tuple[str, ...]) -> tuple[str, ...]:
    """Formats with one of them in front: it is that of arrays that do not say theirs."""
    return format, *(f for f in formats if f != format)


def _recorded(chip: str, *notes: str) -> Evidence:
    source = f"dots recorded on {chip} (MATLAB-tensor-core@b12b5a7); {MMASIM}; {TOOLBOX}"
    return Evidence("A", source, "; ".join((*notes, CORNERS)))


def _mmasim(what: str = "", note: str = "") -> Evidence:
    return Evidence("C", f"{MMASIM}, {what}" if what else MMASIM, note)


def _two_models(*notes: str) -> Evidence:
    return Evidence("B", f"{MMASIM}; {TOOLBOX}", "; ".join(notes))


def _defined(source: str) -> Evidence:
    return Evidence("E", source, "a definition, not a chip")


def _nvidia(
    inputs: str | tuple[str, ...], length: int, fraction: int, zero_exponent: int, evidence: Evidence,
    result: str = "float32", **more: Any,
) -> DotUnit:  # fmt: skip
    """A Tensor Core: products and accumulator aligned and truncated; truncated results, or nearest ones of binary16."""
    nan = 0x7FFF if result == "float16" else 0x7FFFFFFF
    if result == "e8m13":
        more["addend_format"] = "float32"
    return _unit(
        inputs=inputs, kind="aligned", length=length, fraction=fraction, zero_exponent=zero_exponent, accumulator=result,
        rounding="ties_to_even" if result == "float16" else "toward_zero", overflow="infinity", zero="positive", nan=nan,
        evidence=evidence, **more,
    )  # fmt: skip


def _tf32(length: int, fraction: int, zero_exponent: int, evidence: Evidence) -> DotUnit:
    """A Tensor Core that reads the upper 19 bits of float32 operands."""
    return _nvidia("tf32", length, fraction, zero_exponent, evidence, input_rounding="toward_zero")


def _mx(inputs: tuple[str, ...]) -> DotUnit:
    """Blackwell's mxf8f6f4: E8M0 scales, one for 32 elements, are added to the exponents of the products."""
    return _nvidia(inputs, 32, 25, -133, _mmasim("kind::mxf8f6f4"), scales=("e8m0",), scale_blocks=(32,))


def _mxf4(kind: str, size: int, *scales: str) -> DotUnit:
    """Blackwell's mxf4 and mxf4nvf4: sums of 16 products are exact, and aligned by the exponents of their scales."""
    return _nvidia("e2m1", 64, 35, -139, _mmasim(kind), group=16, scales=scales, scale_blocks=(size,))


def _fma(format: str, evidence: Evidence, **more: Any) -> DotUnit:
    """Fused multiply-adds, one after the other, without a rounding of the product."""
    return _unit(inputs=format, kind="chain", accumulator=format, evidence=evidence, **more)


def _cdna2(format: str, length: int) -> DotUnit:
    """Pairs of rounded products, then the accumulator; whatever is subnormal is flushed."""
    return _unit(
        inputs=format, kind="tree", length=length, product="float32", addend="late", flush_inputs="positive", flush_results=True,
        evidence=_two_models(CDNA),
    )  # fmt: skip


def _cdna3(inputs: str | tuple[str, ...], length: int, *notes: str, **more: Any) -> DotUnit:
    """Products aligned and truncated; their sum and the accumulator floored, then added and rounded to nearest."""
    return _unit(
        inputs=inputs, kind="aligned", length=length, fraction=24, addend="late", late_fraction=31,
        evidence=_two_models(*notes, "instructions with a smaller K have shorter steps", CDNA), **more,
    )  # fmt: skip


def _amx(format: str, note: str, **more: Any) -> DotUnit:
    """Two sums from zero, over even and odd k of a tile, which are added, and then to the accumulator."""
    tile = "a whole tile has K = 32: replace(unit, length=…) for a smaller one"
    return _unit(
        inputs=format, kind="chain", length=32, order="even_odd", addend="late", flush_results="tiny", nan=0xFFC00000,
        evidence=Evidence("D", SDM, f"{note}{tile}; {NAN_X86}"), **more,
    )  # fmt: skip


def _bfdot(instruction: str) -> DotUnit:
    """Every product and sum rounded to odd, two products a step."""
    return _unit(
        inputs="bfloat16", kind="tree", length=2, product="float32", product_rounding="to_odd", rounding="to_odd", overflow="infinity",
        addend="late", flush_inputs="signed", flush_results=True, evidence=Evidence("D", f"{ARM} of {instruction}, FPCR.EBF = 0"),
    )  # fmt: skip


def _ebf1(instruction: str) -> DotUnit:
    """Two products added without error, rounded, and added to the accumulator."""
    evidence = Evidence("D", f"{ARM} of {instruction}, FPCR.EBF = 1", FPCR)
    return _unit(inputs="bfloat16", kind="exact", length=2, addend="late", evidence=evidence)


def _arm_fp8(length: int, instruction: str, accumulator: str = "float32") -> DotUnit:
    """All products of a step and the accumulator added without error, rounded once."""
    return _unit(
        inputs=FP8, kind="exact", length=length, accumulator=accumulator,
        evidence=Evidence("D", f"{ARM} of {instruction}", f"FPMR.LSCALE = 0 here; {FPCR}"),
    )  # fmt: skip


HOPPER = "recorded with mma.sync; that wgmma does the same, two models say"
WGMMA = "recorded with wgmma and c = 0; with c: 445 and 168 products of matrices, mmaemu; zero_exponent is -133 (MMA-Sim) or -132 (mmaemu)"
WGMMA_HALF = "recorded E4M3 and E5M2 products with binary16 results, of an instruction that is not named, fit no model"
REWRITTEN, UNIQUE = "mma.sync, computed as binary16", "at least 137 models fit what mmaemu saw"
PROMOTION = Evidence(
    "C", f"DeepSeek-V3 §3.3.2, arXiv 2412.19437; {MMAEMU}",
    "wgmma as in h100.e4m3, its sums added on CUDA cores; block scales, by which DeepGEMM multiplies there, are left out",
)  # fmt: skip
TCGEN05 = "tcgen05, and kind::f8f6f4 of RTX Blackwell"
RTX = "2.5e9 results of an RTX 4060 (mmaemu)"
XF32 = "that operands are truncated: MMA-Sim@16a0188 alone"
FLOORS = "MMA-Sim@735c9b7 truncates where this floors"

FAMILIES: dict[str, dict[str, DotUnit]] = {
    "nvidia": {
        "v100.fp16": _nvidia("float16", 4, 23, -131, _recorded("V100")),
        "v100.fp16.fp16out": _nvidia("float16", 4, 23, -19, _recorded("V100", FLAT), "float16"),
        "turing.fp16": _nvidia("float16", 8, 24, -132, _mmasim(note="mma.m8n8k4 on Turing is v100.fp16")),
        "turing.fp16.fp16out": _nvidia("float16", 8, 24, -20, _mmasim(note="mma.m8n8k4 on Turing is v100.fp16.fp16out"), "float16"),
        "a100.fp16": _nvidia("float16", 8, 24, -132, _recorded("A100")),
        "a100.fp16.fp16out": _nvidia("float16", 8, 24, -20, _recorded("A100", FLAT), "float16"),
        "a100.bf16": _nvidia("bfloat16", 8, 24, -132, _recorded("A100")),
        "a100.tf32": _tf32(4, 24, -132, _recorded("A100")),
        "a100.fp64": _fma("float64", _mmasim(note=NANS)),
        "ada.fp16": _nvidia("float16", 8, 24, -132, _recorded("RTX 1000 Ada")),
        "ada.fp16.fp16out": _nvidia("float16", 8, 24, -20, _recorded("RTX 1000 Ada", FLAT), "float16"),
        "ada.bf16": _nvidia("bfloat16", 8, 24, -132, _recorded("RTX 1000 Ada")),
        "ada.tf32": _tf32(4, 24, -132, _recorded("RTX 1000 Ada")),
        "ada.e4m3": _nvidia(FP8, 16, 13, -132, _recorded(f"RTX 1000 Ada, {RTX}"), "e8m13"),
        "ada.e4m3.fp16out": _nvidia(FP8, 16, 13, -20, _recorded("RTX 1000 Ada"), "float16"),
        "ada.e5m2": _nvidia(_first("e5m2", FP8), 16, 13, -132, _recorded(f"RTX 1000 Ada, {RTX}"), "e8m13"),
        "ada.e5m2.fp16out": _nvidia(_first("e5m2", FP8), 16, 13, -20, _recorded("RTX 1000 Ada"), "float16"),
        "h100.fp16": _nvidia("float16", 16, 25, -133, _recorded("H100", HOPPER)),
        "h100.fp16.fp16out": _nvidia("float16", 16, 25, -21, _recorded("H100", HOPPER, FLAT), "float16"),
        "h100.bf16": _nvidia("bfloat16", 16, 25, -133, _recorded("H100", HOPPER)),
        "h100.tf32": _tf32(8, 25, -133, _recorded("H100", "recorded with 4 products, half a step", HOPPER)),
        "h100.fp64": _fma("float64", _mmasim(note=NANS)),
        "h100.e4m3": _nvidia(FP8, 32, 13, -133, _recorded("H100", WGMMA), "e8m13"),
        "h100.e4m3.fp16out": _nvidia(FP8, 32, 13, -21, _mmasim("wgmma", WGMMA_HALF), "float16"),
        "h100.e4m3.promote128": _nvidia(FP8, 32, 13, -133, PROMOTION, "e8m13", promote_every=128),
        "h100.e5m2": _nvidia(_first("e5m2", FP8), 32, 13, -133, _recorded("H100", WGMMA), "e8m13"),
        "h100.e5m2.fp16out": _nvidia(_first("e5m2", FP8), 32, 13, -21, _mmasim("wgmma", WGMMA_HALF), "float16"),
        "h100.e5m2.promote128": _nvidia(_first("e5m2", FP8), 32, 13, -133, PROMOTION, "e8m13", promote_every=128),
        "h100.mma.e4m3": _nvidia(FP8, 32, 25, -133, _mmasim(REWRITTEN, UNIQUE), addend="late", late_rounding="ties_to_even"),
        "h100.mma.e5m2": _nvidia(_first("e5m2", FP8), 32, 25, -133, _mmasim(REWRITTEN, UNIQUE), addend="late", late_rounding="ties_to_even"),
        "b200.fp16": _nvidia("float16", 16, 25, -133, _mmasim()),
        "b200.fp16.fp16out": _nvidia("float16", 16, 25, -21, _mmasim(), "float16"),
        "b200.bf16": _nvidia("bfloat16", 16, 25, -133, _mmasim()),
        "b200.tf32": _tf32(8, 25, -133, _mmasim()),
        "b200.fp64": _fma("float64", _mmasim(note=NANS)),
        "b200.e4m3": _nvidia(FP8, 32, 25, -133, _mmasim(TCGEN05)),
        "b200.e4m3.fp16out": _nvidia(FP8, 32, 25, -21, _mmasim(TCGEN05), "float16"),
        "b200.e5m2": _nvidia(_first("e5m2", FP8), 32, 25, -133, _mmasim(TCGEN05)),
        "b200.e5m2.fp16out": _nvidia(_first("e5m2", FP8), 32, 25, -21, _mmasim(TCGEN05), "float16"),
        "b200.f8f6f4": _nvidia(MIX, 32, 25, -133, _mmasim(TCGEN05)),
        "b200.f8f6f4.fp16out": _nvidia(MIX, 32, 25, -21, _mmasim(TCGEN05), "float16"),
        "b200.mma.e4m3": _nvidia(FP8, 32, 25, -133, _mmasim(REWRITTEN, UNIQUE), addend="late", late_rounding="ties_to_even"),
        "b200.mma.e5m2": _nvidia(_first("e5m2", FP8), 32, 25, -133, _mmasim(REWRITTEN, UNIQUE), addend="late", late_rounding="ties_to_even"),
        "b200.mxfp8": _mx(FP8),
        "b200.mxfp6": _mx(("e2m3", "e3m2")),
        "b200.mxf8f6f4": _mx(MIX),
        "b200.mxf8f6f4.e2m1": _mx(_first("e2m1", MIX)),
        "b200.mxfp4": _mxf4("kind::mxf4", 32, "e8m0"),
        "b200.nvfp4": _mxf4("kind::mxf4nvf4 with four scales for 64 elements; UE4M3 is E4M3 without its sign", 16, "e4m3fn", "e8m0"),
    },
    "amd": {
        "mi100.fp16": _unit(inputs="float16", kind="exact", length=4, evidence=_two_models("MMA-Sim@c785138 adds in pairs here", CDNA)),
        "mi100.bf16": _unit(inputs="bfloat16", kind="exact", length=2, evidence=_two_models("MMA-Sim@c785138 adds in pairs here", CDNA)),
        "mi100.fp32": _fma("float32", _two_models(NANS)),
        "mi250.fp16": _cdna2("float16", 4),
        "mi250.bf16": _cdna2("bfloat16", 4),
        "mi250.bf16.2": _cdna2("bfloat16", 2),
        "mi250.fp32": _fma("float32", _two_models(NANS)),
        "mi250.fp64": _fma("float64", _two_models(NANS)),
        "mi300.fp16": _cdna3("float16", 8, product_limit=128),
        "mi300.bf16": _cdna3("bfloat16", 8, product_limit=128),
        "mi300.xf32": _cdna3("tf32", 4, XF32, product_limit=128, input_rounding="toward_zero"),
        "mi300.e4m3fnuz": _cdna3(FP8_FNUZ, 16, FLOORS, order="even_odd", late_reach=25),
        "mi300.e5m2fnuz": _cdna3(_first("e5m2fnuz", FP8_FNUZ), 16, FLOORS, order="even_odd", late_reach=25),
        "mi300.fp32": _fma("float32", _two_models(NANS)),
        "mi300.fp64": _fma("float64", _two_models(NANS)),
    },
    "x86": {
        "x86.vdpbf16ps": _unit(inputs="bfloat16", kind="chain", length=2, order="odd_first", flush_inputs="signed", flush_results="tiny",
                               nan=0xFFC00000, nan_rule="x86.vdpbf16ps", evidence=Evidence("A", ZEN5)),
        "x86.vpdpbusd": _unit(inputs=("uint8", "int8"), kind="fixed", length=4, accumulator="int32", overflow="wrap", evidence=Evidence("A", ZEN5)),
        "x86.vpdpbusds": _unit(inputs=("uint8", "int8"), kind="fixed", length=4, accumulator="int32", overflow="saturate", evidence=Evidence("A", ZEN5)),
        "amx.bf16": _amx("bfloat16", "", flush_inputs="signed"),
        "amx.fp16": _amx("float16", "a subnormal c, which the instruction reads as zero, is kept here; "),
    },
    "arm": {
        "arm.bfdot": _bfdot("BFDOT"),
        "arm.bfmmla": _bfdot("BFMMLA, two steps of two products"),
        "arm.bfdot.ebf1": _ebf1("BFDOT"),
        "arm.bfmmla.ebf1": _ebf1("BFMMLA, two steps of two products"),
        "arm.fdot.fp8": _arm_fp8(4, "FDOT, 4-way"),
        "arm.fdot.fp8.fp16out": _arm_fp8(2, "FDOT, 2-way", "float16"),
        "arm.fmmla.fp8": _arm_fp8(8, "FMMLA"),
    },
    "accumulator": {
        "exact": _unit(inputs=ANY, kind="exact", length=None, evidence=_defined("U. Kulisch, Computer arithmetic and validity, 2013: sums without error")),
        "fp32": _unit(inputs=ANY, kind="chain", evidence=_defined("IEEE 754-2019 §5.4.1: fusedMultiplyAdd after fusedMultiplyAdd")),
        "fp16": _unit(inputs=_first("float16", ANY), kind="chain", product="float16", accumulator="float16",
                      evidence=_defined("IEEE 754-2019 §5.4.1: multiplication, then addition")),
        "bf16": _unit(inputs=_first("bfloat16", ANY), kind="chain", product="bfloat16", accumulator="bfloat16",
                      evidence=_defined("IEEE 754-2019 §5.4.1: multiplication, then addition")),
        "pairwise.fp32": _unit(inputs=ANY, kind="tree", length=None, product="float32", addend="late",
                               evidence=_defined("N. Higham, Accuracy and stability of numerical algorithms, §4.1")),
        "kahan.bf16": _unit(inputs=_first("bfloat16", ANY), kind="kahan", accumulator="bfloat16",
                            evidence=_defined("W. Kahan, Further remarks on reducing truncation errors, CACM 8(1), 1965")),
        "neumaier.fp32": _unit(inputs=ANY, kind="neumaier", evidence=_defined("A. Neumaier, ZAMM 54, 1974")),
        "int32": _unit(inputs="int8", kind="fixed", length=None, accumulator="int32", overflow="wrap",
                       evidence=_defined("two's complement, modulo 2^32")),
    },
}  # fmt: skip

NAMED_UNITS = {name: unit for units in FAMILIES.values() for name, unit in units.items()}

CHIPS = {
    "volta": "v100", "t4": "turing", "ampere": "a100", "a30": "a100", "rtx40": "ada", "hopper": "h100", "h200": "h100", "blackwell": "b200",
    "cdna1": "mi100", "mi210": "mi250", "cdna2": "mi250", "mi300a": "mi300", "mi300x": "mi300", "cdna3": "mi300",
}  # fmt: skip
PARTS = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32", "float64": "fp64", "e4m3fn": "e4m3"}
RESULTS = {"fp32": [], "fp16": ["fp16out"]}  # a third part that is a format, as in v100.fp16.fp16
ALIASES = {"quire": "exact", "kulisch": "exact", "fma": "fp32"}

NO_MODEL = {
    "tpu": "order, rounding and subnormals of Google's matrix unit are not documented, and nobody has published a model of it",
    "trainium": "order, rounding and subnormals of AWS' tensor engine are not documented, and nobody has published a model of it",
    "ipu": "the order of sums in Graphcore's AMP units is not documented, and nobody has published a model of them",
}
NO_HALF = "no model explains what mma.sync does on Hopper and later with FP8 operands and binary16 results"


def _spelled(name: str) -> str:
    """A name in the spelling of `list_units`; there may be no such unit."""
    chip, *rest = [PARTS.get(part, part) for part in name.strip().lower().replace("_", ".").split(".")]
    result = RESULTS.get(rest[-1]) if len(rest) > 1 else None
    if result is not None:
        rest = [*rest[:-1], *result]
    found = ".".join([CHIPS.get(chip, chip), *rest])
    return ALIASES.get(found, found)


def units_of(chip: str) -> list[str]:
    """Names of the units whose names begin with that of a chip, or of a chip's instruction; none of what is a unit itself."""
    start = _spelled(chip)
    return [] if start in NAMED_UNITS else [name for name in NAMED_UNITS if name.startswith(f"{start}.")]


def unit_name(name: str) -> str:
    """The name that `list_units` has for a unit, from any spelling of it."""
    found = _spelled(name)
    if found in NAMED_UNITS:
        return found
    for word, why in NO_MODEL.items():
        if found.startswith(word):
            raise ValueError(f"{name!r} is no unit: {why}")
    if ".mma." in found and found.endswith(".fp16out"):
        raise ValueError(f"{name!r} is no unit: {NO_HALF}")
    if several := units_of(name):
        raise ValueError(f"{name!r} is given; its units are {', '.join(several)}")
    of_chip = units_of(found.partition(".")[0])
    raise ValueError(unknown("unit", found, of_chip or [*NAMED_UNITS, *ALIASES]))


def get_unit(name: str | DotUnit) -> DotUnit:
    """The dot-product unit called `name`; a unit is returned as it is.

    Names are `chip.inputs`: v100.fp16, a100.bf16, h100.e4m3, b200.nvfp4, mi300.fp16, x86.vdpbf16ps, amx.bf16, …, some with a
    third part: h100.fp16.fp16out has binary16 results, h100.e4m3.promote128 adds its sums to binary32 every 128 products.
    exact, fp32, fp16, bf16, kahan.bf16, … are accumulators of no chip. Case does not matter; architectures name their chip
    (hopper.e4m3), and a result format may stand for fp16out (h100.fp16.fp16).

    Args:
        name: a name of `list_units`, or a `DotUnit`.

    Raises:
        ValueError: an unknown name, with the nearest ones; a chip whose sums nobody has a model of.
        TypeError: anything but a name or a unit.

    References: the unit's own `evidence`.

    >>> unit = get_unit("h100.e4m3")
    >>> unit.length, unit.fraction, str(unit.accumulator), unit.evidence.grade
    (32, 13, 'e8m13', 'A')
    >>> get_unit("tpu.bf16")
    Traceback (most recent call last):
        ...
    ValueError: 'tpu.bf16' is no unit: order, rounding and subnormals of Google's matrix unit are not documented, and nobody has published a model of it
    """
    if isinstance(name, DotUnit):
        return name
    if not isinstance(name, str):
        raise TypeError(f"a {type(name).__name__} is given as a unit; it must be a name or a DotUnit")
    return NAMED_UNITS[unit_name(name)]


def list_units(family: str | None = None) -> list[str]:
    """Names of the dot-product units, of one family or of all: nvidia, amd, x86, arm, accumulator.

    Raises:
        ValueError: an unknown family.

    References: the `evidence` of each unit.

    >>> list_units("x86")
    ['x86.vdpbf16ps', 'x86.vpdpbusd', 'x86.vpdpbusds', 'amx.bf16', 'amx.fp16']
    """
    if family is not None and family not in FAMILIES:
        raise ValueError(unknown("family", family, list(FAMILIES)))
    return [name for one, units in FAMILIES.items() if family in (None, one) for name in units]
