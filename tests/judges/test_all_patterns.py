"""Sweeps of all 2^32 float32 patterns (nightly); by default, short runs, and that their judge sees a wrong bit."""

import numpy as np
import pytest

import numfmt as nf
from tests.judges.all_patterns import CHUNK, Intervals, MlDtypes, Torch, sweep
from tests.judges.peers import need
from tests.support import assert_same_bits

SWEPT = [
    "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float6_e2m3fn", "float6_e3m2fn",
    "float4_e2m1fn", "bfloat16", "float16",
]  # fmt: skip
RUNS = [
    0, 0x007F_0000, 0x3A80_0000 - 1000, 0x43DF_FF00, 0x477F_8000, 0x7F7F_0000, 0x7FFF_FF00, 0xB8FF_F000, 0xFF7F_F000,
]  # fmt: skip
BY_TORCH = ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "bfloat16", "float16"]


def run_of_patterns(first, size=1 << 16):
    return (np.arange(size, dtype=np.uint32) + np.uint32(first)).view(np.float32)


@pytest.mark.parametrize("fmt", SWEPT)
def test_codes_are_those_of_the_intervals_between_midpoints(fmt):
    judge = Intervals(fmt)
    for first in RUNS:
        x = run_of_patterns(first)
        assert_same_bits(nf.encode(x, fmt), judge(x), f"{fmt} from {first:#x}")


@pytest.mark.parametrize("mode", ["ties_to_away", "ties_to_zero", "toward_zero"])
def test_the_judge_of_the_sweeps_sees_one_wrong_tie(mode):
    x = run_of_patterns(0x3F88_0000 - 100, 200)  # around 1 + 1/16, a tie of E4M3
    judged = Intervals("float8_e4m3fn")(x)
    wrong = nf.encode(x, "float8_e4m3fn", rounding=mode)
    assert np.count_nonzero(nf.encode(x, "float8_e4m3fn") != judged) == 0
    assert np.count_nonzero(wrong != judged) == {"ties_to_away": 1, "ties_to_zero": 0, "toward_zero": 99}[mode]


@pytest.mark.nightly
@pytest.mark.parametrize("fmt", SWEPT)
def test_all_float32_patterns_have_the_codes_of_the_intervals(fmt):
    report = sweep(fmt, Intervals(fmt))
    assert report.patterns == 2**32
    assert report.differences == 0, report.first


@pytest.mark.nightly
@pytest.mark.parametrize("fmt", BY_TORCH)
def test_all_float32_patterns_have_the_codes_of_torch(fmt):
    need("torch")
    report = sweep(fmt, Torch(fmt), nan_by_class=fmt in ("bfloat16", "float16"))
    assert report.patterns == 2**32
    assert report.differences == 0, report.first


@pytest.mark.nightly
@pytest.mark.parametrize("fmt", ["float8_e4m3fn", "float8_e8m0fnu", "bfloat16"])  # NumPy's float16 takes 7 minutes
def test_all_float32_patterns_have_the_codes_of_ml_dtypes(fmt):
    report = sweep(fmt, MlDtypes(fmt))
    assert report.patterns == 2**32
    assert report.differences == 0, report.first


def test_a_sweep_meets_every_pattern_once():
    assert 2**32 % CHUNK == 0
