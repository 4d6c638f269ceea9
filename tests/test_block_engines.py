"""Block formats: the compiled loops give the bits of NumPy, whatever the layout, the threads and the chunks."""

from unittest import mock

import numpy as np
import pytest

import numfmt as nf
from numfmt import block_compiled, compiled
from numfmt._core.parameters import BINARY32
from numfmt.block_compiled import closed_form
from numfmt.named_blocks import NAMED_BLOCKS
from numfmt.scale_rules import steps_of
from tests.support import TWINS, mostly_nightly
from tests.test_blocks import MX, RULES, adversarial

numba = pytest.mark.skipif(compiled._module() is None, reason="Numba is not installed for this interpreter")
CUSTOM = [
    "block(e2m1, scale=e4m3fn, size=16)", "block(e2m1, scale=e4m3fn, size=24)", "block(int8, scale=float32, size=16)", "block(e5m2, scale=e8m0, size=20, rule=ceil)",
    "block(e4m3fn, scale=bfloat16, size=32)", "block(e2m1, scale=e8m0, size=32, rule=floor, nonfinite=saturate_inf)", "block(e5m2, scale=e8m0, size=32, rule=floor, nonfinite=propagate_elements)",
    "block(e5m10, scale=e8m0, size=32, rule=floor)", "block(e4m3fn, scale=float32, size=32, rule=power_of_two)", "block(e2m1, scale=e8m0, size=16x16, rule=even)", "block(e2m1, scale=e8m0, size=3x5, rule=even)",
    "block(e4m3fn, scale=float32, size=128, rule=deepgemm_fp32)", "bfp(m=4, size=64)", "block(e2m1, scale=ue4m3, size=axis)", "block(e4m3fn, scale=e8m0, size=axisx4, rule=floor)",
]  # fmt: skip


def bits(array):
    return np.where(np.isnan(array), np.float32(np.nan), array).view(np.uint32)


def both(function):
    """What a call gives with the compiled loops, and what without."""
    with mock.patch.object(compiled, "SMALL", 0):
        fast = function()
    with mock.patch.object(block_compiled, "block_loop", return_value=None):
        slow = function()
    return fast, slow


def assert_same(fast, slow):
    if isinstance(fast, nf.BlockArray):
        assert np.array_equal(fast.codes, slow.codes)
        assert fast.scales.tobytes() == slow.scales.tobytes() or np.array_equal(fast.scales, slow.scales, equal_nan=True)
        assert repr(fast.tensor_scale) == repr(slow.tensor_scale)
    else:
        assert fast.dtype == slow.dtype
        assert np.array_equal(bits(fast), bits(slow))


def operand(name, seed=0):
    rows = adversarial(name, 96, seed)
    more = np.random.default_rng(seed).integers(0, 2**32, (64, 96), np.uint32).view(np.float32)
    return np.concatenate([rows, more, np.random.default_rng(seed).standard_normal((65, 96)).astype(np.float32)])


@numba
@pytest.mark.parametrize("name", mostly_nightly([*NAMED_BLOCKS, *CUSTOM], set(NAMED_BLOCKS) - TWINS))
def test_loops_equal_numpy(name):
    fmt = nf.get_format(name)
    x = operand(name)
    axes = [(-2, -1), (0, 1)] if len(fmt.block) == 2 else [-1] if fmt.flat or fmt.block == () else [-1, 0]
    for axis in axes:
        for array in (x, x[:, :93], x[:333, :64].reshape(9, 37, 64)):
            fast, slow = both(lambda array=array, axis=axis: nf.encode(array, name, axis=axis))
            assert_same(fast, slow)
            assert_same(*both(lambda array=array, axis=axis: nf.quantize(array, name, axis=axis)))
            assert_same(*both(lambda q=slow: nf.decode(q)))
            assert np.array_equal(bits(nf.decode(slow)), bits(nf.quantize(array, name, axis=axis)))


@numba
@pytest.mark.parametrize("rule", mostly_nightly(RULES, ["microxcaling", "project"]))
@pytest.mark.parametrize("element", mostly_nightly(["e4m3fn", "e2m1", "s2f6"], ["e2m1"]))
def test_loops_of_rules(element, rule):
    name = f"block({element}, scale=e8m0, size=32, rule={rule})"
    x = operand(name, 1)
    assert_same(*both(lambda: nf.encode(x, name)))
    for axis in (-1, 0):
        assert_same(*both(lambda axis=axis: nf.quantize(x, name, axis=axis)))


@numba
@pytest.mark.parametrize("name", mostly_nightly(["mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e3m2"], ["mxfp8_e5m2"]))
@pytest.mark.parametrize("overflow", ["infinity", "nan", "propagate"])
@pytest.mark.parametrize("rounding", ["ties_to_even", "toward_zero", "toward_positive", "toward_negative", "to_odd"])
def test_loops_where_overflow_has_a_symbol(name, overflow, rounding):
    if overflow == "nan" and not nf.get_format(name).element.has_nan:
        return
    x = np.concatenate([operand(name, 3), np.float32([[1.9, -1.9, 1.99, -1.99] * 24])])
    for axis in (-1, 0):
        assert_same(*both(lambda axis=axis: nf.quantize(x, name, axis=axis, overflow=overflow, rounding=rounding)))


@numba
@pytest.mark.parametrize("rule", ["rule=floor, nonfinite=propagate_elements", "rule=p3109"])
@pytest.mark.parametrize("element", mostly_nightly(["e2m1", "e3m2", "e5m2", "s2f6"], ["e5m2"]))
def test_loops_where_nan_is_an_element(element, rule):
    name = f"block({element}, scale=e8m0, size=32, {rule})"
    x = np.random.default_rng(5).standard_normal((70, 64)).astype(np.float32)
    x[::3, 5] = np.nan
    x[1::3, 7] = -np.inf
    for axis in (-1, 0):
        assert_same(*both(lambda axis=axis: nf.quantize(x, name, axis=axis)))
        assert_same(*both(lambda axis=axis: nf.encode(x, name, axis=axis)))


@numba
@pytest.mark.parametrize("name", mostly_nightly(["mxfp4", "mxfp8_e5m2", "mxint8"], ["mxfp8_e5m2"]))
@pytest.mark.parametrize("options", [
    {"rounding": "toward_zero"}, {"rounding": "away_from_zero"}, {"rounding": "ties_to_away"}, {"rounding": "to_odd"}, {"rounding": "stochastic", "seed": 3},
    {"rounding": "stochastic_c", "seed": (3, 1), "random_bit_count": 5}, {"overflow": "propagate"},
])  # fmt: skip
def test_loops_of_modes(name, options):
    x = operand(name, 2)
    for axis in (-1, 0):
        assert_same(*both(lambda axis=axis: nf.encode(x, name, axis=axis, **options)))
        assert_same(*both(lambda axis=axis: nf.quantize(x, name, axis=axis, **options)))
    if "overflow" in options and name == "mxfp8_e5m2":
        assert_same(*both(lambda: nf.quantize(x, name, overflow="infinity")))


@numba
@pytest.mark.parametrize("name", ["mxfp4", "nvfp4", "nvfp4_16x16", "deepseek_fp8", "int8_tensor", "int8_axis", "q4_0", "mx6"])
@pytest.mark.parametrize("shape", [(1 << 18,), (3, 100_001), (300, 1000), (40, 50, 300)])
def test_threads_and_chunks(name, shape):
    fmt = nf.get_format(name)
    if len(shape) < len(fmt.block):
        return
    x = np.random.default_rng(4).standard_normal(shape).astype(np.float32)
    whole = nf.quantize(x, name, threads=1)
    for axis in [0, 1][: len(shape)] if len(fmt.block) == 1 and not fmt.flat else []:
        assert_same(*both(lambda axis=axis: nf.quantize(x, name, axis=axis)))
    assert_same(whole, nf.quantize(x, name, threads=2))
    with mock.patch.object(block_compiled, "CHUNK", 5000):
        assert_same(whole, nf.quantize(x, name, threads=2))
    assert_same(whole, nf.decode(nf.encode(x, name, threads=2)))


@pytest.mark.parametrize("name", [n for n in MX if n != "mxint8"] + ["mxfp8_te", "deepseek_fp8_ue8m0", "hbfp8"])
def test_rules_have_their_closed_form(name):
    """The loops need it; the form is checked against the thresholds where it is made."""
    assert closed_form(steps_of(nf.get_format(name), BINARY32)) is not None
