"""Named dot-product units: their parameters against the published tables, their evidence, their names."""

import dataclasses

import pytest

import numfmt as nf
from numfmt.named_units import CHIPS, FAMILIES, NAMED_UNITS, unit_name
from numfmt.units import GRADES, DotUnit

# Products of a step, F, least exponent, accumulator: MMA-Sim (arXiv 2511.10909), the toolbox (arXiv 2512.07004), mmaemu.
TENSOR_CORES = {
    "v100.fp16": (4, 23, -131, "float32"),
    "turing.fp16": (8, 24, -132, "float32"),
    "a100.fp16": (8, 24, -132, "float32"),
    "a100.bf16": (8, 24, -132, "float32"),
    "a100.tf32": (4, 24, -132, "float32"),
    "ada.fp16": (8, 24, -132, "float32"),
    "ada.bf16": (8, 24, -132, "float32"),
    "ada.tf32": (4, 24, -132, "float32"),
    "ada.e4m3": (16, 13, -132, "e8m13"),
    "ada.e5m2": (16, 13, -132, "e8m13"),
    "h100.fp16": (16, 25, -133, "float32"),
    "h100.bf16": (16, 25, -133, "float32"),
    "h100.tf32": (8, 25, -133, "float32"),
    "h100.e4m3": (32, 13, -133, "e8m13"),
    "h100.e5m2": (32, 13, -133, "e8m13"),
    "h100.e4m3.promote128": (32, 13, -133, "e8m13"),
    "h100.e5m2.promote128": (32, 13, -133, "e8m13"),
    "h100.mma.e4m3": (32, 25, -133, "float32"),
    "h100.mma.e5m2": (32, 25, -133, "float32"),
    "b200.fp16": (16, 25, -133, "float32"),
    "b200.bf16": (16, 25, -133, "float32"),
    "b200.tf32": (8, 25, -133, "float32"),
    "b200.e4m3": (32, 25, -133, "float32"),
    "b200.e5m2": (32, 25, -133, "float32"),
    "b200.f8f6f4": (32, 25, -133, "float32"),
    "b200.mma.e4m3": (32, 25, -133, "float32"),
    "b200.mma.e5m2": (32, 25, -133, "float32"),
    "b200.mxfp8": (32, 25, -133, "float32"),
    "b200.mxfp6": (32, 25, -133, "float32"),
    "b200.mxf8f6f4": (32, 25, -133, "float32"),
    "b200.mxf8f6f4.e2m1": (32, 25, -133, "float32"),
    "b200.mxfp4": (64, 35, -139, "float32"),
    "b200.nvfp4": (64, 35, -139, "float32"),
}
HALF_RESULTS = [
    "v100.fp16", "turing.fp16", "a100.fp16", "ada.fp16", "ada.e4m3", "ada.e5m2", "h100.fp16", "h100.e4m3", "h100.e5m2", "b200.fp16",
    "b200.e4m3", "b200.e5m2", "b200.f8f6f4",
]  # fmt: skip
RECORDED = {  # north-numerical-computing/MATLAB-tensor-core, model_validation; x86 units are measured on a processor
    "v100.fp16", "v100.fp16.fp16out", "a100.fp16", "a100.fp16.fp16out", "a100.bf16", "a100.tf32", "ada.fp16", "ada.fp16.fp16out",
    "ada.bf16", "ada.tf32", "ada.e4m3", "ada.e4m3.fp16out", "ada.e5m2", "ada.e5m2.fp16out", "h100.fp16", "h100.fp16.fp16out",
    "h100.bf16", "h100.tf32", "h100.e4m3", "h100.e5m2", "x86.vdpbf16ps", "x86.vpdpbusd", "x86.vpdpbusds",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED_UNITS)
def test_a_unit_is_data_with_a_source(name):
    unit = nf.get_unit(name)
    assert isinstance(unit, DotUnit)
    assert isinstance(hash(unit), int)
    assert nf.get_unit(unit) is unit
    assert nf.get_unit(f" {name.upper()} ") is unit
    assert unit.evidence.grade in GRADES
    assert unit.evidence.source
    with pytest.raises(dataclasses.FrozenInstanceError):
        unit.length = 3


def test_names_are_listed_by_family():
    assert nf.list_units() == list(NAMED_UNITS) == [name for family in FAMILIES for name in nf.list_units(family)]
    assert len(set(nf.list_units())) == len(nf.list_units())


@pytest.mark.parametrize("name", [
    "v100.fp16", "a100.bf16", "a100.tf32", "h100.fp16", "h100.e4m3", "ada.e5m2", "b200.mxfp8", "b200.nvfp4", "x86.vdpbf16ps", "amx.bf16",
    "mi300.fp16",
])  # fmt: skip
def test_the_units_of_the_design_are_there(name):
    assert name in nf.list_units()


@pytest.mark.parametrize("name", TENSOR_CORES)
def test_tensor_cores_have_the_published_widths(name):
    unit = nf.get_unit(name)
    assert (unit.length, unit.fraction, unit.zero_exponent, str(unit.accumulator)) == TENSOR_CORES[name]
    assert (unit.kind, unit.alignment, unit.rounding, unit.overflow) == ("aligned", "toward_zero", "toward_zero", "infinity")
    assert unit.addend == ("late" if ".mma." in name else "early")
    assert unit.zero == "positive"
    assert not unit.flush_results
    assert unit.flush_inputs is None
    assert str(unit.c_format) == "float32"


@pytest.mark.parametrize("name", HALF_RESULTS)
def test_half_results_differ_in_the_last_rounding_alone(name):
    """An exponent of zero is 112 = 126 - 14 higher, and results are rounded to nearest."""
    half, single = nf.get_unit(f"{name}.fp16out"), nf.get_unit(name)
    expected = dataclasses.replace(
        single, accumulator="float16", addend_format=None, rounding="ties_to_even", zero_exponent=single.zero_exponent + 112, nan=0x7FFF,
        evidence=half.evidence,
    )  # fmt: skip
    assert half == expected


def test_every_tensor_core_is_in_the_table():
    others = {f"{name}.fp16out" for name in HALF_RESULTS} | {"a100.fp64", "h100.fp64", "b200.fp64"}
    assert set(nf.list_units("nvidia")) == set(TENSOR_CORES) | others


@pytest.mark.parametrize("name", [n for n in NAMED_UNITS if n in nf.list_units("nvidia") and "fp64" not in n])
def test_nans_of_tensor_cores_are_all_ones(name):
    unit = nf.get_unit(name)
    assert unit.nan == (0x7FFF if unit.accumulator.bits == 16 else 0x7FFFFFFF)


@pytest.mark.parametrize("name", [n for n in NAMED_UNITS if n.endswith(("tf32", "xf32"))])
def test_tf32_units_truncate_float32_operands(name):
    unit = nf.get_unit(name)
    assert [str(f) for f in unit.inputs] == ["tf32"]
    assert unit.input_rounding == "toward_zero"


def test_blackwell_scales_blocks():
    def scaling(name):
        unit = nf.get_unit(name)
        return [str(f) for f in unit.scales], unit.scale_blocks, unit.group, unit.scale_signs

    e8m0, ue4m3 = "float8_e8m0fnu", "float8_e4m3fn"
    for name in ("b200.mxfp8", "b200.mxfp6", "b200.mxf8f6f4", "b200.mxf8f6f4.e2m1"):
        assert scaling(name) == ([e8m0], (32,), None, False)
    assert scaling("b200.mxfp4") == ([e8m0], (32,), 16, False)
    assert scaling("b200.nvfp4") == ([ue4m3, e8m0], (16,), 16, False)
    assert [name for name, unit in NAMED_UNITS.items() if unit.scales and not name.startswith("b200.")] == []


def test_promotion_is_all_that_deepseek_adds():
    for name in ("h100.e4m3", "h100.e5m2"):
        promoted = nf.get_unit(f"{name}.promote128")
        assert promoted == dataclasses.replace(nf.get_unit(name).promotion(128), evidence=promoted.evidence)
        assert str(promoted.result_format) == "float32"


@pytest.mark.parametrize(("name", "changes"), [
    ("mi100.fp16", {"kind": "exact", "length": 4}),
    ("mi100.bf16", {"kind": "exact", "length": 2}),
    ("mi250.fp16", {"kind": "tree", "length": 4, "product": "float32", "addend": "late", "flush_inputs": "positive", "flush_results": True}),
    ("mi250.bf16", {"kind": "tree", "length": 4, "product": "float32", "addend": "late", "flush_inputs": "positive", "flush_results": True}),
    ("mi250.bf16.2", {"kind": "tree", "length": 2, "product": "float32", "addend": "late", "flush_inputs": "positive", "flush_results": True}),
    ("mi300.bf16", {"kind": "aligned", "length": 8, "addend": "late", "fraction": 24, "late_fraction": 31, "product_limit": 128}),
    ("mi300.e5m2fnuz", {"kind": "aligned", "length": 16, "addend": "late", "fraction": 24, "late_fraction": 31, "late_reach": 25, "order": "even_odd"}),
    ("mi300.fp64", {"accumulator": "float64"}),
    ("x86.vdpbf16ps", {"length": 2, "order": "odd_first", "flush_inputs": "signed", "flush_results": "tiny", "nan": 0xFFC00000,
                       "nan_rule": "x86.vdpbf16ps"}),
    ("x86.vpdpbusds", {"kind": "fixed", "length": 4, "accumulator": "int32", "overflow": "saturate"}),
    ("amx.bf16", {"length": 32, "order": "even_odd", "addend": "late", "flush_inputs": "signed", "flush_results": "tiny", "nan": 0xFFC00000}),
    ("arm.bfdot", {"kind": "tree", "length": 2, "product": "float32", "product_rounding": "to_odd", "rounding": "to_odd", "overflow": "infinity",
                   "addend": "late", "flush_inputs": "signed", "flush_results": True}),
    ("arm.bfdot.ebf1", {"kind": "exact", "length": 2, "addend": "late"}),
    ("arm.fmmla.fp8", {"kind": "exact", "length": 8}),
    ("arm.fdot.fp8.fp16out", {"kind": "exact", "length": 2, "accumulator": "float16"}),
])  # fmt: skip
def test_other_units_do_what_their_documents_say(name, changes):
    assert {k: v for k, v in nf.get_unit(name).changes().items() if k != "inputs"} == changes


# ---- evidence --------------------------------------------------------------------------------------------------


def test_grade_a_is_what_hardware_has_been_recorded_for():
    assert {name for name, unit in NAMED_UNITS.items() if unit.evidence.grade == "A"} == RECORDED


def test_chips_have_a_grade_and_definitions_say_that_they_are_none():
    for family in FAMILIES:
        for name in nf.list_units(family):
            evidence = nf.get_unit(name).evidence
            assert (evidence.grade == "E") == (family == "accumulator") == ("a definition" in evidence.note), name


@pytest.mark.parametrize("name", [n for n in NAMED_UNITS if n.startswith(("mi", "amx"))])
def test_what_no_source_says_is_noted(name):
    assert "NaN" in nf.get_unit(name).evidence.note


# ---- names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("written", "name"), [
    ("volta.fp16", "v100.fp16"), ("t4.fp16", "turing.fp16"), ("ampere.bf16", "a100.bf16"), ("hopper.e4m3", "h100.e4m3"), ("H200.FP16", "h100.fp16"),
    ("blackwell.nvfp4", "b200.nvfp4"), ("mi300x.bfloat16", "mi300.bf16"), ("cdna2.fp16", "mi250.fp16"), ("h100.e4m3fn", "h100.e4m3"),
    ("v100.fp16.fp16", "v100.fp16.fp16out"), ("v100.fp16.fp32", "v100.fp16"), ("ada.float16.float16", "ada.fp16.fp16out"), ("x86_vdpbf16ps", "x86.vdpbf16ps"),
    ("quire", "exact"), ("float32", "fp32"), ("bfloat16", "bf16"),
])  # fmt: skip
def test_other_spellings_name_the_same_unit(written, name):
    assert unit_name(written) == name
    assert nf.get_unit(written) is nf.get_unit(name)


def test_every_other_name_of_a_chip_is_one_of_a_chip_that_is_listed():
    chips = {name.partition(".")[0] for name in NAMED_UNITS}
    assert set(CHIPS.values()) <= chips
    assert not chips & set(CHIPS)


@pytest.mark.parametrize(("name", "message"), [
    ("h100.e4m4", "unknown unit 'h100.e4m4'; nearest: h100.e4m3"),
    ("v100.bf16", "unknown unit 'v100.bf16'; nearest: v100.fp16"),
    ("mi300.e4m3", "unknown unit 'mi300.e4m3'; nearest: mi300.e4m3fnuz"),
    ("x86.vdpbf16", "nearest: x86.vdpbf16ps"),
    ("kahan.bf17", "nearest: kahan.bf16"),
    ("", "unknown unit ''; known: v100.fp16"),
    ("h100", "'h100' is given; its units are h100.fp16, h100.fp16.fp16out, "),
    ("h100.mma", "'h100.mma' is given; its units are h100.mma.e4m3, h100.mma.e5m2"),
    ("tpu.bf16", "'tpu.bf16' is no unit: order, rounding and subnormals of Google's matrix unit are not documented"),
    ("TPU", "'TPU' is no unit: .* nobody has published a model"),
    ("trainium2.bf16", "'trainium2.bf16' is no unit: .*AWS"),
    ("ipu.fp16", "'ipu.fp16' is no unit: .*Graphcore"),
    ("h100.mma.e4m3.fp16out", "is no unit: no model explains what mma.sync does on Hopper"),
    ("b200.mma.e5m2.fp16", "is no unit: no model explains what mma.sync does on Hopper"),
])  # fmt: skip
def test_a_name_without_a_unit_is_refused_in_one_sentence(name, message):
    with pytest.raises(ValueError, match=message) as caught:
        nf.get_unit(name)
    assert "\n" not in str(caught.value)


def test_only_names_and_units_are_units():
    with pytest.raises(TypeError, match="a int is given as a unit; it must be a name or a DotUnit"):
        nf.get_unit(7)


def test_an_unknown_family_is_named_with_its_neighbours():
    with pytest.raises(ValueError, match="unknown family 'nvidea'; nearest: nvidia"):
        nf.list_units("nvidea")
