"""nfmt convert: every file format both ways, bad files, files that appear whole or not at all."""

import io
import json
import os
import struct
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

import numfmt as nf
from numfmt._cli import files
from numfmt.cli import main

from .test_cli import ENV, is_one_line

X = np.float32([0.1, -1.7, 300.0, 1e6, -0.0, np.inf, np.nan, 2.0**-9])
CODES = [0x1D, 0xBE, 0x79, 0x7E, 0x80, 0x7E, 0x7F, 0x01]  # OFP8, ties to even, saturating


@pytest.fixture
def nfmt(capsys):
    def run(*argv):
        code = main(["convert", *map(str, argv)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    return tmp_path


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def content(path):
    return [line for line in path.read_text().splitlines() if not line.startswith("//")]


# Formats


def test_npy_to_npy(nfmt, folder):
    assert nfmt("x.npy", "--to", "e4m3fn", "-o", "y.npy") == (0, "", "")
    y = np.load("y.npy")
    assert (y.tolist(), y.dtype) == (CODES, np.uint8)
    said = json.loads((folder / "y.npy.json").read_text())
    assert said | {
        "schema": 1, "numfmt": nf.__version__, "holds": "codes", "format": "float8_e4m3fn", "rounding": "ties_to_even",
        "overflow": "saturate", "platform": None, "seed": None, "shape": [8],
    } == said  # fmt: skip


def test_npy_to_hex_and_back(nfmt, folder):
    assert nfmt("x.npy", "--to", "e4m3fn", "-o", "y.hex")[0] == 0
    assert content(folder / "y.hex") == [f"{c:02x}" for c in CODES]
    assert nfmt("y.hex", "--from", "e4m3fn", "--to", "f32", "--quantize", "-o", "z.npy")[0] == 0
    z = np.load("z.npy")
    assert z.dtype == np.float32
    assert z.tobytes() == nf.decode(np.uint8(CODES), "e4m3fn").tobytes()


def test_npy_to_raw_and_back(nfmt, folder):
    assert nfmt("x.npy", "--to", "bf16", "-o", "y.bin")[0] == 0
    assert (folder / "y.bin").read_bytes() == X.astype(ml_dtypes.bfloat16).view("<u2").tobytes()
    assert nfmt("y.bin", "--from", "bf16", "--to", "e4m3fn", "-o", "z.raw")[0] == 0
    assert (folder / "z.raw").read_bytes() == bytes(CODES)


def test_csv_keeps_its_rows(nfmt, folder):
    (folder / "x.csv").write_text("# weights\n0.1, -1.7\n300,1e6\n-0,inf\nNaN,0x1p-9\n")
    assert nfmt("x.csv", "--to", "e4m3fn", "-o", "y.csv")[0] == 0
    assert (folder / "y.csv").read_text() == "0x1d,0xbe\n0x79,0x7e\n0x80,0x7e\n0x7f,0x01\n"
    assert nfmt("y.csv", "--from", "e4m3fn", "--to", "e4m3fn", "-o", "z.npy")[0] == 0
    assert np.load("z.npy").tolist() == np.reshape(CODES, (4, 2)).tolist()
    assert nfmt("x.csv", "--to", "e4m3fn", "--quantize", "-o", "v.csv")[0] == 0
    assert (folder / "v.csv").read_text() == "0.1015625,-1.75\n288.0,448.0\n-0.0,448.0\nnan,0.001953125\n"


def test_csv_values_are_exact(nfmt, folder):
    """2**-100 has no short decimal that names it."""
    np.save("x.npy", np.float64([2.0**-100, 0.1]))
    assert nfmt("x.npy", "--to", "float64", "--quantize", "-o", "y.csv")[0] == 0
    assert (folder / "y.csv").read_text() == "0x1p-100\n0x1.999999999999ap-4\n"


def test_texts_are_rounded_once(nfmt, folder):
    """Above the midpoint by less than binary64 shows; far below and above what binary64 holds; wide formats."""
    (folder / "x.csv").write_text("1.062500000000000000000000000001\n1.0625\n1e-400\n-1e400\n")
    assert nfmt("x.csv", "--to", "e4m3fn", "--rounding", "toward_positive", "-o", "y.hex")[0] == 0
    assert content(folder / "y.hex") == ["39", "39", "01", "fe"]
    assert nfmt("x.csv", "--to", "e4m3fn", "-o", "y.hex")[0] == 0
    assert content(folder / "y.hex") == ["39", "38", "00", "fe"]
    (folder / "x.csv").write_text("0.1\n1e-400\n1/3\n")
    assert nfmt("x.csv", "--to", "binary128", "-o", "y.hex")[0] == 0
    assert content(folder / "y.hex")[0] == "3ffb999999999999999999999999999a"
    assert content(folder / "y.hex")[2] == "3ffd5555555555555555555555555555"
    assert nfmt("x.csv", "--to", "binary128", "-o", "y.raw")[0] == 0
    assert (folder / "y.raw").read_bytes()[:16][::-1].hex() == content(folder / "y.hex")[0]


def test_csv_header_is_left_out_when_asked(nfmt, folder):
    (folder / "x.csv").write_text("a,b\n1,2\n")
    assert nfmt("x.csv", "--header", "--to", "e2m1", "-o", "y.csv")[:1] == (0,)
    assert (folder / "y.csv").read_text() == "0x2,0x4\n"
    code, _, err = nfmt("x.csv", "--to", "e2m1", "-o", "z.csv")
    assert code == 3
    assert "line 1" in err


def test_hex_as_readmemh_reads_it(nfmt, folder):
    (folder / "x.hex").write_text("// a comment\n@10 38 /* two\nlines */ 7_E // rest\n@12\n01\n")
    assert nfmt("x.hex", "--from", "e4m3fn", "--to", "f32", "--quantize", "-o", "y.csv")[0] == 0
    assert (folder / "y.csv").read_text() == "1.0\n448.0\n0.001953125\n"


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x.astype(">f4"),
        lambda x: np.asfortranarray(x.reshape(2, 4)),
        lambda x: x[:0],
        lambda x: x[:0].reshape(0, 3),
        lambda x: x[0].reshape(()),
        lambda x: x.reshape(2, 2, 2),
        lambda x: x[:6].astype(np.float64),
        lambda x: x[:3].astype(np.float16),
        lambda x: np.arange(-4, 4, dtype=np.int8),
        lambda x: np.arange(5, dtype=">u4"),
    ],
)
@pytest.mark.parametrize("options", [[], ["--quantize"]])
def test_arrays_of_every_kind(nfmt, folder, make, options):
    x = make(X)
    np.save("x.npy", x)
    assert nfmt("x.npy", "--to", "e4m3fn", *options, "-o", "y.npy")[0] == 0
    y = np.load("y.npy")
    expected = nf.quantize(x, "e4m3fn") if options else nf.encode(x, "e4m3fn")
    assert (y.shape, y.dtype) == (x.shape, np.asarray(expected).dtype)
    assert y.tobytes() == np.asarray(expected).tobytes()


def test_arrays_of_ml_dtypes_are_codes(nfmt, folder):
    np.save("x.npy", X.astype(ml_dtypes.bfloat16))
    code, _, err = nfmt("x.npy", "--to", "e4m3fn", "-o", "y.npy")
    assert code == 3
    assert "--from" in err
    assert nfmt("x.npy", "--from", "bf16", "--to", "e4m3fn", "-o", "y.npy")[0] == 0
    assert np.load("y.npy").tolist() == CODES


def test_codes_are_not_taken_for_numbers(nfmt, folder):
    """The .json beside an .npy of codes says so."""
    assert nfmt("x.npy", "--to", "e4m3fn", "-o", "y.npy")[0] == 0
    code, _, err = nfmt("y.npy", "--to", "bf16", "-o", "z.npy")
    assert code == 2
    assert "--from float8_e4m3fn" in err
    assert nfmt("y.npy", "--from", "e4m3fn", "--to", "e5m2", "-o", "z.npy")[0] == 0


def test_empty_files(nfmt, folder):
    for name, source in (("a.csv", []), ("a.hex", ["--from", "e4m3fn"]), ("a.raw", ["--from", "e4m3fn"])):
        (folder / name).write_text("")
        assert nfmt(name, *source, "--to", "e5m2", "-o", "y.npy")[0] == 0
        assert np.load("y.npy").shape == (0,)


# Random numbers


@pytest.mark.parametrize("kind", ["npy", "csv"])
def test_seeds_do_not_see_chunks(nfmt, folder, monkeypatch, kind):
    x = np.linspace(0.01, 5, 1000, dtype=np.float32)
    np.save("x.npy", x)
    (folder / "x.csv").write_text("".join(f"{float(v).hex()}\n" for v in x))
    monkeypatch.setattr(files, "CHUNK", 7)
    monkeypatch.setattr(files, "TEXT_CHUNK", 7)
    for mode, count in (("stochastic", None), ("stochastic_a", 5)):
        bits = [] if count is None else ["--random-bits", str(count)]
        assert nfmt(f"x.{kind}", "--to", "e2m1", "--rounding", mode, "--seed", 3, *bits, "-o", "y.npy")[0] == 0
        assert (np.load("y.npy") == nf.encode(x, "e2m1", rounding=mode, seed=3, random_bit_count=count)).all()
    said = json.loads((folder / "y.npy.json").read_text())
    assert (said["seed"], said["random_bit_count"]) == (3, 5)


def test_fortran_order_draws_in_c_order(nfmt, folder):
    x = np.asfortranarray(np.linspace(0.01, 5, 60, dtype=np.float32).reshape(5, 12))
    np.save("x.npy", x)
    assert nfmt("x.npy", "--to", "e2m1", "--rounding", "stochastic", "--seed", "1,2", "-o", "y.npy")[0] == 0
    assert (np.load("y.npy") == nf.encode(x, "e2m1", rounding="stochastic", seed=(1, 2))).all()


# Bad files


def truncated_npy():
    stream = io.BytesIO()
    np.save(stream, np.zeros(1000, np.float32))
    return stream.getvalue()[:-1]


def header_npy(text):
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def saved(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def archive():
    stream = io.BytesIO()
    np.savez(stream, a=X)
    return stream.getvalue()


F = ["--from", "e4m3fn"]


@pytest.mark.parametrize(
    ("name", "data", "options"),
    [
        ("x.npy", b"", []),
        ("x.npy", b"not an array", []),
        ("x.npy", truncated_npy(), []),
        ("x.npy", archive(), []),
        ("x.npy", header_npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }\n"), []),
        ("x.npy", header_npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }\n"), []),
        ("x.npy", header_npy(b"garbage\n"), []),
        ("x.npy", header_npy(b"{'descr': '<f1', 'fortran_order': False, 'shape': (1,), }\n\0"), []),
        ("x.npy", saved(np.array([{}], object), allow_pickle=True), []),
        ("x.npy", saved(np.zeros(3, complex)), []),
        ("x.npy", saved(np.zeros(3, "f4,i2")), []),
        ("x.npy", saved(np.array(["a"])), []),
        ("x.npy", saved(np.zeros(3, bool)), []),
        ("x.npy", saved(np.zeros(3, np.longdouble)), []),
        ("x.npy", saved(X), F),
        ("x.npy", saved(np.uint16([0x1FF])), F),
        ("x.npy", saved(np.int16([-129])), F),
        ("x.csv", b"1,2\n3\n", []),
        ("x.csv", b"1\none\n", []),
        ("x.csv", b"1,\n", []),
        ("x.csv", b"\xff\xfe1\n", []),
        ("x.csv", b"1e999999999\n", []),
        ("x.csv", b"1\n256\n", F),
        ("x.csv", b"1\n1.5\n", F),
        ("x.csv", b"-1\n", F),
        ("x.hex", b"38\nzz\n", F),
        ("x.hex", b"38\n1ff\n", F),
        ("x.hex", b"38\n@5\n39\n", F),
        ("x.hex", b"38 /* open\n", F),
        ("x.hex", b"3x\n", F),
        ("x.hex", b"@\n", F),
        ("x.bin", b"123", ["--from", "bf16"]),
    ],
)
def test_bad_files_are_one_line_and_exit_3(nfmt, folder, name, data, options):
    (folder / "x.npy").unlink()
    (folder / name).write_bytes(data)
    (folder / "y.npy").write_text("what was there")
    code, out, err = nfmt(name, *options, "--to", "e5m2", "-o", "y.npy")
    assert (code, out) == (3, "")
    assert is_one_line(err)
    assert name in err
    assert names(folder) == sorted({name, "y.npy"})
    assert (folder / "y.npy").read_text() == "what was there"
    assert (folder / name).read_bytes() == data


def test_missing_files_exit_3(nfmt, folder):
    for name in ("nothing.npy", "nothing.csv", "."):
        code, _, err = nfmt(name, "--input-format", "csv", "--to", "e2m1")
        assert code == 3
        assert is_one_line(err)


def test_a_bad_end_leaves_the_old_output(nfmt, folder, monkeypatch):
    """Chunks before the fault have been written by then."""
    monkeypatch.setattr(files, "TEXT_CHUNK", 10)
    (folder / "x.csv").write_text("1\n" * 100 + "bad\n")
    for name in ("y.npy", "y.csv", "y.hex", "y.raw"):
        (folder / name).write_text("old")
        assert nfmt("x.csv", "--to", "e2m1", "-o", name)[0] == 3
        assert (folder / name).read_text() == "old"
    assert names(folder) == ["x.csv", "x.npy", "y.csv", "y.hex", "y.npy", "y.raw"]


# Usage


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["x.npy"], "--to"),
        (["x.npy", "--to", "e9m9m9"], "unknown format"),
        (["x.npy", "--to", "e4m3fn", "-o", "y.xyz"], "--output-format"),
        (["x.dat", "--to", "e4m3fn"], "--input-format"),
        (["x.hex", "--to", "e4m3fn"], "--from"),
        (["x.npy", "--to", "e4m3fn", "-o", "x.npy"], "input"),
        (["x.npy", "--to", "e4m3fn", "-o", "./sub/../x.npy"], "input"),
        (["x.npy", "--to", "e4m3fn", "--rounding", "RNX"], "known: ties_to_even"),
        (["x.npy", "--to", "e2m1", "--rounding", "stochastic"], "--seed"),
        (["x.npy", "--to", "e2m1", "--seed", "1"], "takes no random bits"),
        (["x.npy", "--to", "e2m1", "--seed", "-1", "--rounding", "stochastic"], "seed"),
        (["x.npy", "--to", "e2m1", "--overflow", "nan"], "neither"),
        (["x.npy", "--to", "binary128", "-o", "y.npy"], "64"),
        (["x.npy", "--to", "e2m1", "--quantize", "-o", "y.hex"], "hex"),
        (["x.npy", "--to", "e2m1", "-o", "no/such/folder/y.npy"], "cannot write"),
        (["x.npy", "--to", "e2m1", "-o", "sub", "--output-format", "npy"], "directory"),
    ],
)
def test_usage_errors_exit_2_and_write_nothing(nfmt, folder, argv, says):
    (folder / "sub").mkdir()
    before = names(folder)
    code, _, err = nfmt(*argv)
    assert code == 2
    assert is_one_line(err)
    assert says in err
    assert names(folder) == before
    assert np.load("x.npy").tobytes() == X.tobytes()


def test_the_sidecar_does_not_hit_the_input(nfmt, folder):
    os.rename("x.npy", "y.npy.json")
    code, _, err = nfmt("y.npy.json", "--input-format", "npy", "--to", "e2m1", "-o", "y.npy")
    assert code == 2
    assert "never written" in err


def test_outputs_have_ordinary_permissions(nfmt, folder):
    umask = os.umask(0o022)
    try:
        nfmt("x.npy", "--to", "e2m1", "-o", "y.npy")
    finally:
        os.umask(umask)
    assert (folder / "y.npy").stat().st_mode & 0o777 == 0o644


def test_links_are_followed(nfmt, folder):
    (folder / "real.hex").write_text("")
    (folder / "link.hex").symlink_to("real.hex")
    assert nfmt("x.npy", "--to", "e4m3fn", "-o", "link.hex")[0] == 0
    assert (folder / "link.hex").is_symlink()
    assert len(content(folder / "real.hex")) == 8


# Pipes


def piped(*argv, data):
    command = [sys.executable, "-m", "numfmt", "convert", *argv]
    return subprocess.run(command, env=ENV, input=data, capture_output=True, check=False)


def test_pipes_carry_every_format():
    text = piped("-", "--to", "e4m3fn", data=b"1\n448\n")
    assert (text.returncode, text.stdout.splitlines()[1:], text.stderr) == (0, [b"38", b"7e"], b"")
    array = piped("-", "--to", "e4m3fn", "--output-format", "npy", data=b"1,2\n448,3\n")
    assert np.load(io.BytesIO(array.stdout)).tolist() == [[0x38, 0x40], [0x7E, 0x44]]
    back = piped("-", "--input-format", "npy", "--from", "e4m3fn", "--to", "f32", "--quantize", data=array.stdout)
    assert back.stdout == b"1.0,2.0\n448.0,3.0\n"
    raw = piped(
        "-", "--input-format", "raw", "--from", "e4m3fn", "--to", "bf16", "--output-format", "raw", data=b"\x38\x7e"
    )
    assert raw.stdout == b"\x80\x3f\xe0\x43"


def test_platforms_and_modes_reach_the_kernel(nfmt, folder):
    assert nfmt("x.npy", "--to", "e4m3fn", "--platform", "ml_dtypes", "-o", "y.npy")[0] == 0
    assert (np.load("y.npy") == X.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)).all()
    assert nfmt("x.npy", "--to", "e4m3fn", "--rounding", "RTZ", "--overflow", "nan", "-o", "y.npy")[0] == 0
    assert (np.load("y.npy") == nf.encode(X, "e4m3fn", rounding="toward_zero", overflow="nan")).all()


def test_progress_is_shown_when_asked_for(nfmt, folder):
    _, _, err = nfmt("x.npy", "--to", "e2m1", "-o", "y.npy", "--progress")
    assert err.startswith("\rnfmt: 100 % of 8 elements")
