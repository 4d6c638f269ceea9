"""The judge of block formats against cases worked out by hand from the rules, and against numpy's binary32 arithmetic."""

import math
from fractions import Fraction

import numpy as np
import pytest

from spec.binary32 import FLT_MAX, add, divide, floor_of_log2, multiply, nearest, quotient, subtract, total
from spec.blocks import (
    RULES,
    EncodedBlock,
    blocks_of,
    decode_array,
    decode_block,
    encode_array,
    encode_block,
    encode_whole,
    get_block,
    load_block_formats,
    scales_shape,
    tensor_level,
    with_options,
)
from spec.oracle import encode, from_float32_bits, power_of_two, value

F = Fraction
ELEMENTS = ["e2m1", "e4m3", "e5m2", "e3m2", "e2m3"]
EMAX = {"e2m1": 2, "e4m3": 8, "e5m2": 15, "e3m2": 4, "e2m3": 2}
MAX_OVER_POWER = {"e2m1": F(3, 2), "e4m3": F(7, 4), "e5m2": F(7, 4), "e3m2": F(7, 4), "e2m3": F(15, 8)}
EVEN_BUMPS_FROM = {"e2m1": F(7, 4), "e4m3": F(31, 16), "e5m2": F(15, 8), "e3m2": F(15, 8), "e2m3": F(31, 16)}


def mx(element, rule, **options):
    spec = get_block(f"block({element}, scale=e8m0, size=32, rule={rule})")
    return with_options(spec, **options) if options else spec


def exponent(amax, spec):
    """The unbiased exponent of the E8M0 scale that a block of this one value gets."""
    return encode_block([amax], spec).scale - 127


def ulp(x):
    return power_of_two(math.frexp(x)[1] - 24)


def below(x):
    """The binary32 just below a power of two."""
    return x - ulp(x) / 2


def decoded(block, spec, tensor=None, **options):
    return [from_float32_bits(code) for code in decode_block(block, spec, tensor, **options)]


def floats(codes):
    return np.array(codes, np.uint32).view(np.float32)


# ---- arithmetic ------------------------------------------------------------------------------------------------


def patterns():
    """Binary32 codes: every tenth exponent with a few significands, both signs, and the special ones."""
    random = np.random.default_rng(0).integers(0, 2**23, 26)
    fields = [0, 1, 2, *range(10, 250, 10), 253, 254]
    codes = [(field << 23) | int(t) for field, t in zip(fields, random[: len(fields)], strict=False)]
    codes += [0, 1, 0x7FFFFF, 0x800000, 0x3F800000, 0x3F7FFFFF, 0x4B800001, 0x7F7FFFFF, 0x7F800000, 0x7FC00000]
    return codes + [code | 0x80000000 for code in codes]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(multiply, np.multiply), (divide, np.divide), (add, np.add), (subtract, np.subtract)],
    ids=["multiply", "divide", "add", "subtract"],
)
def test_binary32_arithmetic_is_the_processors(ours, theirs):
    codes = patterns()
    bits = np.array(codes, np.uint32)
    with np.errstate(all="ignore"):
        expected = theirs(bits.view(np.float32)[:, None], bits.view(np.float32)[None, :]).view(np.uint32)
    for i in range(0, len(codes), 3):
        for j in range(len(codes)):
            result = encode(ours(from_float32_bits(codes[i]), from_float32_bits(codes[j])), "binary32")
            same = result == expected[i, j] or (result == 0x7FC00000 and np.isnan(expected[i, j].view(np.float32)))
            assert same, (hex(codes[i]), hex(codes[j]), hex(result), hex(expected[i, j]))


def test_exact_arithmetic_of_words():
    assert total("-0", "-0") == "-0"
    assert total("-0", F(0)) == 0
    assert total(F(1), F(-1)) == 0
    assert total("inf", "-inf") == "nan"
    assert quotient(F(-1), F(0)) == "-inf"
    assert quotient("-0", "-0") == "nan"
    assert quotient(F(-3), "inf") == "-0"


@pytest.mark.parametrize("k", range(-20, 21))
def test_binary32_log2_below_a_power_of_two_rounds_up_outside_of_minus_1_to_2(k):
    assert floor_of_log2(below(power_of_two(k))) == (k if k >= 3 or k <= -2 else k - 1)
    assert floor_of_log2(power_of_two(k)) == k


@pytest.mark.parametrize("x", [1e-40, 1.1754944e-38, 0.3333, 0.99, 1.01, 100.0, 3.4e38])
def test_binary32_log2_away_from_powers_of_two_is_numpys(x):
    x = np.float32(x)
    assert floor_of_log2(from_float32_bits(int(x.view(np.uint32)))) == int(np.floor(np.log2(x)))


# ---- powers of two ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [-3, 0, 5])
@pytest.mark.parametrize("element", ELEMENTS)
def test_where_the_exponent_rules_bump(element, k):
    unit, plain = power_of_two(k), k - EMAX[element]
    edge, even = MAX_OVER_POWER[element] * unit, EVEN_BUMPS_FROM[element] * unit
    for amax in (unit, edge, below(2 * unit)):
        assert exponent(amax, mx(element, "floor")) == plain
    assert exponent(even, mx(element, "even")) == plain + 1
    assert exponent(even - ulp(unit), mx(element, "even")) == plain
    for rule in ("rceil", "truncation_free", "bump", "power_of_two"):
        assert exponent(edge, mx(element, rule)) == plain
        assert exponent(edge + 4 * ulp(unit), mx(element, rule)) == plain + 1
    assert exponent(edge + ulp(unit) / 2**29, mx(element, "truncation_free")) == plain + 1  # a binary64 amax
    assert exponent(unit, mx(element, "ceil")) == plain
    assert exponent(unit + ulp(unit), mx(element, "ceil")) == plain + 1


def test_even_and_floor_at_1_75_in_e2m1():
    assert encode_block([F(7, 4)], mx("e2m1", "even")).scale == 126
    assert encode_block([F(7, 4)], mx("e2m1", "floor")).scale == 125
    assert encode_block([F(7, 4)], mx("e2m1", "floor")).codes == [7]  # 7 saturates to 6


def test_e5m2_just_below_128_rounds_past_the_maximum_and_saturates():
    block = encode_block([below(F(128))], "mxfp8_e5m2")
    assert (block.scale, block.codes) == (127 + 6 - 15, [0x7B])
    assert decoded(block, "mxfp8_e5m2") == [112]


def test_957_becomes_896_in_mxfp8():
    assert decoded(encode_block([F(957), F(1)], "mxfp8"), "mxfp8")[0] == 896


def test_mxfp4_by_hand():
    block = encode_block([F(5), F(-1, 2), F(1, 4), F(-7, 2), F(5, 2), "-0", 0], "mxfp4")
    assert block == EncodedBlock(127, [6, 9, 0, 14, 4, 8, 0])  # scale 1: 5 and 2.5 are ties, -3.5 too
    assert floats(decode_block(block, "mxfp4")).tolist() == [4, -0.5, 0, -4, 2, 0, 0]


def test_mxint8_uses_all_integers():
    assert encode_block([F(127, 64), F(-255, 128)], "mxint8") == EncodedBlock(127, [127, 128])


@pytest.mark.parametrize("rule", ["floor", "ceil", "even", "truncation_free", "project", "absmax"])
def test_edges_of_e8m0(rule):
    spec = mx("e2m1", rule)
    assert encode_block([F(0), "-0"], spec) == EncodedBlock(0, [0, 8])
    assert encode_block([power_of_two(-149)], spec).scale == 0
    for amax in ("nan", "-nan", "inf", "-inf"):
        assert encode_block([F(1), amax, F(0)], spec) == EncodedBlock(255, [7, 7, 7])
    beyond = 254 if rule in ("project", "absmax") else 255  # a projection saturates
    assert encode_block([power_of_two(200)], spec).scale == beyond
    assert decoded(encode_block(["nan", F(1)], spec), spec) == ["nan", "nan"]


def test_nan_scale_gives_nan_elements_where_there_are_some():
    assert encode_block([F(1), "inf"], "mxfp8_e4m3").codes == [0x7F, 0x7F]
    assert encode_block([F(1), "inf"], "mxfp8_e5m2").codes == [0x7E, 0x7E]
    assert encode_block([F(1), "inf"], "mxint8").codes == [0, 0]


def test_rceil_stops_at_the_ends():
    spec = get_block("mxfp8_te")
    assert encode_block([F(0)], spec).scale == 0
    assert encode_block(["inf", F(1)], spec) == EncodedBlock(254, [0x7E, 0])
    assert encode_block(["nan", "inf"], spec).scale == 255
    edge = 448 * power_of_two(-127)
    assert encode_block([edge], spec).scale == 0
    assert encode_block([edge * (1 + power_of_two(-20))], spec).scale == 1
    assert encode_block([2 * edge], spec).scale == 1
    assert encode_block([2 * edge * (1 + power_of_two(-20))], spec).scale == 2
    assert encode_block([FLT_MAX], mx("e2m1", "rceil")).scale == 127 + 126  # 6 * 2^125 is below 2^128
    assert encode_block([FLT_MAX], mx("s2f6", "rceil")).scale == 254


def test_binary32_rules_see_a_binary32_amax():
    amax = 448 + power_of_two(-30)  # nearest binary32: 448
    assert encode_block([amax], mx("e4m3", "rceil")).scale == 127
    assert encode_block([amax], mx("e4m3", "truncation_free")).scale == 128
    assert encode_block([below(F(8)) + power_of_two(-26)], mx("e2m1", "microxcaling")).scale == 128


def test_microxcaling_takes_the_logarithm_and_rounds_ties_away():
    amax = below(F(8))
    for element, by_floor in (("e4m3", 7), ("e2m1", 6)):
        block = encode_block([amax], mx(element, "microxcaling"))
        assert decoded(block, mx(element, "microxcaling")) == [8]
        assert decoded(encode_block([amax], mx(element, "floor")), mx(element, "floor")) == [by_floor]
    assert encode_block([F(4), F(5, 2), F(-1, 4)], mx("e2m1", "microxcaling")).codes == [6, 5, 9]
    assert encode_block([F(4), F(5, 2)], mx("e2m1", "microxcaling"), rounding="ties_to_even").codes == [6, 4]
    assert encode_block([F(0)], mx("e2m1", "microxcaling")).scale == 0  # 2^-126 stands in for 0
    assert encode_block([F(0)], mx("s2f6", "microxcaling")).scale == 1
    assert encode_block(["inf"], mx("e2m1", "microxcaling")).scale == 255


def test_deepgemm_clamps():
    spec = get_block("deepseek_fp8_ue8m0")
    assert encode_block([F(0)], spec) == EncodedBlock(127 - 22, [0])  # 1e-4 / 448 = 2.23e-7 < 2^-22
    assert encode_block([F(448)], spec).scale == 127
    assert encode_block([F(449)], spec).scale == 128
    assert encode_block(["inf"], spec).scale == 254
    assert encode_block(["nan"], spec) == EncodedBlock(254, [0x7F])
    assert encode_block([FLT_MAX], mx("s2f6", "deepgemm")).scale == 254


def test_power_of_two_rule_in_other_scale_formats():
    spec = get_block("block(e4m3, scale=float32, size=128, rule=power_of_two)")
    assert encode_block([F(0)], spec) == EncodedBlock(0x3F800000, [0])
    assert encode_block([F(449)], spec).scale == 0x40000000
    assert encode_block([power_of_two(-149)], spec).scale == 1  # the least power of two that binary32 has
    small = get_block("block(e2m1, scale=e4m3, size=16, rule=power_of_two)")
    assert encode_block([F(6 * 256)], small).scale == encode(F(256), "e4m3")
    assert encode_block([F(6 * 257)], small).scale == 0x7F


def test_nonfinite_options():
    values = [F(6), "nan", "-inf", F(3)]
    e2m1, e5m2 = mx("e2m1", "floor", nonfinite="propagate_elements"), mx("e5m2", "floor", nonfinite="propagate_elements")
    assert encode_block(values, e2m1) == EncodedBlock(127, [7, 7, 15, 5])
    assert encode_block(values, e5m2).codes[1:3] == [0x7E, 0xFC]
    saturating = mx("e2m1", "floor", nonfinite="saturate_inf")
    assert encode_block([F(6), "-inf"], saturating) == EncodedBlock(254, [0, 15])
    assert encode_block([F(6), "nan"], saturating).scale == 255


# ---- real scales -----------------------------------------------------------------------------------------------


def test_projection_rounds_the_exact_quotient_once():
    spec = get_block("block(e2m1, scale=e4m3, size=16)")
    assert spec.rule == "project"
    block = encode_block([F(4), F(2), F(-1, 9)], spec)  # 4/6 rounds to 11/16
    assert block == EncodedBlock(encode(F(11, 16), "e4m3"), [7, 5, 8])
    assert decoded(block, spec) == [F(33, 8), F(33, 16), "-0"]
    assert encode_block([F(1, 2**12)], spec) == EncodedBlock(0, [0])  # the scale rounds to 0
    assert encode_block([F(10**6)], spec) == EncodedBlock(0x7E, [7])
    assert encode_block(["inf"], spec) == EncodedBlock(0x7F, [7])


def test_p3109_ignores_what_is_not_finite():
    spec = get_block("block(e4m3, scale=float32, size=8, rule=p3109)")
    one = encode(F(1), "e4m3")
    assert encode_block([F(-5), "nan", "inf"], spec) == EncodedBlock(encode(F(5), "float32"), [one + 128, 0x7F, 0x7E])
    assert encode_block(["-inf", "nan"], spec) == EncodedBlock(0x7F800000, [one + 128, 0x7F])
    assert encode_block(["nan"], spec) == EncodedBlock(0x7FC00000, [0x7F])
    assert encode_block([F(0), "inf"], spec) == EncodedBlock(0, [0, 0])


def test_deepseek_by_hand():
    assert encode_block([F(448), F(-1)], "deepseek_fp8") == EncodedBlock(0x3F800000, [0x7E, 0xB8])
    smallest = np.float32(1e-4) / np.float32(448)
    assert encode_block([F(0)], "deepseek_fp8") == EncodedBlock(int(smallest.view(np.uint32)), [0])
    assert encode_block(["inf", F(1)], "deepseek_fp8") == EncodedBlock(0x7F800000, [0x7F, 0])
    assert encode_block(["nan", F(1)], "deepseek_fp8") == EncodedBlock(0x7FC00000, [0x7F, 0x7F])


def test_nf4_by_hand():
    block = encode_block([F(2), F(-2), F(0), F(1), F(101, 100)], "nf4_block")
    assert block == EncodedBlock(0x40000000, [15, 0, 7, 12, 13])  # the middle of codes 12 and 13 is at 1.00333
    assert encode_block([F(0), "-0"], "nf4_block") == EncodedBlock(0, [7, 7])
    assert encode_block([F(1), "nan"], "nf4_block") == EncodedBlock(0x7FC00000, [7, 7])
    tiny = power_of_two(-140)  # 1 / absmax overflows
    assert encode_block([tiny, -tiny / 2, F(0)], "nf4_block").codes == [15, 0, 7]


def test_nf4_double_stores_its_scales_in_int8():
    values = [F(v) for v in [1] * 64 + [-127] * 64 + [F(1, 4)] * 64]
    array = encode_whole(values, (3, 64), "nf4_double")
    assert array.scale_array is not None
    assert array.scale_array.scales == [0x3F800000]
    assert array.scale_array.codes == [1, 127, 0]
    assert floats(array.scales).tolist() == [1, 127, 0]
    assert floats(decode_array(array, (3, 64), "nf4_double"))[[0, 64, 128]].tolist() == [1, -127, 0]


def test_symmetric_integers_leave_the_lowest_out():
    assert encode_block([F(127), F(-127), F(3, 2)], "int8_tensor") == EncodedBlock(0x3F800000, [127, 129, 2])
    assert encode_block([F(7), F(-100)], with_options("int4_axis", rule="p3109")).codes == [0, 15]
    low = encode_block([F(-7), F(7)], with_options("int4_axis", scale=get_block("mxfp4").scale))
    assert low.codes == [9, 7]


def test_affine_by_hand():
    assert encode_block([F(0), F(100), F(255)], "int8_affine_tensor") == EncodedBlock(0x3F800000, [128, 228, 127], -128)
    block = encode_block([F(-255, 2), F(255, 2), F(1, 2), F(3, 2)], "int8_affine_tensor")
    assert block == EncodedBlock(0x3F800000, [128, 127, 0, 2], 0)  # -127.5 ties to -128
    assert decoded(block, "int8_affine_tensor") == [-128, 127, 0, 2]
    assert encode_block([F(5), F(10)], "int4_affine_group32") == EncodedBlock(0x3F2AAAAB, [15, 7], -8)  # -1: the scale is above 2/3
    assert encode_block([F(0), "-0"], "int8_affine_axis") == EncodedBlock(0, [0, 0], 0)
    assert encode_block([F(1), "-inf"], "int8_affine_axis") == EncodedBlock(0x7FC00000, [0, 0], 0)


# ---- NVFP4 and its relatives -----------------------------------------------------------------------------------


def test_nvfp4_by_hand():
    values = [F(2688)] + [F(0)] * 15 + [F(v) for v in (6, "1/4", "3/4", "5/4", "7/4", "5/2", "7/2", 5, -6)] + ["nan", "-0"]
    level = tensor_level(values, get_block("nvfp4"))
    assert (level.amax, level.scale) == (2688, 1)
    assert encode_block(values[:16], "nvfp4", level) == EncodedBlock(0x7E, [7] + [0] * 15)
    block = encode_block(values[16:], "nvfp4", level)
    assert block == EncodedBlock(0x38, [7, 0, 2, 2, 4, 4, 6, 6, 15, 7, 8])
    assert decoded(block, "nvfp4", level) == [6, 0, 1, 1, 2, 2, 4, 4, -6, 6, "-0"]
    assert decoded(block, "nvfp4", level, platform="transformer_engine") == decoded(block, "nvfp4", level)


def test_nvfp4_zero_blocks():
    level = tensor_level([F(0)] * 16, get_block("nvfp4"))
    assert (level.amax_code, level.scale_code) == (0, 0)
    assert encode_block([F(0), "-0"], "nvfp4", level) == EncodedBlock(0, [0, 8])
    level = tensor_level([F(10**6)], get_block("nvfp4"))
    block = encode_block([F(1, 10), F(-1, 10), F(0)], "nvfp4", level)  # the scale underflows to 0
    assert block == EncodedBlock(0, [7, 15, 0])
    assert decoded(block, "nvfp4", level) == [0, "-0", 0]


def test_nvfp4_is_numpy_in_the_same_order():
    x = np.random.default_rng(1).standard_normal((12, 16)).astype(np.float32) * np.float32(0.037)
    values = [from_float32_bits(int(bits)) for bits in x.view(np.uint32).ravel()]
    array = encode_whole(values, x.shape, "nvfp4")
    amax = np.abs(x).max()
    scale = np.float32(2688) / amax
    wanted = np.abs(x).max(axis=1) * (scale * (np.float32(1) / np.float32(6)))
    assert array.scales == [encode(F(float(w)), "e4m3fn") for w in wanted]
    s = np.array([float(value(code, "e4m3fn")) for code in array.scales], np.float32)
    scaled = x * (np.float32(1) / (s * (np.float32(1) / scale)))[:, None]
    assert array.codes == [encode(F(float(v)), "e2m1") if v else (8 if np.signbit(v) else 0) for v in scaled.ravel()]
    elements = np.array([float(F(v) if v != "-0" else 0) for v in (value(c, "e2m1") for c in array.codes)], np.float32)
    factor = s * amax * (np.float32(1) / np.float32(2688))
    in_order = floats(decode_array(array, x.shape, "nvfp4", platform="transformer_engine"))
    assert np.array_equal(in_order, elements * np.repeat(factor, 16))
    once = floats(decode_array(array, x.shape, "nvfp4"))
    exact = np.abs(once.astype(np.float64) - elements.astype(np.float64) * np.repeat(s, 16) * np.float64(array.tensor.scale))
    assert (exact <= np.spacing(np.abs(once)) / 2).all()
    assert (once != in_order).any()


def test_4over6_takes_the_better_map_and_6_where_both_are_equal():
    level = tensor_level([F(2688)], get_block("nvfp4_4over6"))
    values = [F(v) for v in (4, 3, 2, 1)]
    for name in ("nvfp4_4over6", "nvfp4_4over6_mse"):
        assert encode_block(values, name, level) == EncodedBlock(0x38, [6, 5, 4, 2])  # exact under scale 1; 6 needs 2/3
        assert encode_block([F(6), F(3)], name, level) == EncodedBlock(0x38, [7, 5])
        assert encode_block([F(0)] * 4, name, level) == EncodedBlock(0, [0] * 4)
    spec = with_options("nvfp4_4over6", rule="4over6_256")
    level = tensor_level([F(1536)], spec)
    assert level.scale == 1
    assert encode_block([F(1536)], spec, level).scale in (encode(F(256), "e4m3"), encode(F(384), "e4m3"))
    with pytest.raises(ValueError, match="no stochastic"):
        encode_block(values, "nvfp4_4over6", level, rounding="stochastic", randoms=[0] * 4)


def test_4over6_adds_the_rows_of_a_tile_as_a_tree():
    spec = with_options("nvfp4_4over6", size=(16, 16))
    values = [F(4 - (i % 7) / F(3)) for i in range(20 * 20)]
    array = encode_whole([nearest(v) for v in values], (20, 20), spec)
    assert len(array.scales) == 4
    assert [len(block.codes) for block in array.blocks] == [256, 64, 64, 16]


def test_torchao_has_a_least_scale():
    level = tensor_level([F(2688)], get_block("nvfp4_torchao"))
    assert level.scale == 1
    assert encode_block([F(1, 1024)], "nvfp4_torchao", level) == EncodedBlock(0x08, [0])
    assert encode_block([F(6), F(-1, 4)], "nvfp4_torchao", level) == EncodedBlock(0x38, [7, 8])
    assert encode_block([F(0)], "nvfp4_torchao_1level") == EncodedBlock(0x08, [0])
    assert encode_block([F(6000), F(3000)], "nvfp4_torchao_1level") == EncodedBlock(0x7E, [7, 7])


def test_modelopt_and_compressed_tensors_scales_of_zero():
    level = tensor_level([F(2688)], get_block("nvfp4_modelopt"))
    assert encode_block([F(0)], "nvfp4_modelopt", level) == EncodedBlock(0x38, [0])
    assert encode_block([F(6), F(5)], "nvfp4_modelopt", level) == EncodedBlock(0x38, [7, 6])
    spec = get_block("nvfp4_compressed_tensors")
    level = tensor_level([F(1344)], spec)
    assert level.scale == 2  # it divides
    assert encode_block([F(0)], spec, level).scale == encode(F(1, 8), "e4m3")
    block = encode_block([F(3), F(5, 4)], spec, level)
    assert block == EncodedBlock(0x38, [7, 4])
    assert decoded(block, spec, level) == [3, 1]
    assert tensor_level([F(0)], spec).scale == 1  # 2688 / 2^-126 overflows


# ---- more than one scale ---------------------------------------------------------------------------------------


def test_mx9_by_hand():
    block = encode_block([F(1), F(-3), "-0", F(7, 5), F(1, 2), F(2)], "mx9")
    assert block == EncodedBlock(128, [32, 128 + 96, 128, 90, 16, 64], None, (0, 1, 0))
    assert decoded(block, "mx9") == [1, -3, "-0", F(90, 64), F(1, 2), 2]
    assert encode_block([F(0), F(0), F(0)], "mx4") == EncodedBlock(0, [0, 0, 0], None, (1, 1))
    assert encode_block([F(1), "nan", F(1)], "mx6") == EncodedBlock(255, [0, 0, 0], None, (0, 0))


def test_mx_pairs_saturate_below_the_next_exponent():
    block = encode_block([F(4), F(0), below(F(4)), F(1)], "mx4")
    assert block == EncodedBlock(129, [2, 0, 3, 1], None, (0, 1))  # 3.99 would be 4 half-steps of 1: saturates to 3


def test_hif4_by_hand():
    block = encode_block([F(7), F(1, 8), F(-3, 2), F(0), F(1), F(-1), F(1, 2), F(1, 4)], "hif4")
    # bf16(1/7) = 146/1024; 7 * that = 255.5/256, which bf16 rounds to 1
    assert block == EncodedBlock(0xC0, [7, 0, 10, 0, 2, 10, 1, 1], None, (1, 1, 0))
    assert decoded(block, "hif4") == [7, 0, -2, 0, 1, -1, F(1, 2), F(1, 2)]
    assert encode_block([F(0)] * 9, "hif4") == EncodedBlock(0, [0] * 9, None, (0,) * 5)
    assert encode_block([F(10**9)], "hif4").scale == encode(F(49152), "hif4_scale_e6m2")
    assert encode_block([F(1), "nan"], "hif4").scale == 0xFF


def test_gguf_by_hand():
    assert encode_block([F(127), F(-5, 2), F(5, 2)], "q8_0") == EncodedBlock(0x3C00, [127, 253, 3])
    block = encode_block([F(-8), F(7, 2), F(8), F(0)], "q4_0")
    assert block == EncodedBlock(0x3C00, [0, 12, 15, 8])
    assert decoded(block, "q4_0") == [-8, 4, 7, 0]
    assert encode_block([F(8), F(-8)], "q4_0") == EncodedBlock(0xBC00, [0, 15])  # the first of the largest decides
    assert encode_block([F(0)], "q4_0") == EncodedBlock(0x8000, [8])
    assert encode_block([F(16), F(-15)], "q5_0") == EncodedBlock(0xBC00, [0, 31])
    block = encode_block([F(-1), F(14), F(3, 4)], "q4_1")
    assert block == EncodedBlock(0x3C00, [0, 15, 2], 0xBC00)
    assert decoded(block, "q4_1") == [-1, 14, 1]
    assert encode_block([F(2), F(2)], "q5_1") == EncodedBlock(0, [0, 0], 0x4000)
    with pytest.raises(ValueError, match="part of its rule"):
        encode_block([F(1)], "q8_0", rounding="toward_zero")


def test_bfp_by_hand():
    block = encode_block([F(3), F(-1, 4), F(1, 8)], "bfp(m=4, size=16)")
    assert block == EncodedBlock(128, [12, 17, 0])  # quantum 1/4, 1/8 is a tie
    assert get_block("msfp12").element == with_options("bfp(m=3, size=16)").element


# ---- arrays ----------------------------------------------------------------------------------------------------


def test_blocks_along_an_axis_have_short_tails():
    spec = get_block("block(e2m1, scale=e8m0, size=2)")
    assert scales_shape((2, 5), spec) == (2, 3)
    assert blocks_of((2, 5), spec) == [[0, 1], [2, 3], [4], [5, 6], [7, 8], [9]]
    assert scales_shape((3, 2), spec, 0) == (2, 2)
    assert blocks_of((3, 2), spec, -2) == [[0, 2], [1, 3], [4], [5]]
    assert scales_shape((2, 0), spec) == (2, 0)


def test_blocks_of_tiles_axes_tensors_and_flat_arrays():
    tile = get_block("block(e2m1, scale=e8m0, size=2x3)")
    assert scales_shape((3, 4), tile) == (2, 2)
    assert blocks_of((3, 4), tile) == [[0, 1, 2, 4, 5, 6], [3, 7], [8, 9, 10], [11]]
    assert scales_shape((2, 3, 4), tile, (0, 2)) == (1, 3, 2)
    assert blocks_of((2, 3, 4), tile, (0, 2))[0] == [0, 1, 2, 12, 13, 14]
    axis = get_block("int8_axis")
    assert (scales_shape((2, 3), axis, 0), blocks_of((2, 3), axis, 0)) == ((1, 3), [[0, 3], [1, 4], [2, 5]])
    tensor = get_block("int8_tensor")
    assert (scales_shape((2, 3), tensor), blocks_of((2, 3), tensor)) == ((1, 1), [list(range(6))])
    flat = get_block("q4_0")
    assert (scales_shape((3, 20), flat), [len(b) for b in blocks_of((3, 20), flat)]) == ((2,), [32, 28])
    for shape, given in (((), None), ((3,), None), ((3, 4), (0, -2)), ((3, 4), 1)):
        with pytest.raises(ValueError, match="axes"):
            blocks_of(shape, tile, given)


def test_a_tail_does_not_change_the_other_blocks_and_random_bits_go_by_element():
    values = [F(9, 2)] * 2 + [F(9, 2), F(3)]
    spec = get_block("block(e2m1, scale=e8m0, size=3, rule=floor)")
    codes, scales, tensor = encode_array(values, (4,), spec, rounding="stochastic_a", randoms=[2, 3, 0, 3], n=2)
    assert (codes, scales, tensor) == ([6, 7, 6, 7], [127, 126], None)


# ---- the table -------------------------------------------------------------------------------------------------


def test_every_named_format_says_where_it_comes_from_and_round_trips():
    values = [F(v, 4) for v in range(-7, 9)]
    for name, spec in load_block_formats().items():
        assert spec.source, name
        assert spec.rule in RULES
        array = encode_whole(values, (1, 16), spec)
        assert len(array.codes) == 16
        assert len(array.scales) == 1
        error = np.abs(floats(decode_array(array, (1, 16), spec)) - np.array([float(v) for v in values], np.float32))
        assert error.max() <= 0.5, name


@pytest.mark.parametrize(
    "name",
    [
        "block(e2m1)", "block(e2m1, scale=e8m0)", "block(e2m1, scale=e8m0, size=0)", "block(e2m1, scale=e8m0, size=2x2x2)",
        "block(e2m1, scale=e8m0, size=32, rule=up)", "block(e2m1, scale=e8m0, size=32, colour=red)", "bfp(m=0, size=16)",
        "block(e2m1, scale=int8, size=32, rule=floor)", "block(nf4, scale=e8m0, size=32, rule=even)", "bfp(16)", "mxfp5",
        "block(e2m1, scale=float32, size=32, rule=affine)", "block(e2m1, scale=e8m0, size=axis, flat=true)",
        "block(e2m1, scale=e4m3, size=16, rule=transformer_engine, nonfinite=saturate_inf)",
        "block(uint4, scale=float16, size=32, rule=q4_0)",
    ],
)  # fmt: skip
def test_bad_names_are_refused(name):
    with pytest.raises(ValueError):  # noqa: PT011
        get_block(name)
