"""Berkeley TestFloat's arithmetic: results and IEEE flags, of the oracle and of numfmt.

The files are output of testfloat_gen with the NaN rules of RISC-V, tininess after rounding.
"""

import numpy as np
import pytest

from numfmt import arithmetic
from spec.arithmetic import compute
from tests.judges.test_testfloat import MODES, NAMES, cases

OPERATIONS = {"add": "add", "mul": "mul", "div": "div", "sqrt": "sqrt", "mulAdd": "fma"}
FILES = [
    *(f"f16_{name}.{mode}.every37" for name in ("add", "mul", "div") for mode in ("near_even", "minMag", "odd")),
    *(f"f16_sqrt.{mode}" for mode in ("near_even", "minMag", "odd")),
    "f16_mulAdd.near_even.every2003",
    *(f"f32_{name}.near_even.every53" for name in ("add", "mul", "div")),
]


def of(name):
    """Operation, format and rounding mode that a file name says."""
    function, mode, *_ = name.split(".")
    kind, _, operation = function.partition("_")
    return OPERATIONS[operation], NAMES[kind], MODES[mode]


def check_oracle(name, path, step):
    operation, fmt, rounding = of(name)
    *operands, results, flags = (column[::step].tolist() for column in cases(path))
    for *codes, result, raised in zip(*operands, results, flags, strict=True):
        got = compute(operation, codes, fmt, rounding=rounding)
        assert got == (result, raised), f"{name}: {[hex(c) for c in codes]} gives {got[0]:#x} {got[1]:#x}"


@pytest.mark.parametrize("name", FILES)
def test_the_oracle_s_results_and_flags_are_testfloat_s(name, golden):
    check_oracle(name, golden("berkeley-testfloat", f"{name}.txt"), 4)


@pytest.mark.nightly
@pytest.mark.parametrize("name", FILES)
def test_the_oracle_agrees_with_all_rows(name, golden):
    check_oracle(name, golden("berkeley-testfloat", f"{name}.txt"), 1)


@pytest.mark.parametrize("name", FILES)
def test_results_and_flags_are_testfloat_s(name, golden):
    operation, fmt, rounding = of(name)
    *operands, results, flags = cases(golden("berkeley-testfloat", f"{name}.txt"))
    codes, raised = arithmetic.compute(operation, operands, fmt, rounding=rounding)
    wrong = np.flatnonzero((codes != results) | (raised != flags))
    if wrong.size:
        i = wrong[0]
        raise AssertionError(
            f"{name}: {wrong.size} rows differ, first {[hex(c[i]) for c in operands]}: "
            f"{codes[i]:#x} {raised[i]:#x} instead of {results[i]:#x} {flags[i]:#x}"
        )


def test_all_16_arithmetic_files_are_read(golden):
    present = {path.stem for path in golden("berkeley-testfloat").glob("f*.txt") if "_to_" not in path.stem}
    assert present == set(FILES)
    assert len(present) == 16
