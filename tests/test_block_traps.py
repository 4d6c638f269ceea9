"""Known traps of block scaling, each found in somebody's code: the docstring says where.

Expected values are worked out by hand or from the rule's definition with Python's exact integers, never by numfmt.
"""

from fractions import Fraction
from math import frexp

import ml_dtypes
import numpy as np
import pytest

import numfmt as nf
from tests.support import assert_same_bits

f32 = np.float32
ELEMENTS = {"e2m1": (2, 6), "e2m3": (2, 7.5), "e3m2": (4, 28), "e4m3fn": (8, 448), "e5m2": (15, 57344)}  # emax, max
NAN, LARGEST = 0xFF, 0xFE  # codes of E8M0


def power(rule, element="e2m1", size=32, **options):
    given = "".join(f", {name}={value}" for name, value in options.items())
    return f"block({element}, scale=e8m0, size={size}, rule={rule}{given})"


def block(*values, size=32):
    """One block that starts with these values; zeros after them."""
    x = np.zeros((1, size), f32)
    x[0, : len(values)] = values
    return x


def scale_of(x, fmt):
    """The code of the scale of an array's first block."""
    return int(nf.encode(x, fmt).scales.flat[0])


def below(x):
    return np.nextafter(f32(x), f32(0))


def floor_log2(x):
    """Of a positive real, from its exponent; math.log2 would round."""
    return frexp(float(x))[1] - 1


# ---- beside powers of two --------------------------------------------------------------------------------------


def test_amax_of_127_99999_under_floor_saturates_in_e5m2_and_does_not_become_infinity():
    """pytorch/ao #436: 127.99999 / 2^-9 rounds to 65536, beyond the largest element 57344. OCP MX 6.3 saturates."""
    q = nf.encode(block(127.99999, -127.99999), "mxfp8_e5m2")
    assert q.scales.tolist() == [[127 - 9]]
    assert q.codes[0, :2].tolist() == [0x7B, 0xFB]
    assert nf.decode(q)[0, :2].tolist() == [112.0, -112.0]


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("rule", ["floor", "ceil", "even", "rceil", "truncation_free", "power_of_two", "project", "microxcaling"])
def test_amax_just_below_every_power_of_two(rule, element):
    """scaling.md 2.1 (microxcaling): log2f of the float32 below 2^k gives k for k >= 3 and k <= -2; bit fields give k - 1."""
    emax, _ = ELEMENTS[element]
    ks = range(-125 + emax + 1, 128)
    x = np.stack([block(np.ldexp(below(1), k), size=8)[0] for k in ks])
    up = {
        "floor": lambda k: 0, "ceil": lambda k: 1, "even": lambda k: 1,
        "rceil": lambda k: 1, "truncation_free": lambda k: 1, "power_of_two": lambda k: 1,
        "project": lambda k: 0,  # amax / max is 2^(k - emax) / 1.5 … 1.875 or so, nearer to the lower power
        "microxcaling": lambda k: int(k >= 3 or k <= -2),
    }[rule]  # fmt: skip
    got = nf.encode(x, power(rule, element, 8)).scales[:, 0].tolist()
    assert got == [127 + k - 1 - emax + up(k) for k in ks]


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("rule", ["floor", "ceil", "even", "rceil", "truncation_free"])
def test_where_each_rule_takes_the_next_power(rule, element):
    """scaling.md 2.2: the amax, relative to its power of two, from which the scale doubles."""
    emax, largest = ELEMENTS[element]
    top = largest / 2**emax
    even = {"e2m1": 1.75, "e2m3": 1.9375, "e3m2": 1.875, "e4m3fn": 1.9375, "e5m2": 1.875}[element]
    for k in (-20, 0, 1, 6, 40):
        for head in (1, 1 + 2**-23, 1.5, top - 2**-22, top, top + 2**-22, even - 2**-22, even, 2 - 2**-23):
            bump = {
                "floor": False, "ceil": head > 1, "even": head >= even, "rceil": head > top, "truncation_free": head > top,
            }[rule]  # fmt: skip
            assert scale_of(block(np.ldexp(f32(head), k)), power(rule, element)) == 127 + k - emax + bump, (k, head)


@pytest.mark.parametrize("amax", [4.0, 4.5, 5.0, 5.999999, 6.0, 6.000001, 7.0, 7.9999995])
def test_the_exponent_is_that_of_amax_and_not_of_amax_over_the_largest_element(amax):
    """vllm #43557: floor(log2(amax / 6)) is one too small for amax in [4, 6): the rule is floor(log2(amax)) - 2."""
    for k in (-30, -3, 0, 10, 100):
        x = np.ldexp(f32(amax), k)
        assert scale_of(block(x), "mxfp4") == 127 + k
        assert floor_log2(Fraction(float(x)) / 6) == k - (amax < 6)


def test_a_block_of_equal_elements_just_below_a_power_of_two_clamps_as_a_whole():
    """scaling.md 2.1 and 6: 7.9999995 decodes to 6 (E2M1) or 7 (E4M3), 33 % and 12 % low; log2's error hides it."""
    x = np.full((1, 32), 7.9999995, f32)
    for fmt, value in {
        "mxfp4": 6, "mxfp8_e4m3": 7, "mxfp8_e5m2": 7, "mxfp6_e2m3": 7.5, "mxfp8_te": 8, power("rceil"): 8, power("even"): 8,
        power("microxcaling"): 8, power("microxcaling", "e4m3fn"): 8,
    }.items():  # fmt: skip
        assert (nf.quantize(x, fmt) == value).all(), fmt


def test_957_becomes_896_in_e4m3_under_floor():
    """microxcaling #4: 957 / 2 = 478.5 clamps to 448; the specification says so."""
    assert nf.quantize(block(957), "mxfp8_e4m3")[0, 0] == 896
    assert nf.quantize(block(957), "mxfp8_te")[0, 0] == 960


def test_double_rounding_through_bfloat16_does_not_cross_a_threshold():
    """ao #4725, TE #2408: float32 to bfloat16 to E8M0 loses the bit that bumps, or makes one up."""
    bumped = f32(448 * 8 * (1 + 2**-20))
    assert scale_of(block(bumped), "mxfp8_te") == 127 + 4
    assert scale_of(block(bumped).astype(ml_dtypes.bfloat16), "mxfp8_te") == 127 + 3
    ceiled = f32(2 * (1 + 2**-20))
    assert scale_of(block(ceiled), power("ceil")) == 127 + 2 - 2
    assert scale_of(block(ceiled).astype(ml_dtypes.bfloat16), power("ceil")) == 127 + 1 - 2
    not_yet = below(256)
    assert scale_of(block(not_yet), "mxfp4") == 127 + 7 - 2
    assert scale_of(block(not_yet).astype(ml_dtypes.bfloat16), "mxfp4") == 127 + 8 - 2


def test_double_rounding_of_float64_operands():
    """As above for float64: rounded to float32 first, the amax would reach the next power."""
    x = block(0).astype(np.float64)
    x[0, 0] = np.nextafter(256.0, 0)
    assert scale_of(x, "mxfp4") == 127 + 7 - 2
    assert scale_of(x.astype(f32), "mxfp4") == 127 + 8 - 2


def test_the_rule_that_is_asked_for_runs():
    """ao #3569: FLOOR ran where RCEIL was asked for; trinity #694: the rule alone moves perplexity by 1.6."""
    x = block(449)
    assert [scale_of(x, power(rule, "e4m3fn")) for rule in ("floor", "rceil", "ceil", "even")] == [127, 128, 128, 127]
    assert [scale_of(x, name) for name in ("mxfp8_e4m3", "mxfp8_te")] == [127, 128]


def test_the_exponent_of_the_largest_e2m1_is_2():
    """microxcaling forks (Kempner FORMAT_META) say 3: scales, and all clip fractions, are then off by a power of two."""
    assert scale_of(block(4), "mxfp4") == 127
    assert nf.quantize(block(4, 6, -3), "mxfp4")[0, :3].tolist() == [4, 6, -3]


def test_compressed_tensors_mxfp4_is_the_even_rule_and_not_floor():
    """scaling.md 2: half an element step is added to the block maximum; from 1.75 * 2^k upward the next power is taken."""
    for k in (-9, 0, 7):
        amaxes = np.ldexp(f32([1.75 - 2**-22, 1.75]), k)
        assert [scale_of(block(a), power("even")) - 127 + 2 - k for a in amaxes] == [0, 1]
        assert [scale_of(block(a), "mxfp4") - 127 + 2 - k for a in amaxes] == [0, 0]


# ---- codes of scales -------------------------------------------------------------------------------------------


def blocks_with_scales(codes, elements, name="mxfp4"):
    elements = np.tile(np.uint8(elements), (len(codes), 1))
    return nf.BlockArray(elements, np.uint8(codes)[:, None], None, nf.get_format(name), 1, elements.shape)


def test_scale_code_0_is_2_to_the_minus_127_and_not_zero():
    """TE #2589: the float32 0x00400000 has exponent field 0; a shift by 23 makes 0 of it."""
    values = nf.decode(blocks_with_scales([0, 1], [2, 7, 10]))
    assert values.view(np.uint32).tolist() == [[0x00400000, 0x01400000, 0x80400000], [0x00800000, 0x01C00000, 0x80800000]]
    assert nf.decode(np.uint8([0]), "e8m0").view(np.uint32).tolist() == [0x00400000]
    assert nf.quantize(block(2.0**-127, -(2.0**-127)), "mxfp4")[0, :2].view(np.uint32).tolist() == [0x00400000, 0x80400000]


@pytest.mark.parametrize("name", ["mxfp4", "mxfp6_e2m3", "mxfp8_e4m3", "mxfp8_e5m2", "mxint8"])
def test_scale_code_255_is_nan_and_not_a_power_of_two(name):
    """sglang #25519: 255 was read as a number, and NaN became infinity."""
    every = np.arange(max(32, 2 ** nf.get_format(name).element.bits)) % 2 ** nf.get_format(name).element.bits
    for elements in every.reshape(-1, 32):
        assert np.isnan(nf.decode(blocks_with_scales([NAN], elements, name))).all()


def test_the_scale_value_128_is_not_nan():
    """sglang #25519: 128 as a value, code 134, was taken for the NaN code, and a legitimate block became NaN."""
    x = block(512, -384)
    q = nf.encode(x, "mxfp4")
    assert q.scales.tolist() == [[134]]
    assert_same_bits(nf.decode(q), x)
    assert (nf.decode(np.uint8([128, 134, 255]), "e8m0")[:2] == [2, 128]).all()


def test_every_scale_code_decodes_to_its_power_of_two():
    """sglang #25519, TE #2589: all codes, with the element 1."""
    values = nf.decode(blocks_with_scales(range(255), [2]))[:, 0].astype(np.float64)
    assert values.tolist() == [2.0 ** (code - 127) for code in range(255)]


@pytest.mark.parametrize("rule", ["floor", "ceil", "even", "truncation_free", "project", "microxcaling"])
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_nan_and_infinity_make_the_scale_nan(rule, bad):
    """scaling.md 3: microxcaling's NaN restore compares with == NaN and never fires; torchao 0.18 takes infinity's exponent."""
    x = block(1, bad, 2)
    q = nf.encode(x, power(rule))
    assert q.scales.tolist() == [[NAN]]
    assert np.isnan(nf.decode(q)).all()


@pytest.mark.parametrize(("rule", "infinite", "nan"), [("rceil", LARGEST, NAN), ("deepgemm", LARGEST, LARGEST)])
def test_nan_and_infinity_under_rules_that_stop_at_the_largest_scale(rule, infinite, nan):
    """scaling.md 2: TransformerEngine gives 0xFE for infinity, 0xFF for NaN; DeepGEMM clamps to 1 … 254."""
    assert scale_of(block(1, -np.inf), power(rule, "e4m3fn")) == infinite
    assert scale_of(block(1, np.nan), power(rule, "e4m3fn")) == nan


def test_a_nan_in_one_block_leaves_the_others_alone():
    """gfloat raises for the whole array, TransformerEngine's tensor amax ignores NaN."""
    x = np.random.default_rng(0).standard_normal((3, 64)).astype(f32)
    y = x.copy()
    y[1, 40] = np.nan
    same = np.ones((3, 2), bool)
    same[1, 1] = False
    for name in ("mxfp4", "mxfp8_te", "mxint8", "mx9", "int4_group32"):
        p, q = nf.encode(x, name), nf.encode(y, name)
        kept = np.repeat(same, p.scales.shape[1] // 2, axis=1)
        if name == "mx9":
            kept = np.ones((3, 4), bool)
            kept[1, 2] = False
        assert_same_bits(p.scales[kept], q.scales[kept], name)
        assert_same_bits(nf.decode(p)[np.repeat(kept, 64 // kept.shape[1], axis=1)], nf.decode(q)[np.repeat(kept, 64 // kept.shape[1], axis=1)])


def test_scales_clamp_at_the_lower_end():
    """scaling.md 6: an exponent below -127 is code 0 (torchao, microxcaling), and does not wrap."""
    for exponent in range(-149, -124):
        assert scale_of(block(np.ldexp(f32(1), exponent)), "mxfp4") == max(exponent - 2 + 127, 0)


def test_a_tiny_amax_does_not_wrap_the_exponent():
    """GGUF's MXFP4 (gguf 0.19.0): the exponent of 1e-40, -8 after the bias, is cast to uint8: code 248."""
    assert scale_of(block(1e-40), "mxfp4") == 0
    assert nf.quantize(block(2.0**-128, -1.5 * 2.0**-127), "mxfp4")[0, :2].tolist() == [2.0**-128, -1.5 * 2.0**-127]


def test_scales_clamp_at_the_upper_end():
    """scaling.md 6: an exponent above 127 is NaN (torchao); TransformerEngine stops at 0xFE."""
    x = block(1).astype(np.float64)
    for amax, floor, rceil in ((2.0**129, 254, 254), (2.0**130, 255, 254), (1e300, 255, 254)):
        x[0, 0] = amax
        assert scale_of(x, "mxfp4") == floor
        assert scale_of(x, power("rceil")) == rceil
    assert scale_of(block(3.4028235e38), power("rceil", "s2f6")) == LARGEST


def test_deepgemm_never_gives_the_codes_0_and_255():
    """DeepGEMM utils/math.py: bytes are clamped to 1 … 254, amax to 1e-4 at least: 1e-4 / 448 lies below 2^-22."""
    assert 2.0**-23 < 1e-4 / 448 < 2.0**-22
    assert [scale_of(block(v, size=128), "deepseek_fp8_ue8m0") for v in (0, 1e-45, 1e-4, np.inf, np.nan)] == [105, 105, 105, 254, 254]


def test_the_block_that_holds_the_largest_element_of_the_tensor_has_the_scale_448():
    """JAX's fallback reduces to an IEEE-like E4M3, whose 448 is NaN; NVFP4's block scales reach 448 by construction."""
    rng = np.random.default_rng(1)
    for name in ("nvfp4", "nvfp4_torchao", "nvfp4_modelopt", "nvfp4_compressed_tensors"):
        for _ in range(20):
            x = (rng.standard_normal((8, 16)) * 10.0 ** rng.integers(-20, 20)).astype(f32)
            q = nf.encode(x, name)
            row = np.abs(x).max(axis=1).argmax()
            assert q.scales[row, 0] == 0x7E
            assert np.isfinite(nf.decode(q)).all()


def test_a_zero_amax_is_never_cast_to_e8m0():
    """ml_dtypes 0.6.0: the E8M0 of 0.0 is NaN. A block of zeros is code 0 (torchao, TransformerEngine), all zeros."""
    zero = np.zeros((2, 32), f32)
    for rule in ("floor", "ceil", "even", "rceil", "truncation_free", "project", "p3109"):
        q = nf.encode(zero, power(rule))
        assert q.scales.tolist() == [[0], [0]], rule
        assert_same_bits(nf.decode(q), zero)
    assert scale_of(zero, power("microxcaling")) == 0  # 2^-126 stands in for zero, 2^-128 is clamped


@pytest.mark.parametrize("name", ["nvfp4", "nvfp4_4over6", "nvfp4_torchao_1level", "nvfp4_compressed_tensors", "deepseek_fp8", "int8_tensor",
                                  "int8_affine_axis", "nf4_block", "q8_0", "q4_1", "mx9", "hif4", "flexpoint", "block(e2m1, scale=e4m3fn, size=16)"])  # fmt: skip
def test_blocks_of_zeros_decode_to_zeros(name):
    """scaling.md 6: a zero amax divides 0 by 0, or by a zero scale."""
    assert (nf.quantize(np.zeros((4, 64), f32), name) == 0).all()
    x = np.zeros((4, 64), f32)
    x[0, 0] = 1
    assert (nf.quantize(x, name)[1:] == 0).all()


def test_minus_zero_keeps_its_sign():
    """GGUF's argmin and a sign taken as x < 0 (ModelOpt) lose it."""
    x = block(1, -0.0, 0.0, -1e-9)
    for name in ("mxfp4", "mxfp6_e3m2", "mxfp8_e4m3", "mxfp8_e5m2", "nvfp4", "deepseek_fp8", "mx9", "hif4"):
        assert np.signbit(nf.quantize(x, name)[0, 1:4]).tolist() == [True, False, True], name
    minus = nf.encode(np.full((1, 32), -0.0, f32), "mxfp4")
    assert minus.scales.tolist() == [[0]]
    assert np.signbit(nf.decode(minus)).all()


# ---- real scales and tensor scales -----------------------------------------------------------------------------


@pytest.mark.parametrize("magnitude", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("name", ["nvfp4", "nvfp4_torchao", "nvfp4_modelopt", "nvfp4_compressed_tensors", "nvfp4_4over6"])
def test_the_magnitude_of_a_tensor_does_not_matter_to_two_levels_of_scales(name, magnitude):
    """scaling.md 4.2: N(0, 1) * 1e-3 and * 1e4 through NVFP4."""
    x = np.random.default_rng(0).standard_normal((256, 64)).astype(f32)
    error = nf.quantize(x * f32(magnitude), name) / f32(magnitude) - x
    assert 0.07 < np.linalg.norm(error) / np.linalg.norm(x) < 0.1
    scaled = nf.encode(x * f32(2.0 ** round(np.log2(magnitude))), name)
    plain = nf.encode(x, name)
    assert_same_bits(scaled.codes, plain.codes)  # powers of two move the tensor scale alone
    assert_same_bits(scaled.scales, plain.scales)


def test_one_level_of_e4m3_scales_loses_small_tensors_and_clips_large_ones():
    """qwix calls E4M3(amax / 6) nvfp4: N(0, 1) * 1e-3 becomes all zero, * 1e4 is 80 % off."""
    x = np.random.default_rng(0).standard_normal((256, 64)).astype(f32)
    one_level = "block(e2m1, scale=e4m3fn, size=16)"
    assert not nf.quantize(x * f32(1e-3), one_level).any()
    large = nf.quantize(x * f32(1e4), one_level)
    assert np.abs(large).max() == 6 * 448
    assert 0.75 < np.linalg.norm(large - x * f32(1e4)) / np.linalg.norm(x * f32(1e4)) < 0.85


@pytest.mark.parametrize("amax", [1e-45, 1e-44, 1e-40, 1.1754944e-38, 7.9e-36, 1e-30])
@pytest.mark.parametrize("name", ["nvfp4", "nvfp4_4over6", "nvfp4_compressed_tensors", "deepseek_fp8", "int8_axis", "int8_group128", "int4_affine_group32",
                                  "nf4_block", "fp4_block", "q8_0", "mx9", "hif4", "block(e4m3fn, scale=float32, size=16)"])  # fmt: skip
def test_a_tiny_amax_overflows_no_reciprocal(name, amax):
    """TensorLib #99: fpmax / amax is infinite below 1e-36 or so, and 0 * infinity is NaN."""
    x = np.random.default_rng(2).uniform(-amax, amax, (3, 128)).astype(f32)
    x[:, 0], x[:, 1] = amax, 0
    y = nf.quantize(x, name)
    assert np.isfinite(y).all()
    assert np.abs(y).max() <= 2 * np.abs(x).max()


@pytest.mark.parametrize("name", ["int8_axis", "int4_group32", "block(e4m3fn, scale=float32, size=16)", "mxfp4", "nvfp4", "deepseek_fp8", "mx9"])
def test_the_largest_float32_does_not_overflow(name):
    """scaling.md 1: implementation-defined in OCP MX; here nothing finite becomes infinite but by the last rounding."""
    x = block(3.4028235e38, -3.4028235e38, 1e38)
    y = nf.quantize(x, name)
    assert not np.isnan(y).any()
    assert (np.abs(y[0, :2]) >= 2.5e38).all()
    assert 0.8e38 <= y[0, 2] <= 1.2e38


def test_elements_of_a_scale_that_rounds_to_zero_decode_to_zero():
    """scaling.md 4.1: s_b = 0 gives an inverse of FLT_MAX: non-zero elements are coded as 6, and decode to 0."""
    x = np.zeros((2, 16), f32)
    x[0, 0], x[1, :3] = 1, (1e-8, -1e-8, 0)
    q = nf.encode(x, "nvfp4")
    assert q.scales.tolist() == [[0x7E], [0]]
    assert q.codes[1, :3].tolist() == [7, 15, 0]
    assert (nf.decode(q)[1] == 0).all()


def test_dequantizing_in_another_order_differs_in_the_last_bit():
    """scaling.md 4.1: TransformerEngine's float32 order differs from the exact product in about a third of the values."""
    x = np.random.default_rng(3).standard_normal((64, 64)).astype(f32)
    q = nf.encode(x, "nvfp4")
    exact, theirs = nf.decode(q), nf.decode(q, platform="transformer_engine")
    ulps = np.abs(exact.view(np.int32) - theirs.view(np.int32))
    assert 0.1 < (ulps > 0).mean() < 0.6
    assert ulps.max() <= 2


def test_weights_in_square_tiles_are_the_same_for_both_products():
    """recipes.md 4: 1 x 16 blocks of a weight and of its transpose differ by the chain rule; 16 x 16 tiles do not."""
    w = np.random.default_rng(4).standard_normal((64, 48)).astype(f32)
    assert_same_bits(nf.quantize(w.T, "nvfp4_16x16"), nf.quantize(w, "nvfp4_16x16").T)
    assert (nf.quantize(w.T, "nvfp4") != nf.quantize(w, "nvfp4").T).mean() > 0.1


# ---- how blocks lie --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mxfp4", "mxfp8_e4m3", "mx9", "int4_group32", "hif4", "deepseek_fp8", "int4_affine_group32"])
def test_blocks_do_not_straddle_rows(name):
    """DeepWok/mase #321: rows that are no multiple of the block shared scales."""
    x = (np.random.default_rng(5).standard_normal((4, 40)) * [[1], [1e3], [1e-3], [1]]).astype(f32)
    whole = nf.encode(x, name)
    for i in range(4):
        row = nf.encode(x[i], name)
        assert_same_bits(whole.scales[i], row.scales)
        assert_same_bits(whole.codes[i], row.codes)
        assert_same_bits(nf.decode(whole)[i], nf.decode(row))


@pytest.mark.parametrize("rule", ["floor", "ceil", "even", "rceil", "truncation_free"])
@pytest.mark.parametrize("element", ELEMENTS)
def test_quantizing_twice_changes_nothing(rule, element):
    """DeepWok/mase #321: its quantizer was not idempotent; jax-scalify #60: scales that are no powers of two accumulate error."""
    x = np.random.default_rng(6).standard_normal((50, 64)).astype(f32)
    once = nf.quantize(x, power(rule, element))
    assert_same_bits(nf.quantize(once, power(rule, element)), once)


SHORT = ["mxfp4", "mxfp8_te", "mxint8", "mx9", "int4_group32", "int4_affine_group32", "deepseek_fp8_ue8m0", "nvfp4_torchao_1level",
         power("p3109"), power("microxcaling"), "q8_0", "q4_0", "q5_0", "nf4_block", "hif4"]  # fmt: skip


@pytest.mark.parametrize("name", SHORT)
def test_a_tail_changes_no_other_block(name):
    """scaling.md 6: the last block may be shorter; what it holds is its own affair."""
    rng = np.random.default_rng(7)
    k = nf.get_format(name).elements_per_block
    x = rng.standard_normal(2 * k + k // 2 + 1).astype(f32)
    y = x.copy()
    y[2 * k :] = rng.standard_normal(y.size - 2 * k) * 1e6
    p, q = nf.encode(x, name), nf.encode(y, name)
    assert_same_bits(p.scales[:2], q.scales[:2])
    assert_same_bits(p.codes[: 2 * k], q.codes[: 2 * k])
    assert_same_bits(nf.decode(p)[: 2 * k], nf.decode(q)[: 2 * k])
    tail = nf.encode(x[2 * k :], name)
    assert_same_bits(p.scales[2:], tail.scales)
    assert_same_bits(p.codes[2 * k :], tail.codes)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", [
    *SHORT, "q4_1", "q5_1",
])  # fmt: skip
def test_padding_never_enters_a_block(name, sign):
    """scaling.md 6 (microxcaling pads with zeros): a tail of elements far from zero is as one that is repeated to full length."""
    k = nf.get_format(name).elements_per_block
    tail = (sign * np.random.default_rng(8).uniform(5, 6, 4)).astype(f32)
    short, full = nf.encode(tail, name), nf.encode(np.tile(tail, k // 4), name)
    assert_same_bits(short.scales, full.scales)
    assert_same_bits(short.codes, full.codes[:4])
    assert_same_bits(nf.decode(short), nf.decode(full)[:4])


@pytest.mark.parametrize("axis", [0, 1])
def test_blocks_lie_along_the_contraction_axis(axis):
    """scaling.md 6: the block axis differs between forward, dgrad and wgrad; one scaling does not serve both operands."""
    x = (np.random.default_rng(9).standard_normal((64, 64)) * np.exp2(np.arange(64) % 7)).astype(f32)
    q = nf.encode(x, "mxfp4", axis=axis)
    assert q.scales.shape == ((2, 64) if axis == 0 else (64, 2))
    slices = [np.take(x, range(32 * i, 32 * i + 32), axis=axis) for i in range(2)]
    expected = np.stack([np.abs(s).max(axis=axis) for s in slices], axis=axis)
    assert q.scales.tolist() == (np.frexp(expected)[1] - 1 - 2 + 127).tolist()


# ---- elements --------------------------------------------------------------------------------------------------


def test_ties_of_elements_go_to_the_even_code():
    """aiter #3992 (away became even, to match gfx950), mlx #4353: 0.25, 0.75 … of E2M1 and its subnormal tie."""
    ties = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5]
    even = [0, 1, 1, 2, 2, 4, 4]
    for sign in (1, -1):
        y = nf.quantize(block(6, *(sign * t for t in ties)), "mxfp4")[0, 1:8]
        assert y.tolist() == [sign * v for v in even]


def test_microxcaling_rounds_ties_away():
    """scaling.md 3: its 'nearest' is half away from zero; the others round to even."""
    ties = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5]
    y = nf.quantize(block(6, *ties), power("microxcaling"))[0, 1:8]
    assert y.tolist() == [0.5, 1, 1.5, 2, 3, 4, 6]
    assert nf.quantize(block(6, *ties), power("microxcaling"))[0, 0] == 6


def test_a_subnormal_element_is_not_rounded_through_the_normal_grid():
    """aiter #974: 0.625 of E2M1 (0.5 or 1, with a subnormal step of 0.5) is 0.5, 0.25 + 1 ulp is 0.5."""
    y = nf.quantize(block(4, 0.625, np.nextafter(f32(0.25), f32(1)), 0.25), "mxfp4")
    assert y[0, 1:4].tolist() == [0.5, 0.5, 0.0]


def test_half_a_step_above_the_largest_element_still_rounds_to_it():
    """scaling.md 2.2: 'saturates' and 'lies in the last bin' differ: 6.9 saturates, and so would it under rounding alone."""
    assert nf.quantize(block(6.9, 7.9, 6.0), "mxfp4")[0, :3].tolist() == [6, 6, 6]


NF4 = [-1, -.6961928009986877, -.5250730514526367, -.39491748809814453, -.28444138169288635, -.18477343022823334, -.09105003625154495, 0,
       .07958029955625534, .16093020141124725, .24611230194568634, .33791524171829224, .44070982933044434, .5626170039176941,
       .7229568362236023, 1]  # fmt: skip
THRESHOLDS = [-.8480964004993439, -.6106329262256622, -.4599952697753906, -.33967943489551544, -.23460740596055984, -.13791173323988914,
              -.045525018125772476, .03979014977812767, .1202552504837513, .2035212516784668, .2920137718319893, .3893125355243683,
              .5016634166240692, .6427869200706482, .8614784181118011]  # fmt: skip


def test_nf4_takes_the_nearest_value_beside_bitsandbytes_thresholds():
    """formats.md 5: 9 of its 15 float32 thresholds are not the exact midpoints of the float32 values."""
    values = [Fraction(float(f32(v))) for v in NF4]
    t = f32(THRESHOLDS)
    x = np.concatenate([t, np.nextafter(t, f32(-1)), np.nextafter(t, f32(1)), f32([1])])
    for v, code in zip(x.tolist(), nf.encode(x, "nf4_block").codes.tolist(), strict=True):
        distances = [abs(Fraction(v) - value) for value in values]
        assert distances[code] == min(distances)


def test_bitsandbytes_gives_its_thresholds_the_lower_code():
    """bitsandbytes csrc/kernels.cu: strict > against float32 thresholds; formats.md 5."""
    x = np.concatenate([f32(THRESHOLDS), f32([1])])
    assert nf.encode(x, "nf4_block", platform="bitsandbytes").codes.tolist() == [*range(15), 15]


def test_bitsandbytes_multiplies_by_the_reciprocal():
    """x * fl32(1 / absmax) is not x / absmax beside the thresholds (bitsandbytes csrc/kernels.cu, functional.py)."""
    rng = np.random.default_rng(10)
    amax = rng.uniform(1, 2, 2000).astype(f32)
    x = np.zeros((2000, 64), f32)
    x[:, 0] = amax
    x[:, 1:16] = amax[:, None] * f32(THRESHOLDS)
    expected = nearest_in_nf4(x * (f32(1) / amax)[:, None])
    assert_same_bits(nf.encode(x, "nf4_block").codes, expected)
    assert (nearest_in_nf4(x / amax[:, None]) != expected).any()


def nearest_in_nf4(y):
    """Codes of the nearest values; the even one of two that are as near."""
    distances = np.abs(y.astype(np.float64)[..., None] - f32(NF4).astype(np.float64))
    low = distances.argmin(axis=-1)
    high = 15 - distances[..., ::-1].argmin(axis=-1)
    return np.where(low % 2 == 0, low, high).astype(np.uint8)


def test_signalling_nans_raise_no_warning():
    """NumPy warns when one is cast to float64; nothing here raises because of values."""
    x = block(1)
    x.view(np.uint32)[0, 3] = 0x7F800001
    for name in ("mxfp4", "nvfp4", "int8_affine_axis", "deepseek_fp8", "q8_0", "nf4_block", "mx9", "hif4", "mxfp8_te", power("p3109")):
        with np.errstate(all="raise"):
            nf.decode(nf.encode(x, name, threads=1), threads=1)
