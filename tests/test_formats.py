"""Formats as data: facts of the standards, names that read back, refusals that explain themselves."""

import csv
from fractions import Fraction
from pathlib import Path

import pytest

import numfmt as nf
from numfmt.named import NAMED, p3109_names, source_of
from spec import oracle

ROOT = Path(__file__).resolve().parent.parent
CUSTOM = [
    "e5m7", "e5m7b20", "e6m1fn", "ue3m3", "ue3m3fn", "e4m3b-20fn", "e3m4f", "e3m3uz", "q3.12", "uq0.8", "int5", "uint64", "ap_fixed<8,12>",
    "ap_ufixed<8,-3>", "float(e=2, m=1)", "float(e=4, m=3, subnormals=none)", "float(e=6, m=2, specials=fn, signed=no, subnormals=normal, zero=no)",
    "float(e=4, m=3, rounding=ties_to_away, overflow=saturate)", "fixed(bits=8, fraction=2, sign_magnitude=yes)",
    "fixed(bits=8, rounding=toward_negative, overflow=wrap)", "codebook(-1, -1/2, 0, 3/4)", "codebook(0, 1, rounding=toward_zero)",
    "Binary{8,3,Signed,Extended}", "p3109_k8p3se",
]  # fmt: skip


@pytest.mark.parametrize("name", [*nf.list_formats(), *CUSTOM, *(a for e in NAMED.values() for a in e.aliases)])
def test_a_formats_string_reads_back_as_an_equal_format(name):
    fmt = nf.get_format(name)
    assert nf.get_format(str(fmt)) == fmt
    assert hash(nf.get_format(str(fmt))) == hash(fmt)


def test_the_names_of_the_name_grammar():
    assert nf.get_format("e4m3") == nf.get_format("FLOAT8_E4M3FN") == nf.get_format("ocp_e4m3")
    assert nf.get_format("float8_e4m3").max == 240
    assert nf.get_format("e8m0") == nf.get_format("float8_e8m0fnu")
    assert str(nf.get_format("q3.12")) == "q3.12"
    assert nf.get_format("q3.12").bits == 16
    assert nf.get_format("uq0.8").bits == 8
    assert nf.get_format("e5m7b20").bias == 20
    assert len(p3109_names()) == 504


@pytest.mark.parametrize(("name", "message"), [
    ("e4m3nf", "float8_e4m3fn|e4m3fn"), ("e5m0", "e5m0fn"), ("", "unknown format"), ("float(e=4)", "trailing|IEEE"), ("float(x=3, e=2, m=1)", "'x'"),
    ("fixed()", "1 to 254"), ("q300.10", "1 to 254"), ("e8m240", "1 to 237"), ("codebook(1)", "at least 2"), ("codebook(1, 1/3)", "binary64"), ("blok(e2m1)", "codebook"), ("block(e2m1, rul=floor)", "'rul'"), ("block(e2m1, rule=flor)", "floor"), ("block(e2m1, size=0)", "positive"), ("bfp(size=16)", "magnitude bits"), ("mxfp5", "mxfp4|mxfp8"), ("binary8p9se", "P3109"),
    ("e0m3", "exponent bits"),
])  # fmt: skip
def test_unknown_names_are_value_errors_with_the_nearest_right_thing(name, message):
    with pytest.raises(ValueError, match=message):
        nf.get_format(name)


def test_a_format_that_is_no_name_is_a_type_error():
    with pytest.raises(TypeError, match="name or a format object"):
        nf.get_format(3)


@pytest.mark.parametrize("fields", [
    {"bits": 8, "precision": 0, "bias": 7}, {"bits": 8, "precision": 8, "bias": 7}, {"bits": 8, "precision": 1, "bias": 7},
    {"bits": 8, "precision": 4, "bias": 7, "signed": False, "specials": "fnuz"}, {"bits": 8, "precision": 4, "bias": 7, "zero": False},
    {"bits": 2, "precision": 1, "bias": 1, "specials": "uz"}, {"bits": 8, "precision": 240, "bias": 1},
])  # fmt: skip
def test_fields_that_describe_no_format_are_refused_at_construction(fields):
    with pytest.raises(ValueError, match=r"given|precision|cannot|no |leave|must|has"):
        nf.FloatFormat(**fields)


def test_formats_are_frozen_and_hashable():
    fmt = nf.FloatFormat(8, 4, 7, specials="fn")
    assert fmt == nf.get_format("e4m3fn")
    with pytest.raises(AttributeError):
        fmt.bits = 9
    assert nf.FloatFormat(8, 4, 7, subnormals=False).min_positive == Fraction(1, 64)


def test_without_significand_bits_there_are_no_subnormals_to_speak_of():
    e3m0 = nf.get_format("e3m0")
    for subnormals in (False, True, "normal", "shifted"):
        assert nf.FloatFormat(4, 1, 3, specials="f", subnormals=subnormals) == e3m0


def number(text):
    """A cell of formats.csv such as 15*2^10 or -2."""
    product = Fraction(1)
    for factor in text.split("*"):
        base, _, exponent = factor.partition("^")
        product *= Fraction(base) ** int(exponent or 1)
    return product


def rows():
    path = ROOT.parent / "shared" / "formats.csv"
    if not path.exists():
        return []
    with path.open() as file:
        later = ("posit", "takum", "lns")
        return [
            r for r in csv.DictReader(file) if r["family"] not in later and r["name"] not in ("hifloat8", "fixed_q")
        ]


@pytest.mark.skipif(not rows(), reason="the table of published parameters, formats.csv, is not beside the repository")
def test_published_parameters_are_the_derived_facts():
    checked = 0
    for row in rows():
        fmt = nf.get_format(row["name"])
        assert str(fmt.bits) == row["bits"] or row["name"] == "ternary", row["name"]
        for column, fact in (("max", "max"), ("min_normal", "min_normal"), ("min_subnormal", "min_subnormal")):
            try:
                published = number(row[column])
            except (ValueError, ZeroDivisionError):
                continue
            if hasattr(fmt, fact):
                assert getattr(fmt, fact) == published, (row["name"], column)
                checked += 1
    assert checked > 150


def test_every_named_format_has_a_source():
    assert all(entry.source for entry in NAMED.values())
    assert source_of(nf.get_format("binary8p3se"))[0].startswith("IEEE P3109")
    assert source_of(nf.get_format("e5m7"))[0] == "custom format"


@pytest.mark.parametrize("name", p3109_names(range(9, 17))[::23])
def test_p3109_facts_are_the_oracles(name):
    fmt, judge = nf.get_format(name), oracle.get(name)
    assert fmt.max == judge.max
    assert fmt.nan_code == judge.nan_code
    assert [fmt.exact(c) for c in range(0, 2**fmt.bits, 97)] == [
        oracle.value(c, judge) for c in range(0, 2**fmt.bits, 97)
    ]
