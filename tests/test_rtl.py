"""Vectors at work in a simulator: an FP8 multiplier and an MX dot product in Verilog, right ones and ones with planted bugs.

The designs and testbenches are in tests/rtl; without Icarus Verilog (apt-get install iverilog) the tests are skipped.
"""

import random
import re
import shutil
import subprocess
from fractions import Fraction
from functools import cache, lru_cache
from pathlib import Path

import pytest

from numfmt import vectors
from spec import oracle
from tests.support import mostly_nightly

RTL = Path(__file__).resolve().parent / "rtl"

# What the checker calls each bug: the one cause that explains most of its rows.
MULTIPLIER_BUGS = {
    "WRONG_TIE": "wrong tie",
    "TIE_TO_ZERO": "wrong tie",
    "LOST_STICKY": "missing sticky",
    "LOST_SHIFTED_STICKY": "missing sticky",
    "DOUBLE_ROUNDING": "double rounding",
    "FLUSH_OPERAND": "flushed subnormal",
    "FLUSH_RESULT": "flushed subnormal",
    "SIGN_OF_ZERO": "sign of zero",
    "SATURATION": "saturation",
    "LOST_CARRY": "wrong rounding direction",
    "NAN_BITS": "NaN bits",
    "TININESS": "flags only",
    "TRUNCATION": "wrong rounding direction",
}
DOT_BUGS = {
    "WRONG_TIE": "wrong tie",
    "LOST_STICKY": "missing sticky",
    "FLUSH_OPERAND": "flushed subnormal",
    "FLUSH_RESULT": "flushed subnormal",
    "SIGN_OF_ZERO": "sign of zero",
    "SATURATION": "saturation",
    "DOUBLE_ROUNDING": "double rounding",
    "NARROW_ACCUMULATOR": "other",
    "TRUNCATION": "wrong rounding direction",
    "SCALE_NAN": "number instead of NaN",
}
# Where a format's vectors cannot tell a bug from a simpler one that does the same to every row.
ALIKE = {
    ("SATURATION", "e4m3fn_mul"): "overflow",  # this format saturates: the bug is that it does not
    ("LOST_CARRY", "e5m2_mul"): "wrong tie",  # of products of 3 digits, only a tie carries: 1.25 × 1.5
    ("LOST_SHIFTED_STICKY", "e5m2_mul"): "flushed subnormal",  # only the least subnormal is lost
    ("DOUBLE_ROUNDING", "e5m2_mul"): "missing sticky",
}
MULTIPLIERS = {
    "e4m3fn_mul": {"E5M2": 0, "SATURATE": 1},
    "e5m2_mul": {"E5M2": 1, "SATURATE": 0},
}
DOTS = {
    "mxfp8_e4m3_dot8": {"FP4": 0, "L": 8},
    "mxfp4_dot8": {"FP4": 1, "L": 8},
    "mxfp8_e4m3_dot32": {"FP4": 0, "L": 32},
    "mxfp4_dot32": {"FP4": 1, "L": 32},
}


@pytest.fixture(scope="module")
def simulate(tmp_path_factory):
    """Compiles a design with a testbench and its parameters, once each, and runs it."""
    if not (shutil.which("iverilog") and shutil.which("vvp")):
        pytest.skip("no Icarus Verilog; apt-get install iverilog")
    folder = tmp_path_factory.mktemp("rtl")

    @cache
    def compiled(design, testbench, parameters):
        top = f"tb_{design}_{testbench}"
        path = folder / "_".join([top, *(str(value) for _, value in parameters)])
        given = [f"-P{top}.{name}=" + (f'"{v}"' if isinstance(v, str) else str(v)) for name, v in parameters]
        files = [RTL / f"{design}.v", RTL / f"{top}.v"]
        command = ["iverilog", "-g2012", "-Wall", "-o", path, f"-s{top}", *given, *files]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return path

    def run(design, testbench, parameters, *arguments):
        program = compiled(design, testbench, tuple(parameters.items()))
        command = ["vvp", "-n", program, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)

    return run


def design_of(function):
    return ("fp8_mul", MULTIPLIERS[function]) if function in MULTIPLIERS else ("mx_dot", DOTS[function])


def answers(simulate, function, file, bug, out):
    """The file of what a device with a planted bug answers to a file of vectors."""
    design, parameters = design_of(function)
    done = simulate(design, "fscanf", {**parameters, "BUG": bug}, f"+vectors={file}", f"+answers={out}")
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def directed(tmp_path_factory):
    """Files of directed vectors by function, level and syntax, written once."""
    folder = tmp_path_factory.mktemp("vectors")

    @cache
    def write(function, level, extension="txt"):
        path = folder / f"{function}.{level}.{extension}"
        vectors.write(path, function, style="directed", level=level)
        return path

    return write


# The designs are right


@lru_cache
def encoded(value, fmt, overflow):
    return oracle.encode_flags(value, fmt, "ties_to_even", overflow)


def product(a, b, fmt, overflow):
    """Code and flags of the product of two codes."""
    x, y = oracle.value(a, fmt), oracle.value(b, fmt)
    sign = "-" * ((a ^ b) >> 7)
    if "nan" in (x, y):
        signaling = fmt == "e5m2" and any(c & 0x7F > 0x7C and not c & 2 for c in (a, b))
        return encoded("nan", fmt, overflow)[0], 16 * signaling
    zero, infinite = ({0, "-0"} & {x, y}), ({"inf", "-inf"} & {x, y})
    if infinite:
        return (encoded("nan", fmt, overflow)[0], 16) if zero else encoded(f"{sign}inf", fmt, overflow)
    return encoded(f"{sign}0" if sign else Fraction(0), fmt, overflow) if zero else encoded(x * y, fmt, overflow)


@pytest.mark.parametrize(
    ("fmt", "overflow"),
    mostly_nightly(
        [("e4m3fn", "saturate"), ("e4m3fn", "nan"), ("e5m2", "infinity"), ("e5m2", "saturate")],
        [("e4m3fn", "nan"), ("e5m2", "infinity")],
    ),
)
def test_multiplier_is_the_oracle_for_all_pairs(simulate, tmp_path, fmt, overflow):
    file = tmp_path / "all.mem"
    rows = ((a, b, *product(a, b, fmt, overflow)) for a in range(256) for b in range(256))
    file.write_text("\n".join(bytes(row).hex() for row in rows))
    parameters = {"E5M2": int(fmt == "e5m2"), "SATURATE": int(overflow == "saturate"), "ROWS": 65536}
    done = simulate("fp8_mul", "readmemh", parameters, f"+vectors={file}")
    assert done.stdout == "PASS: 65536 rows\n"
    assert done.returncode == 0


def dot(a, scale_a, b, scale_b, fmt):
    """Code and flags in binary32 of the dot product of two blocks."""
    products = [(oracle.value(x, fmt), oracle.value(y, fmt)) for x, y in zip(a, b, strict=True)]
    if 255 in (scale_a, scale_b) or any("nan" in pair for pair in products):
        return 0x7FC00000, 0
    sign = 128 if fmt == "float8_e4m3fn" else 8
    if all({0, "-0"} & {*pair} for pair in products) and all((x ^ y) & sign for x, y in zip(a, b, strict=True)):
        return 0x80000000, 0
    total = sum((x * y for x, y in products if "-0" not in (x, y)), Fraction(0))
    return oracle.encode_flags(total * Fraction(2) ** (scale_a + scale_b - 254), "float32")


def blocks(bits, size, count):
    """Rows of two blocks: any codes, small ones, few that are not zero; results in the middle and at both ends."""
    choose = random.Random(754)
    sign = 1 << bits - 1
    for last in (0, sign):  # every product is -0, or all but one
        yield [0] * size, 127, [sign] * (size - 1) + [last], 127
    for _ in range(count):
        pool = choose.choice([range(2 * sign), [0, sign, 1, sign + 1, sign - 2], [0] * 8 + [*range(1, sign - 1)]])
        a, b = ([choose.choice(pool) for _ in range(size)] for _ in "ab")
        if bits == 8 and choose.random() < 0.95:  # no NaN
            a, b = ([code - (code % sign == sign - 1) for code in codes] for codes in (a, b))
        total = choose.choice([254, 105, 128, 123, 87, 372, 382, choose.randrange(511)]) + choose.randrange(-12, 12)
        total = min(max(total, 0), 510)
        scale_a = choose.randrange(max(0, total - 255), min(255, total) + 1)
        yield a, scale_a, b, total - scale_a


@pytest.mark.parametrize("function", DOTS)
def test_dot_product_is_exact_and_rounded_once(simulate, tmp_path, function):
    fp4, size = DOTS[function].values()
    fmt, digits = ("float4_e2m1fn", 1) if fp4 else ("float8_e4m3fn", 2)
    file = tmp_path / "blocks.mem"
    lines = []
    for a, scale_a, b, scale_b in blocks(4 * digits, size, 1000):
        words = ["".join(f"{code:0{digits}x}" for code in codes) for codes in (a, b)]
        result, flags = dot(a, scale_a, b, scale_b, fmt)
        lines.append(f"{words[0]}_{scale_a:02x}_{words[1]}_{scale_b:02x}_{result:08x}_{flags:02x}")
    assert {line[-2:] for line in lines} >= {"00", "03", "05"}
    file.write_text("\n".join(lines))
    done = simulate("mx_dot", "readmemh", {**DOTS[function], "ROWS": len(lines)}, f"+vectors={file}")
    assert done.stdout == f"PASS: {len(lines)} rows\n"


# Vectors find the bugs, and the checker names them


@pytest.mark.parametrize("function", mostly_nightly([*MULTIPLIERS, *DOTS], MULTIPLIERS))
def test_right_design_passes_directed_vectors_of_level_2(simulate, directed, tmp_path, function):
    out = answers(simulate, function, directed(function, 2), "NONE", tmp_path / "answers.txt")
    report = vectors.check(out, manifest=f"{directed(function, 2)}.json", nan="bits")
    assert report.rows > 1000
    assert report.mismatches == 0, report.examples[0]


def named(report):
    """The cause that explains most mismatches; where none explains two, the most frequent one."""
    return report.common.partition(":")[0].partition(" is the cause")[0] or report.causes.most_common(1)[0][0]


def is_found(simulate, directed, folder, function, bug, cause):
    cause = ALIKE.get((bug, function), cause)
    out = answers(simulate, function, directed(function, 1), bug, folder / "answers.txt")
    manifest = f"{directed(function, 1)}.json"
    report = vectors.check(out, manifest=manifest, nan="bits" if cause == "NaN bits" else "class")
    assert report.mismatches > 0
    assert named(report) == cause, (report.common, report.causes)


@pytest.mark.parametrize("function", MULTIPLIERS)
@pytest.mark.parametrize(("bug", "cause"), MULTIPLIER_BUGS.items())
def test_planted_bug_of_the_multiplier_is_found_and_named(simulate, directed, tmp_path, function, bug, cause):
    is_found(simulate, directed, tmp_path, function, bug, cause)


@pytest.mark.parametrize("function", mostly_nightly(DOTS, ["mxfp8_e4m3_dot8"]))
@pytest.mark.parametrize(("bug", "cause"), DOT_BUGS.items())
def test_planted_bug_of_the_dot_product_is_found_and_named(simulate, directed, tmp_path, function, bug, cause):
    if function.startswith("mxfp4") and bug == "DOUBLE_ROUNDING":
        pytest.skip("no bug: a sum of products of E2M1 has at most 13 bits, which binary32 holds")
    is_found(simulate, directed, tmp_path, function, bug, cause)


@pytest.mark.parametrize(("design", "bugs"), [("fp8_mul", MULTIPLIER_BUGS), ("mx_dot", DOT_BUGS)])
def test_every_planted_bug_is_tested(design, bugs):
    planted = re.findall(r'BUG == "(\w+)"', (RTL / f"{design}.v").read_text())
    assert sorted(planted) == sorted(bugs)


# The testbenches


@pytest.mark.parametrize("function", ["e4m3fn_mul", "e5m2_mul", "mxfp8_e4m3_dot32", "mxfp4_dot32"])
def test_readmemh_testbench_reads_what_numfmt_writes(simulate, directed, function):
    file = directed(function, 1, "mem")
    rows = sum(not line.startswith("//") for line in file.read_text().splitlines())
    design, parameters = design_of(function)
    done = simulate(design, "readmemh", {**parameters, "ROWS": rows}, f"+vectors={file}")
    assert done.stdout == f"PASS: {rows} rows\n"
    done = simulate(design, "readmemh", {**parameters, "BUG": "WRONG_TIE", "ROWS": rows}, f"+vectors={file}")
    assert "FAIL" in done.stdout
    assert done.returncode == 1


def test_missing_row_is_a_failure(simulate, tmp_path):
    file = tmp_path / "short.mem"
    file.write_text("38383800\n")
    done = simulate("fp8_mul", "readmemh", {"ROWS": 2}, f"+vectors={file}")
    assert "FAIL: 1 of 2 rows" in done.stdout
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("design", "text"), [("fp8_mul", "38 38 38 00\n38 38"), ("mx_dot", "0 " * 67 + "00\n00 00\n")]
)  # fmt: skip
def test_row_that_is_cut_off_stops_the_simulation(simulate, tmp_path, design, text):
    file = tmp_path / "cut.txt"
    file.write_text(text)
    done = simulate(design, "fscanf", {}, f"+vectors={file}", f"+answers={tmp_path / 'out.txt'}")
    assert "row 2" in done.stdout
    assert done.returncode == 1


@pytest.mark.parametrize("testbench", ["fscanf", "readmemh"])
@pytest.mark.parametrize("arguments", [[], ["+vectors=nowhere", "+answers=out.txt"]])
def test_missing_file_stops_the_simulation(simulate, testbench, arguments):
    assert simulate("fp8_mul", testbench, {}, *arguments).returncode == 1
