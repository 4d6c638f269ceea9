"""Berkeley TestFloat's conversions: results and IEEE flags in six rounding modes, and exact widenings.

The files are output of testfloat_gen with the NaN rules of RISC-V: a NaN result is the canonical one, as ours is.
"""

from functools import lru_cache

import numpy as np
import pytest

import numfmt as nf
from tests.judges.operands import DTYPES
from tests.support import assert_same_bits

MODES = {
    "near_even": "ties_to_even", "near_maxMag": "ties_to_away", "minMag": "toward_zero", "min": "toward_negative",
    "max": "toward_positive", "odd": "to_odd",
}  # fmt: skip
NAMES = {"f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64"}
FUNCTIONS = ("f32_to_f16", "f64_to_f16", "f64_to_f32", "f32_to_bf16")
NARROWINGS = [f"{function}.{mode}" for function in FUNCTIONS for mode in MODES]
WIDENINGS = ["bf16_to_f32", "f16_to_f32", "f16_to_f64"]


@lru_cache
def cases(path):
    """Operand codes, result codes and flags of a file."""
    lines = path.read_text(encoding="ascii").splitlines()
    columns = zip(*(line.split() for line in lines), strict=True)
    return tuple(np.array([int(word, 16) for word in column], np.uint64) for column in columns)


def of(name):
    """Source, target and rounding mode that a file name says."""
    function, _, mode = name.partition(".")
    source, target = function.split("_to_")
    return NAMES[source], NAMES[target], MODES[mode or "near_even"]


@pytest.mark.parametrize("name", [*NARROWINGS, *WIDENINGS])
def test_results_and_flags_are_testfloat_s(name, golden):
    source, target, rounding = of(name)
    operands, results, flags = cases(golden("berkeley-testfloat", f"{name}.txt"))
    x = operands.astype(f"uint{8 * DTYPES[source].itemsize}").view(DTYPES[source])
    codes, raised = nf.encode(x, target, rounding=rounding, return_flags=True)
    assert_same_bits(codes, results.astype(codes.dtype), name)
    assert_same_bits(raised, flags.astype(np.uint8), f"flags of {name}")


@pytest.mark.parametrize("name", [*NARROWINGS, *WIDENINGS])
def test_converted_codes_are_those_of_encoded_floats(name, golden):
    source, target, rounding = of(name)
    operands, results, _ = cases(golden("berkeley-testfloat", f"{name}.txt"))
    codes = nf.convert(operands, source, target, rounding=rounding)
    assert_same_bits(codes, results.astype(codes.dtype), name)


@pytest.mark.parametrize("name", WIDENINGS)
def test_decoded_values_are_the_widened_ones(name, golden):
    source, target, _ = of(name)
    operands, results, _ = cases(golden("berkeley-testfloat", f"{name}.txt"))
    expected = results.astype(f"uint{8 * DTYPES[target].itemsize}").view(DTYPES[target])
    assert_same_bits(nf.decode(operands, source, dtype=DTYPES[target]), expected, name)


def test_all_27_conversion_files_are_read(golden):
    present = {path.stem for path in golden("berkeley-testfloat").glob("*_to_*.txt")}
    assert present == {*NARROWINGS, *WIDENINGS}
    assert len(present) == 27
