"""nfmt units: the table, a page for every unit, JSON."""

import json
import re

import pytest

import numfmt as nf
from numfmt._cli.units import example
from numfmt.cli import main
from numfmt.named_units import NAMED_UNITS

from .test_cli import is_one_line


@pytest.fixture
def nfmt(capsys):
    """Runs nfmt units in this process: exit code, stdout, stderr."""

    def run(*argv):
        code = main(["units", *argv])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def units(out):
    return [line.split()[0] for line in out.splitlines()[1:] if line.startswith("  ")]


def test_the_table_has_every_unit_in_80_columns(nfmt):
    code, out, err = nfmt()
    assert (code, err) == (0, "")
    assert units(out) == nf.list_units()
    assert max(map(len, out.splitlines())) <= 80


def test_a_row_says_what_the_unit_does(nfmt):
    rows = {line.split()[0]: re.split(" {2,}", line.strip())[1:] for line in nfmt()[1].splitlines() if line.startswith("  ")}
    assert rows["h100.e4m3"] == ["e4m3, e5m2", "aligned 32", "13", "e8m13 toward_zero", "A"]
    assert rows["b200.mxf8f6f4"] == ["e4m3 +4", "aligned 32", "25", "fp32 toward_zero", "C"]
    assert rows["x86.vpdpbusd"] == ["uint8, int8", "fixed 4", "int32", "A"]
    assert rows["exact"][1:] == ["exact K", "fp32 ties_to_even", "-"]


@pytest.mark.parametrize(("argv", "listed"), [
    (["--family", "x86"], nf.list_units("x86")), (["h100"], [n for n in NAMED_UNITS if n.startswith("h100.")]),
    (["h100.mma"], ["h100.mma.e4m3", "h100.mma.e5m2"]), (["hopper"], [n for n in NAMED_UNITS if n.startswith("h100.")]),
    (["kahan"], ["kahan.bf16"]),
])  # fmt: skip
def test_a_family_and_a_chip_are_parts_of_the_table(nfmt, argv, listed):
    code, out, err = nfmt(*argv)
    assert (code, err) == (0, "")
    assert units(out) == listed
    assert [unit["name"] for unit in json.loads(nfmt(*argv, "--json")[1])["units"]] == listed


@pytest.mark.parametrize("name", NAMED_UNITS)
def test_every_unit_has_a_page(nfmt, name):
    code, out, err = nfmt(name)
    assert (code, err) == (0, "")
    assert out.startswith(name + "\n")
    assert max(map(len, out.splitlines())) <= 100
    assert "None" not in out
    for label in ("inputs", "products", "step", "sum", "accumulator", "evidence", "source", "in Python"):
        assert f"\n  {label} " in out or f"\n{label}\n" in out
    evidence = nf.get_unit(name).evidence
    assert " ".join(out.split()).count(evidence.source) == 1
    assert " ".join(evidence.note.split()) in " ".join(out.split())


@pytest.mark.parametrize("name", NAMED_UNITS)
def test_the_example_of_a_page_runs(nfmt, name):
    lines = example(name)
    assert [line.strip() for line in nfmt(name)[1].splitlines()[-2:]] == lines
    scope = {}
    exec(lines[0], scope)
    assert eval(lines[1], scope) == 64


@pytest.mark.parametrize(("name", "says"), [
    ("h100.e4m3", ["integers in units of 2^(E - 13)", "32 products", "e8m13, rounded toward zero", "float32: the accumulator that the caller gives",
                   "at least -133", "grade A: reproduced on recordings of hardware", "recorded with wgmma and c = 0"]),
    ("h100.e4m3.promote128", ["every 128 products the accumulator is added to one of float32"]),
    ("h100.mma.e4m3", ["the rounded sum of a step is added to the accumulator, rounded to nearest, ties to even"]),
    ("b200.nvfp4", ["one for 16 elements; their sign does not count", "16 neighbours are added without error",
                    "that of a group is the sum of the exponents of its scales"]),
    ("mi300.bf16", ["2^128 and more count as infinite", "floored to 31 bits", "floored to 24 bits; both"]),
    ("mi300.e4m3fnuz", ["even and odd products have an E each", "counts as zero if it lies more than 25 below"]),
    ("mi250.fp16", ["rounded to float32", "neighbours in pairs", "operands count as +0"]),
    ("x86.vdpbf16ps", ["of every two the second first", "fused", "operands count as zeros of their sign", "0xffc00000 of float32"]),
    ("x86.vpdpbusd", ["the first is a's, the second b's", "wraps"]),
    ("x86.vpdpbusds", ["saturates"]),
    ("amx.bf16", ["those of even and of odd index apart", "a whole tile has K = 32"]),
    ("arm.bfdot", ["to odd", "grade D: the vendor's text"]),
    ("a100.tf32", ["float32 operands are rounded to it, toward zero"]),
    ("kahan.bf16", ["rounded to bfloat16", "a definition, not a chip"]),
    ("exact", ["all products", "without error, rounded once"]),
])  # fmt: skip
def test_a_page_says_what_matters(nfmt, name, says):
    text = " ".join(nfmt(name)[1].split())
    for words in says:
        assert words in text


def test_json_has_every_parameter(nfmt):
    found = json.loads(nfmt("b200.nvfp4", "--json")[1])
    assert (found["schema"], found["name"], found["family"]) == (1, "b200.nvfp4", "nvidia")
    assert found | {
        "inputs": ["float4_e2m1fn"], "scales": ["float8_e4m3fn", "float8_e8m0fnu"], "scale_blocks": [16], "group": 16, "fraction": 35,
        "length": 64, "rounding": "toward_zero", "alignment": "toward_zero", "nan": "0x7fffffff", "addend": "early", "order": "sequential",
    } == found  # fmt: skip
    assert found["evidence"]["grade"] == "C"
    assert found["evidence"]["meaning"] == "one source"
    assert len(json.loads(nfmt("--json")[1])["units"]) == len(nf.list_units())


@pytest.mark.parametrize(("argv", "says"), [
    (["h100.e4m5"], "nearest: h100.e4m3"), (["tpu.bf16"], "no unit"), (["--family", "nvidea"], "nearest: nvidia"),
    (["h100", "--family", "amd"], "not allowed"), (["h100", "a100"], "unrecognized"),
])  # fmt: skip
def test_errors_are_one_line_and_exit_2(nfmt, argv, says):
    code, out, err = nfmt(*argv)
    assert (code, out) == (2, "")
    assert is_one_line(err)
    assert says in err


def test_colour_is_not_the_only_sign(nfmt):
    for argv in ([], ["b200.mxfp8"]):
        plain, coloured = (nfmt(*argv, "--color", choice)[1] for choice in ("never", "always"))
        assert "\x1b" in coloured
        assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain
