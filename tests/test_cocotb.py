"""The scoreboard for cocotb: judged without a simulator, and with cocotb and Icarus Verilog where both are here."""

import ast
import inspect
import os
import shutil
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import numfmt.cocotb
from numfmt import vectors
from numfmt.cocotb import BATCH, Mismatched, Scoreboard

ROOT = Path(__file__).resolve().parent.parent
RTL = ROOT / "tests" / "rtl"


def pairs(function, **options):
    """Operands, result and flags of directed rows, as Python integers."""
    for rows in vectors.generate(function, style="directed", level=1, **options):
        columns = [column.tolist() for column in (*rows.operands, rows.results, rows.flags)]
        yield from zip(*columns, strict=True)


def test_right_answers_pass():
    board = Scoreboard("e4m3fn_mul")
    rows = list(pairs("e4m3fn_mul"))
    for a, b, result, flags in rows:
        board.expect(a, b)
        board.observe(result, flags)
    report = board.report()
    assert report.passed
    assert (report.rows, report.mismatches, report.outstanding) == (len(rows), 0, 0)
    assert str(report) == f"e4m3fn_mul: {len(rows):,} answers, 0 wrong"
    report.check()


def test_wrong_answers_are_counted_by_cause_and_the_first_are_explained():
    board = Scoreboard("e5m2_mul", errors=2)
    for a, b, result, flags in pairs("e5m2_mul"):
        subnormal = 0 < result & 0x7F < 4
        board.expect(a, b)
        board.observe(result & 0x80 if subnormal else result, flags)
    report = board.report()
    assert not report.passed
    assert report.causes.most_common(1)[0] == ("flushed subnormal", report.mismatches)
    assert len(report.explained) == 2
    with pytest.raises(Mismatched, match="flushed subnormal"):
        report.check()


def test_answers_belong_to_operands_in_order():
    board = Scoreboard("e4m3fn_mul")
    rows = list(pairs("e4m3fn_mul"))[:100]
    for i in range(len(rows) + 5):  # a pipeline of five stages
        if i < len(rows):
            board.expect(*rows[i][:2])
        if i >= 5:
            board.observe(*rows[i - 5][2:])
    assert board.report().passed


def test_stop_raises_at_the_first_wrong_answer():
    board = Scoreboard("e4m3fn_mul", stop=True)
    board.expect(0x38, 0x38)
    board.observe(0x38, 0)
    board.expect(0x38, 0x38)
    with pytest.raises(Mismatched, match="answer 2"):
        board.observe(0x39, 0)


def test_long_runs_are_judged_as_they_go():
    board = Scoreboard("e4m3fn_mul")
    for _ in range(3 * BATCH + 1):
        board.expect(0x3C, 0x3D)
        board.observe(0x42)
    assert len(board._answered) == 1
    assert board.report().rows == 3 * BATCH + 1


def test_rules_decide():
    for rounding, code in [("toward_zero", 0x41), ("toward_positive", 0x42)]:
        board = Scoreboard("e4m3fn_mul", rounding=rounding)
        board.expect(0x3C, 0x3D)
        board.observe(code, 1)
        assert board.report().passed, rounding


def test_flags_count_only_where_the_device_has_them():
    board = Scoreboard("e4m3fn_mul")
    board.expect(0x3C, 0x3D)
    board.observe(0x42)
    assert board.report().passed
    board.expect(0x3C, 0x3D)
    board.observe(0x42, 0)
    assert board.report().causes == {"flags only": 1}


@pytest.mark.parametrize(("nan", "passed"), [("class", True), ("bits", False)])
def test_nan_is_compared_by_class_or_by_bits(nan, passed):
    board = Scoreboard("e4m3fn_mul", nan=nan)
    board.expect(0x7F, 0x38)
    board.observe(0xFF, 0)
    assert board.report().passed is passed


def test_number_is_no_nan():
    board = Scoreboard("e4m3fn_mul")
    board.expect(0x7F, 0x38)
    board.observe(0x38, 0)
    assert board.report().mismatches == 1


def test_operands_without_an_answer_are_no_pass():
    board = Scoreboard("e4m3fn_mul")
    board.expect(0x38, 0x38)
    report = board.report()
    assert report.outstanding == 1
    with pytest.raises(Mismatched, match="without an answer"):
        report.check()


def test_nothing_seen_is_no_pass():
    with pytest.raises(Mismatched, match="0 answers"):
        Scoreboard("e4m3fn_mul").report().check()


def test_answer_without_operands_is_refused():
    with pytest.raises(Mismatched, match="expect"):
        Scoreboard("e4m3fn_mul").observe(0x38)


class Logic:
    """What a cocotb handle gives: a number, unless bits are unknown; iterable over its bits."""

    def __init__(self, text):
        self.text = text

    def __int__(self):
        return int(self.text, 2)  # ValueError where a bit is x or z

    def __iter__(self):
        return iter(self.text)


def test_values_of_handles_are_read_and_unknown_bits_are_wrong():
    board = Scoreboard("e4m3fn_mul")
    for result, flags in [("01000010", "00001"), ("0100001x", "00001"), ("01000010", "0000z")]:
        board.expect(Logic("00111100"), Logic("00111101"))
        board.observe(Logic(result), Logic(flags))
    report = board.report()
    assert report.causes == {"unknown bits": 2}
    assert "neither 0 nor 1" in str(report)


def test_blocks_are_sequences_or_packed_words():
    function = "mxfp4_dot8"
    for rows in vectors.generate(function, level=1):
        board = Scoreboard(function)
        a, a_scale, b, b_scale = rows.operands
        for i in range(len(rows)):
            word = int("".join(f"{code:x}" for code in a[i].tolist()), 16)
            board.expect(word if i % 2 else a[i], a_scale[i], b[i].tolist(), b_scale[i])
            board.observe(rows.results[i], rows.flags[i])
        assert board.report().passed, str(board.report())


def test_encoded_blocks_are_scale_codes_then_elements():
    board = Scoreboard("mxfp4_encode32")
    board.expect(np.full(32, 0x3F800000, np.uint32))
    board.observe([125, *[6] * 32])  # 1.0 is 4 · 2^-2
    assert board.report().passed
    board.expect(np.full(32, 0x3F800000, np.uint32))
    board.observe([125, *[6] * 31])
    assert board.report().mismatches == 1


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Scoreboard("e4m3fn_mull"), "e4m3fn_mul"),
        (lambda: Scoreboard("e4m3fn"), "no results"),
        (lambda: Scoreboard("e4m3fn_mul", nan="any"), "'class' or 'bits'"),
        (lambda: Scoreboard("e4m3fn_mul", rounding="up"), "rounding"),
        (lambda: Scoreboard("e4m3fn_mul").expect(1), "takes a, b"),
        (lambda: Scoreboard("e4m3fn_mul").expect(1, 0x100), "operand b"),
        (lambda: Scoreboard("e4m3fn_mul").expect(1, 1, random=1), "random"),
        (lambda: Scoreboard("e4m3fn_mul", rounding="stochastic").expect(1, 1), "random"),
        (lambda: Scoreboard("mxfp4_dot32").expect([1] * 31, 0, [1] * 32, 0), "32 codes"),
        (lambda: Scoreboard("mxfp4_dot32").expect(1 << 128, 0, [1] * 32, 0), "128 bits"),
    ],
)  # fmt: skip
def test_mistakes_are_said(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_module_imports_nothing_of_cocotb():
    tree = ast.parse(inspect.getsource(numfmt.cocotb))
    absolute = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level == 0]
    names = [n.module for n in absolute] + [
        a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names
    ]
    assert not any(name.partition(".")[0] == "cocotb" for name in names)


# With cocotb


SIMULATE = """
import sys
from cocotb_tools.runner import get_runner

source, bug, results = sys.argv[1:]
unit = {"hdl_toplevel": "fp8_mul", "build_dir": "build", "timescale": ("1ns", "1ps")}
runner = get_runner("icarus")
runner.build(sources=[source], parameters={"BUG": f'"{bug}"'}, **unit)
runner.test(test_module="example", results_xml=results, **unit)
"""


def example():
    """The cocotb test in the docstring."""
    text = numfmt.cocotb.__doc__.partition("::\n")[2]
    return textwrap.dedent(text.partition("\nIn a pipelined")[0])


def test_example_is_python():
    assert "async def every_directed_vector" in example()
    compile(example(), "example", "exec")


@pytest.mark.parametrize("bug", ["NONE", "WRONG_TIE"])
def test_example_runs_in_cocotb(tmp_path, bug):
    if find_spec("cocotb_tools") is None:
        pytest.skip("no cocotb 2; pip install cocotb")
    if not shutil.which("iverilog"):
        pytest.skip("no Icarus Verilog; apt-get install iverilog")
    (tmp_path / "example.py").write_text(example())
    (tmp_path / "simulate.py").write_text(SIMULATE)
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    command = [sys.executable, "simulate.py", RTL / "fp8_mul.v", bug, tmp_path / "results.xml"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (tmp_path / "results.xml").exists(), done.stdout + done.stderr
    results = (tmp_path / "results.xml").read_text()
    assert ("<failure" in results) == (bug != "NONE"), done.stdout + done.stderr
    assert "every_directed_vector" in results
    assert ("wrong tie" in done.stdout) == (bug != "NONE")
