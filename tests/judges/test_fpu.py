"""The machine's own FPU: binary32 and binary64 in four rounding modes, results and exception flags.

tests/hardware/fpu.c does what IEEE 754 calls an operation, and reads the flags after each. NaNs are compared by class, but
for subtraction, division and square root: a compiler may swap the operands of the other ones.
"""

import ctypes
import platform
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

import numfmt as nf
from numfmt import arithmetic
from spec.arithmetic import compute
from tests.arithmetic_support import assert_same, each_row, stratified

SOURCE = Path(__file__).parents[1] / "hardware" / "fpu.c"
OPERATIONS = {"add": 2, "sub": 2, "mul": 2, "div": 2, "sqrt": 1, "fma": 3}
MODES = ["ties_to_even", "toward_zero", "toward_negative", "toward_positive"]
DTYPES = {"float32": np.uint32, "float64": np.uint64}
TININESS = {"x86_64": "after", "AMD64": "after", "riscv64": "after", "aarch64": "before", "arm64": "before"}
MACHINE = platform.machine()
ROWS = 100_000


@pytest.fixture(scope="module")
def fpu(tmp_path_factory):
    """The compiled library; skips where there is no compiler, or no known rule of tininess."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: install gcc to compare with the machine's FPU")
    if MACHINE not in TININESS:
        pytest.skip(f"no rule of tininess is known for the FPU of {MACHINE}")
    library = tmp_path_factory.mktemp("fpu") / "fpu.so"
    options = ["-shared", "-fPIC", "-O1", "-frounding-math", "-ffp-contract=off", "-fno-math-errno", *fused()]
    subprocess.run([compiler, *options, str(SOURCE), "-o", str(library), "-lm"], check=True)
    return ctypes.CDLL(str(library))


def fused():
    """The option that makes fma() an instruction, where the processor has it; elsewhere it is the C library's."""
    if MACHINE not in ("x86_64", "AMD64"):
        return []
    information = Path("/proc/cpuinfo")
    return ["-mfma"] if information.exists() and " fma " in information.read_text() else []


def run(library, fmt, operation, rounding, columns):
    """Results and flags of the machine."""
    dtype, size = DTYPES[fmt], columns[0].size
    three = [np.ascontiguousarray(c, dtype) for c in columns] + [np.zeros(size, dtype)] * (3 - len(columns))
    results, flags = np.empty(size, dtype), np.empty(size, np.uint8)
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (*three, results, flags)]
    function = library.binary32 if fmt == "float32" else library.binary64
    status = function(list(OPERATIONS).index(operation), MODES.index(rounding), ctypes.c_size_t(size), *pointers)
    assert status == 0, f"the machine has no rounding mode {rounding}"
    return results, flags


@lru_cache(maxsize=2)
def operands(fmt, operation, count=ROWS):
    columns = stratified(fmt, OPERATIONS[operation], count - count // 5, seed=3)
    rng, bits = np.random.default_rng(4), nf.get_format(fmt).bits
    more = [rng.integers(0, 2**bits, count // 5, dtype=np.uint64) for _ in columns]
    return [np.concatenate(pair) for pair in zip(columns, more, strict=True)]


def one_nan(codes, fmt):
    """Codes with one NaN in place of all."""
    fmt = nf.get_format(fmt)
    is_nan = (codes & codes.dtype.type(fmt.magnitude_mask)) > fmt.max_code + 1
    return np.where(is_nan, codes.dtype.type(fmt.magnitude_mask), codes)


def without_open_flag(fmt, columns, flags):
    """Flags without invalid where an infinity times zero plus a quiet NaN may or may not raise it (IEEE 754-2019, 7.2)."""
    fmt = nf.get_format(fmt)
    a, b, c = (column & np.uint64(fmt.magnitude_mask) for column in columns)
    infinity, quiet = fmt.max_code + 1, fmt.max_code + 1 + 2 ** (fmt.trailing_bits - 1)
    left_open = (((a == infinity) & (b == 0)) | ((a == 0) & (b == infinity))) & (c >= quiet)
    return np.where(left_open, flags & np.uint8(15), flags)


@pytest.mark.parametrize("rounding", MODES)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("fmt", DTYPES)
def test_results_and_flags_are_the_machine_s(fmt, operation, rounding, fpu):
    columns = operands(fmt, operation)
    results, flags = run(fpu, fmt, operation, rounding, columns)
    codes, raised = arithmetic.compute(operation, columns, fmt, rounding=rounding, tininess=TININESS[MACHINE])
    if operation == "fma":
        flags, raised = without_open_flag(fmt, columns, flags), without_open_flag(fmt, columns, raised)
    expected = one_nan(results, fmt), flags
    assert_same((one_nan(codes, fmt), raised), expected, columns, f"{fmt} {operation} {rounding}")


@pytest.mark.parametrize("rounding", MODES)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("fmt", DTYPES)
def test_the_oracle_s_are_too(fmt, operation, rounding, fpu):
    columns = [column[::499] for column in operands(fmt, operation)]
    results, flags = run(fpu, fmt, operation, rounding, columns)
    codes, raised = each_row(
        columns, lambda row: compute(operation, row, fmt, rounding=rounding, tininess=TININESS[MACHINE])
    )
    if operation == "fma":
        flags, raised = without_open_flag(fmt, columns, flags), without_open_flag(fmt, columns, raised)
    expected = one_nan(results, fmt), flags
    got = one_nan(codes.astype(results.dtype), fmt), raised
    assert_same(got, expected, columns, f"the oracle, {fmt} {operation} {rounding}")


NAN_PLATFORMS = {"x86_64": "x86.sse", "AMD64": "x86.sse", "aarch64": "arm", "arm64": "arm", "riscv64": "riscv"}


def nan_operands(fmt, count):
    """Columns of NaNs of both kinds, infinities, zeros and ones."""
    fmt = nf.get_format(fmt)
    infinity, quiet, sign = fmt.max_code + 1, 2 ** (fmt.trailing_bits - 1), 2 ** (fmt.bits - 1)
    one = fmt.bias << fmt.trailing_bits
    nans = [infinity + payload for payload in (1, quiet - 1, quiet, quiet + 5, 2 * quiet - 1)]
    codes = np.array([c + s for c in (0, one, infinity, *nans) for s in (0, sign)], np.uint64)
    return [column.reshape(-1) for column in np.meshgrid(*[codes] * count)]


@pytest.mark.parametrize("operation", ["sub", "div", "sqrt"])
@pytest.mark.parametrize("fmt", DTYPES)
def test_nans_are_those_of_the_machine(fmt, operation, fpu):
    rule = NAN_PLATFORMS.get(MACHINE)
    columns = nan_operands(fmt, OPERATIONS[operation])
    expected = run(fpu, fmt, operation, "ties_to_even", columns)
    what = f"NaNs of {rule}: {fmt} {operation}"
    assert_same(arithmetic.compute(operation, columns, fmt, platform=rule), expected, columns, what)
    judged = each_row(columns, lambda row: compute(operation, row, fmt, platform=rule))
    assert_same((judged[0].astype(np.uint64), judged[1]), expected, columns, f"the oracle, {what}")


@pytest.mark.parametrize("fmt", DTYPES)
def test_which_fma_of_a_nan_is_invalid_is_the_machine_s_rule(fmt, fpu):
    rule = NAN_PLATFORMS.get(MACHINE)
    columns = nan_operands(fmt, 3)
    _, expected = run(fpu, fmt, "fma", "ties_to_even", columns)
    _, flags = arithmetic.compute("fma", columns, fmt, platform=rule)
    _, judged = each_row(columns, lambda row: compute("fma", row, fmt, platform=rule))
    nothing = np.zeros(flags.size, np.uint8)
    assert_same((nothing, judged), (nothing, expected), columns, f"the oracle, flags of {fmt} fma under {rule}")
    assert_same((nothing, flags), (nothing, expected), columns, f"flags of {fmt} fma under {rule}")
