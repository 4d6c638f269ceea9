"""Errors of sums in units of the last place, the sums that stall, and traces."""

from fractions import Fraction

import numpy as np
import pytest

import numfmt as nf


@pytest.mark.parametrize("name", ["h100.e4m3", "a100.bf16", "fp16", "mi300.fp16", "x86.vdpbf16ps", "h100.e4m3.promote128"])
def test_errors_are_those_of_fractions(name):
    unit = nf.get_unit(name)
    rng = np.random.default_rng(3)
    a, b = (nf.quantize(rng.standard_normal((4, 160)).astype(np.float32), unit.inputs[0]) for _ in range(2))
    got, error = nf.dot(a, b, unit=unit), nf.sum_error(a, b, unit=unit)
    fmt = unit.result_format
    for row in range(4):
        exact = sum((Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a[row], b[row], strict=True)), Fraction(0))
        exact = Fraction(float(exact))  # the exact sum as float64, as documented
        exponent = max(np.frexp(float(exact))[1] - 1, -126 if fmt.bits > 16 else -14)
        ulp = Fraction(2) ** (int(exponent) - fmt.precision + 1)
        assert error[row] == float((Fraction(float(got[row])) - exact) / ulp)


def test_errors_of_blocks_and_of_what_is_no_number():
    x = np.random.default_rng(0).standard_normal((2, 64)).astype(np.float32)
    q = nf.encode(x, "mxfp8_e4m3")
    assert np.all(np.abs(nf.sum_error(q, q, unit="b200.mxfp8")) < 64)
    assert np.isnan(nf.sum_error([np.inf, 1.0], [1.0, 1.0], unit="a100.bf16"))
    with pytest.raises(ValueError, match="its sums have no last place that moves"):
        nf.sum_error([1], [1], unit="x86.vpdpbusd")


@pytest.mark.parametrize(("name", "value", "expected"), [
    ("fp16", 1.0, 2.0**11), ("fp32", 1.0, 2.0**24), ("h100.e4m3", 1.0, 2.0**14), ("h100.e4m3", 0.5, 2.0**12), ("bf16", 1.0, 2.0**8),
    ("x86.vpdpbusd", 1.0, None),
])  # fmt: skip
def test_stall_points(name, value, expected):
    assert nf.stall_point(name, value) == expected


def test_a_sum_does_stall_where_it_is_said_to():
    ones = np.ones(3000, np.float32)
    _, trace = nf.dot(ones, ones, unit="fp16", trace=True)
    assert trace.accumulator[2046:2050].tolist() == [2047.0, 2048.0, 2048.0, 2048.0]


def test_refusals_of_stall_points():
    with pytest.raises(ValueError, match=r"value 0\.0 is given; it is positive"):
        nf.stall_point("fp16", 0.0)
    with pytest.raises(ValueError, match="its compensation grows where its sum does not"):
        nf.stall_point("kahan.bf16")


def test_traces_tell_what_a_step_lost():
    """H100's FP8 keeps 13 bits below the largest exponent: beside 2^14, 1 is swamped and 3 loses a bit."""
    a = np.zeros((1, 32), np.float32)
    a[0, :3] = 1.0, 1.5, 1.0
    b = np.zeros((1, 32), np.float32)
    b[0, :3] = 1.0, 2.0, 4.0
    result, trace = nf.dot(a, b, 2.0**14, unit="h100.e4m3", trace=True)
    assert trace.exponent.tolist() == [[14]]
    assert trace.lost[0, :3].tolist() == [1, 1, 0]
    assert trace.swamped[0, :4].tolist() == [True, False, False, False]
    assert result.tolist() == [2.0**14 + 2 + 4]
    assert trace.accumulator.tolist() == [[2.0**14 + 2 + 4]]
    assert trace.swamped_share.tolist() == [1 / 32]


def test_tensor_scales_apply_to_the_result():
    x = np.random.default_rng(1).standard_normal((2, 64)).astype(np.float32)
    q = nf.encode(x, "nvfp4")
    plain = nf.BlockArray(codes=q.codes, scales=q.scales, tensor_scale=np.float32(1), format=q.format, axis=q.axis, shape=q.shape)
    expected = nf.dot(plain, plain, unit="b200.nvfp4") * q.tensor_scale * q.tensor_scale
    assert nf.dot(q, q, unit="b200.nvfp4").tobytes() == expected.tobytes()
    with pytest.raises(ValueError, match=r"c is given beside a tensor scale, .* add c afterwards"):
        nf.dot(q, q, 1.0, unit="b200.nvfp4")
