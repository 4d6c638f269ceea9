"""nfmt quantize: what is quantized and what is kept, the report's numbers, bad input, files whole or not at all."""

import csv
import html.parser
import io
import json
import math
import os
import random
import re
import struct
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

import numfmt as nf
from numfmt._cli import pieces
from numfmt.checkpoints import open_checkpoint
from numfmt.cli import main
from numfmt.named_blocks import NAMED_BLOCKS
from numfmt.safetensors_files import SafetensorsFile, save_safetensors
from numfmt.statistics import measure

from .test_cli import ENV, is_one_line
from .test_safetensors import mutated

SHAPES = {"embed.weight": (40, 64), "layer.0.weight": (64, 96), "layer.0.bias": (64,), "norm.weight": (64,)}


def tensors():
    rng = np.random.default_rng(7)
    made = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    made["layer.0.weight"][3, :32] = 0
    made["layer.0.weight"][5] *= 1e4
    made["layer.1.weight"] = rng.standard_normal((32, 32)).astype(ml_dtypes.bfloat16)
    made["ids"] = np.arange(64).reshape(1, 64)
    made["fp8.weight"] = rng.standard_normal((32, 32)).astype(ml_dtypes.float8_e4m3fn)
    made["mask"] = np.array([True, False])
    return made


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_safetensors("m.safetensors", tensors(), {"format": "pt"})
    return tmp_path


@pytest.fixture
def nfmt(capsys):
    def run(*argv):
        code = main(["quantize", *map(str, argv)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def rows(text):
    return {row["tensor"]: row for row in csv.DictReader(io.StringIO(text))}


# What is quantized, and what is kept


def test_matrices_of_floats_are_quantized_and_the_rest_is_kept(nfmt, folder):
    code, _, err = nfmt("m.safetensors", "--to", "mxfp4", "-o", "o.safetensors")
    assert (code, err, names(folder)) == (0, "", ["m.safetensors", "o.safetensors"])
    x = tensors()
    with open_checkpoint("o.safetensors") as checkpoint:
        assert checkpoint.tensors.keys() == x.keys()
        assert checkpoint.file.metadata["format"] == "pt"
        for name, array in x.items():
            values = checkpoint.values(name)
            if checkpoint.stored(name).layout == "plain":
                assert (values.dtype, values.tobytes()) == (array.dtype, array.tobytes())
            else:
                assert values.tobytes() == nf.decode(nf.encode(array, "mxfp4")).tobytes()
        quantized = {name for name, stored in checkpoint.tensors.items() if stored.layout == "numfmt"}
        assert quantized == {"embed.weight", "layer.0.weight", "layer.1.weight"}


def test_the_first_pattern_that_matches_decides(nfmt, folder):
    maps = ["--map", "embed*=keep", "--map", "*.1.*=nvfp4", "--map", "layer*=int8_axis", "--map", "fp8*=mxfp8"]
    assert nfmt("m.safetensors", "--to", "mxfp4", *maps, "-o", "o.safetensors")[0] == 0
    with open_checkpoint("o.safetensors") as checkpoint:
        found = {n: str(s.format) for n, s in checkpoint.tensors.items() if s.layout == "numfmt"}
    expected = {"layer.0.weight": "int8_axis", "layer.0.bias": "int8_axis", "layer.1.weight": "nvfp4"}
    assert found == expected | {"fp8.weight": "mxfp8_e4m3"}


def test_only_what_is_mapped(nfmt, folder):
    code, out, _ = nfmt(
        "m.safetensors", "--to", "keep", "--map", "norm*=e4m3fn", "--report", "csv", "-o", "o.safetensors"
    )
    assert code == 0
    kept = {name: row["kept_because"] for name, row in rows(out).items()}
    assert (kept["norm.weight"], kept["embed.weight"], kept["ids"]) == (
        "",
        "--to keeps it",
        "tensors of I64 are not quantized",
    )
    with open_checkpoint("o.safetensors") as checkpoint:
        assert checkpoint.values("norm.weight").tobytes() == nf.quantize(tensors()["norm.weight"], "e4m3fn").tobytes()


def test_without_an_output_there_is_only_the_report(nfmt, folder):
    code, out, err = nfmt("m.safetensors", "--to", "nvfp4")
    assert (code, err, names(folder)) == (0, "", ["m.safetensors"])
    assert "3 tensors quantized, 5 kept" in out


def test_what_is_quantized_already_is_kept(nfmt, folder):
    assert nfmt("m.safetensors", "--to", "mxfp4", "-o", "a.safetensors")[0] == 0
    argv = ["a.safetensors", "--to", "mxfp8", "--map", "norm*=mxfp8", "--report", "csv", "-o", "b.safetensors"]
    code, out, _ = nfmt(*argv)
    assert code == 0
    assert rows(out)["embed.weight.codes"]["kept_because"] == "quantized already, layout numfmt"
    with open_checkpoint("a.safetensors") as a, open_checkpoint("b.safetensors") as b:
        assert str(b.stored("norm.weight").format) == "mxfp8_e4m3"
        for name in ("embed.weight", "layer.1.weight"):
            assert b.values(name).tobytes() == a.values(name).tobytes()


@pytest.mark.parametrize("axis", ["0", "1", "-2"])
def test_blocks_run_along_the_axis_asked_for(nfmt, folder, axis):
    assert nfmt("m.safetensors", "--to", "mxfp4", "--axis", axis, "-o", "o.safetensors")[0] == 0
    with open_checkpoint("o.safetensors") as checkpoint:
        q = nf.encode(tensors()["layer.0.weight"], "mxfp4", axis=int(axis))
        assert checkpoint.blocks("layer.0.weight").scales.tolist() == q.scales.tolist()


def test_tiles_run_along_two_axes(nfmt, folder):
    assert nfmt("m.safetensors", "--to", "nvfp4_16x16", "--axis", "1,0", "-o", "o.safetensors")[0] == 0
    with open_checkpoint("o.safetensors") as checkpoint:
        assert checkpoint.blocks("embed.weight").scales.shape == (3, 4)


# Layouts


@pytest.mark.parametrize(
    ("layout", "fmt"),
    [("gpt-oss", "mxfp4"), ("compressed-tensors", "mxfp8"), ("compressed-tensors", "nvfp4"), ("modelopt", "nvfp4")],
)
def test_published_layouts(nfmt, folder, layout, fmt):
    assert nfmt("m.safetensors", "--to", fmt, "--layout", layout, "-o", "o.safetensors")[0] == 0
    with open_checkpoint("o.safetensors") as checkpoint:
        assert checkpoint.stored("layer.0.weight").layout == layout
        q = nf.encode(tensors()["layer.0.weight"], fmt)
        assert checkpoint.blocks("layer.0.weight").codes.tolist() == q.codes.tolist()
        assert checkpoint.values("norm.weight").tobytes() == tensors()["norm.weight"].tobytes()


def test_dequantized_values_keep_their_dtype_or_take_another(nfmt, folder):
    argv = ["m.safetensors", "--to", "nvfp4", "--layout", "dequantized", "-o", "o.safetensors"]
    for extra, dtypes in (([], ("F32", "BF16")), (["--dtype", "F16"], ("F16", "F16"))):
        assert nfmt(*argv, *extra)[0] == 0
        with SafetensorsFile("o.safetensors") as file:
            assert tuple(file.infos[n].dtype for n in ("layer.0.weight", "layer.1.weight")) == dtypes
            q = nf.encode(tensors()["layer.1.weight"], "nvfp4")
            assert (
                file.tensor("layer.1.weight").tobytes()
                == nf.decode(q, dtype=file.tensor("layer.1.weight").dtype).tobytes()
            )
            assert file.infos["norm.weight"].dtype == "F32"


def test_gguf(nfmt, folder):
    save_safetensors("n.safetensors", {n: x for n, x in tensors().items() if n.startswith(("layer", "ids"))})
    argv = ["n.safetensors", "--to", "q8_0", "--map", "*.1.*=mxfp4", "--layout", "gguf", "-o", "o.gguf"]
    assert nfmt(*argv)[0] == 0
    with open_checkpoint("o.gguf") as checkpoint:
        kinds = {name: info.dtype for name, info in checkpoint.file.infos.items()}
        assert kinds == {"layer.0.weight": "Q8_0", "layer.0.bias": "F32", "layer.1.weight": "MXFP4", "ids": "I64"}
        q = nf.encode(tensors()["layer.0.weight"], "q8_0")
        assert checkpoint.blocks("layer.0.weight").codes.tolist() == q.codes.tolist()


# The report


def direct(x, fmt):
    """The numbers of a tensor in float64, from its values alone."""
    x64 = np.asarray(x, np.float64)
    q = np.asarray(nf.decode(nf.encode(x, fmt)), np.float64)
    error = float(((x64 - q) ** 2).sum())
    return {
        "sqnr_db": 10 * math.log10(float((x64**2).sum()) / error), "slope": float((x64 * q).sum() / (x64**2).sum()),
        "max_error": float(np.abs(x64 - q).max()),
    }  # fmt: skip


@pytest.mark.parametrize("fmt", ["mxfp4", "nvfp4", "int8_tensor"])
@pytest.mark.parametrize("chunk", [1 << 22, 1 << 9])
def test_the_numbers_of_the_report_are_those_of_the_tensors(nfmt, folder, monkeypatch, fmt, chunk):
    """However small the pieces in which a tensor is read."""
    monkeypatch.setattr(pieces, "CHUNK", chunk)
    code, out, _ = nfmt("m.safetensors", "--to", fmt, "--report", "csv", "-o", "o.safetensors")
    assert code == 0
    found, x = rows(out), tensors()
    for name in ("embed.weight", "layer.0.weight", "layer.1.weight"):
        expected = direct(x[name], fmt)
        for key, value in expected.items():
            assert math.isclose(float(found[name][key]), value, rel_tol=1e-9), (name, key)
        whole = measure(x[name], nf.encode(x[name], fmt))
        for key in ("saturated", "last_bin", "underflow", "scale_clamped"):
            assert math.isclose(float(found[name][key]), getattr(whole, key), rel_tol=1e-12, abs_tol=0), (name, key)
    with SafetensorsFile("m.safetensors") as before, SafetensorsFile("o.safetensors") as after:
        assert sum(int(row["bytes_before"]) for row in found.values()) == sum(i.nbytes for i in before.infos.values())
        assert sum(int(row["bytes_after"]) for row in found.values()) == sum(i.nbytes for i in after.infos.values())


def test_the_report_as_json(nfmt, folder):
    code, out, _ = nfmt("m.safetensors", "--to", "mxfp4", "--json")
    said = json.loads(out)
    assert (code, said["schema"], said["format"], said["layout"]) == (0, 1, "mxfp4", "numfmt")
    assert said["total"]["quantized"] == 3
    by_name = {tensor["name"]: tensor for tensor in said["tensors"]}
    assert by_name["norm.weight"]["statistics"] is None
    assert by_name["norm.weight"]["kept_because"].startswith("fewer than two axes")
    assert by_name["layer.0.weight"]["shape"] == [64, 96]


def test_exact_tensors_have_no_number_that_json_lacks(nfmt, folder):
    save_safetensors("n.safetensors", {"w": np.ones((2, 32), np.float32), "z": np.zeros((2, 32), np.float32)})
    said = json.loads(nfmt("n.safetensors", "--to", "mxfp4", "--json")[1])
    assert [tensor["statistics"]["sqnr_db"] for tensor in said["tensors"]] == [None, None]
    assert "exact" in nfmt("n.safetensors", "--to", "mxfp4")[1]


class Page(html.parser.HTMLParser):
    """Whether every element is closed, which ones there are, and what they point to."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.outside = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.outside += [v for k, v in attrs if k in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_as_a_page_of_its_own(nfmt, folder):
    save_safetensors("n.safetensors", {"<script>alert(1)</script>&": np.ones((2, 32), np.float32)} | tensors())
    code, out, _ = nfmt(
        "n.safetensors", "--to", "mxfp4", "--report", "html", "--report-file", "r.html", "-o", "o.safetensors"
    )
    assert (code, out) == (0, "")
    text = (folder / "r.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert (page.outside, "script" in page.tags, "<script>alert" in text) == ([], False, False)
    assert page.tags.count("tr") == 10
    assert "prefers-color-scheme: dark" in text
    assert "http" not in text


def test_a_report_goes_to_the_file_that_its_name_says(nfmt, folder):
    assert nfmt("m.safetensors", "--to", "mxfp4", "--report", "r.csv")[:2] == (0, "")
    assert rows((folder / "r.csv").read_text()).keys() == tensors().keys()
    assert nfmt("m.safetensors", "--to", "mxfp4", "--report-file", "r.json")[:2] == (0, "")
    assert json.loads((folder / "r.json").read_text())["schema"] == 1


# Randomness


def test_stochastic_rounding_takes_the_words_of_the_tensor(nfmt, folder, monkeypatch):
    from zlib import crc32

    x = tensors()["layer.0.weight"]
    expected = nf.encode(x, "mxfp4", rounding="stochastic", seed=(3, crc32(b"layer.0.weight"))).codes
    for chunk in (1 << 22, 1 << 9):
        monkeypatch.setattr(pieces, "CHUNK", chunk)
        assert (
            nfmt("m.safetensors", "--to", "mxfp4", "--rounding", "stochastic", "--seed", 3, "-o", "o.safetensors")[0]
            == 0
        )
        with open_checkpoint("o.safetensors") as checkpoint:
            assert checkpoint.blocks("layer.0.weight").codes.tolist() == expected.tolist()


@pytest.mark.parametrize("name", NAMED_BLOCKS)
def test_pieces_make_the_whole(name, monkeypatch):
    """Every block format, encoded a few rows at a time, with NaN and infinities in some of them."""
    monkeypatch.setattr(pieces, "CHUNK", 1 << 9)
    fmt = nf.get_format(name)
    x = np.random.default_rng(8).standard_normal((300, 48)).astype(np.float32)
    special = x.copy()
    special.reshape(-1)[[5, 5000, 9000]] = [np.nan, np.inf, -np.inf]
    for array in (x, special, x.astype(ml_dtypes.bfloat16), special.astype(np.float64)):
        for axis in [-1] if fmt.flat or len(fmt.block) != 1 else [-1, 0]:
            ranges = pieces.pieces(array.shape, fmt, axis)
            parts = [array[start:stop] for start, stop in ranges]
            encoder = pieces.PieceEncoder(array.shape, fmt, axis, lambda parts=parts: parts)
            made, q = [encoder.encode(part) for part in parts], nf.encode(array, fmt, axis=axis)
            assert np.concatenate([p.codes for p in made]).tobytes() == q.codes.tobytes()
            scales = [p.scales for p in made]
            assert (scales[0] if fmt.block == () else np.concatenate(scales)).tobytes() == q.scales.tobytes()
            assert all(np.asarray(p.tensor_scale).tobytes() == np.asarray(q.tensor_scale).tobytes() for p in made)


# Bad input


def bad_file(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype="F32", shape=(2, 2), begin=0, end=16):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "has 0 bytes"),
        (bad_file({"w": entry()}, bytes(15)), "w: ends at byte"),
        (bad_file({}, length=10**6), "header ends at byte"),
        (bad_file({}, length=2**63), "100000000 are allowed"),
        (bad_file({"w": entry(), "v": entry(begin=8, end=24)}, bytes(24)), "v: overlaps w"),
        (bad_file({"w": entry("Q4_K")}, bytes(16)), "w: dtype"),
        (bad_file(b'{"\xff": {}}'), "not UTF-8"),
        (bad_file({"w": entry(shape=(-2, -2))}, bytes(16)), "w: shape"),
        (bad_file(b'{"w":%b,"w":%b}' % ((json.dumps(entry()).encode(),) * 2), bytes(16)), "w: is twice"),
        (b"GGUF" + bytes(20), "version 0"),
    ],
)
def test_a_bad_file_is_one_line_and_exit_3_and_nothing_is_written(nfmt, folder, content, says):
    (folder / "b.safetensors").write_bytes(content)
    before = names(folder)
    code, out, err = nfmt("b.safetensors", "--to", "mxfp4", "-o", "o.safetensors", "--report", "r.html")
    assert (code, out) == (3, "")
    assert is_one_line(err)
    assert err.startswith("nfmt: b.safetensors: ")
    assert says in err
    assert names(folder) == before


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--to", "mxfp4", "--axis", "2"], "embed.weight: axis 2 is given"),
        (["--to", "mxfp4", "--axis", "-3"], "embed.weight: axis -3 is given"),
        (["--to", "block(e2m1, scale=e8m0, size=0)"], "embed.weight: size=0 is given"),
        (["--to", "block(e2m1, scale=e8m0, size=-4)"], "embed.weight: size=-4 is given"),
        (["--to", "mxfp4", "--map", "layer.0.*=bfp(m=4, size=0)"], "layer.0.bias: size=0"),
        (
            ["--to", "nvfp4", "--layout", "modelopt", "--map", "norm*=nvfp4", "--axis", "1"],
            "norm.weight: axis 1 is given",
        ),
        (["--to", "q8_0", "--layout", "gguf", "-o", "o.gguf"], "fp8.weight: GGUF has no type for F8_E4M3"),
    ],
)
def test_what_the_tensors_do_not_allow_is_exit_3(nfmt, folder, argv, says):
    code, out, err = nfmt("m.safetensors", "-o", "o.safetensors", *argv)
    assert (code, out) == (3, "")
    assert is_one_line(err)
    assert err.startswith("nfmt: m.safetensors: ")
    assert says in err
    assert names(folder) == ["m.safetensors"]


def test_names_that_collide_or_are_too_long_are_named(nfmt, folder):
    save_safetensors("n.safetensors", {"w": np.ones((2, 32), np.float32), "w.scales": np.ones(2, np.float32)})
    code, _, err = nfmt("n.safetensors", "--to", "mxfp4", "-o", "o.safetensors")
    assert (code, err) == (3, "nfmt: n.safetensors: w.scales: its part w.scales has the name of another tensor\n")
    save_safetensors("n.safetensors", {"w" * 64: np.ones((2, 32), np.float32)})
    code, _, err = nfmt("n.safetensors", "--to", "q8_0", "--layout", "gguf", "-o", "o.gguf")
    assert (code, err) == (3, f"nfmt: n.safetensors: {'w' * 64}: its name has 64 bytes, GGUF allows 63\n")
    assert names(folder) == ["m.safetensors", "n.safetensors"]


def test_a_row_that_is_no_whole_number_of_blocks_is_named(nfmt, folder):
    save_safetensors("n.safetensors", {"w": np.ones((2, 33), np.float32)})
    code, _, err = nfmt("n.safetensors", "--to", "mxfp4", "--layout", "gpt-oss", "-o", "o.safetensors")
    assert (code, err) == (
        3,
        "nfmt: n.safetensors: w: its last axis has 33 elements; layout gpt-oss takes multiples of 32\n",
    )


def test_a_bad_value_deep_in_the_file_leaves_nothing(nfmt, folder):
    (folder / "b.safetensors").write_bytes(
        bad_file({"w": entry(), "z": entry("BOOL", (16,), 16, 32)}, bytes(16) + b"\7" * 16)
    )
    assert nfmt("b.safetensors", "--to", "mxfp4", "-o", "o.safetensors")[0] == 0  # kept tensors are bytes
    (folder / "o.safetensors").unlink()
    assert names(folder) == ["b.safetensors", "m.safetensors"]


def test_mutated_files_never_end_in_a_fault(nfmt, folder):
    """Whatever the bytes: a report, or one line; 0, 2 (nothing left to quantize) or 3; no output but with 0."""
    whole = (folder / "m.safetensors").read_bytes()
    rng, codes = random.Random(9), set()
    for _ in range(400):
        (folder / "b.safetensors").write_bytes(mutated(whole, rng))
        code, _, err = nfmt(
            "b.safetensors", "--to", rng.choice(["mxfp4", "nvfp4", "int8_tensor"]), "-o", "o.safetensors"
        )
        assert code in (0, 3) or (code == 2 and "no tensor is quantized" in err), err
        assert err == "" if code == 0 else is_one_line(err)
        assert (folder / "o.safetensors").exists() == (code == 0)
        (folder / "o.safetensors").unlink(missing_ok=True)
        codes.add(code)
    assert {0, 3} <= codes


# Usage


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "--to"),
        (["--to", "mxfp5"], "mxfp4"),
        (["--to", "mxfp4", "--map", "x=mxfp5"], "mxfp4"),
        (["--to", "mxfp4", "--map", "nothing*=keep"], "--map nothing*=... matches no tensor"),
        (["--to", "mxfp4", "--map", "ids=block(e2m1, size=0)"], "size=0"),
        (["--to", "mxfp4", "--map", "keep"], "PATTERN=FORMAT"),
        (["--to", "nvfp4", "--layout", "gpt-oss"], "holds mxfp4, not nvfp4"),
        (["--to", "mxfp4", "--layout", "safetensors"], "invalid choice"),
        (["--to", "mxfp4", "--layout", "gpt-oss", "--axis", "0"], "last axis"),
        (["--to", "mxfp4", "--axis", "x"], "no integer"),
        (["--to", "mxfp4", "--rounding", "stochastic"], "--seed"),
        (["--to", "mxfp4", "--seed", "1"], "takes no random bits"),
        (["--to", "mxfp4", "--rounding", "RNX"], "unknown rounding"),
        (["--to", "q8_0", "--rounding", "toward_zero"], "fixes the rounding"),
        (["--to", "mxfp4", "--report", "pdf"], "text, csv, json, html"),
        (["--to", "mxfp4", "--report", "a.csv", "--report-file", "b.csv"], "two files"),
        (["--to", "mxfp4", "--json", "--report", "csv"], "one of them"),
        (["--to", "mxfp4", "-o", "m.safetensors"], "is the input"),
        (["--to", "mxfp4", "-o", "link"], "is the input"),
        (["--to", "mxfp4", "--report", "m.safetensors.csv", "-o", "m.safetensors.csv"], "name two files"),
        (["--to", "mxfp4", "-o", "-"], "goes to a file"),
        (["--to", "mxfp4", "-o", "none/o.safetensors"], "cannot write"),
        (["--to", "mxfp4", "-o", "."], "directory"),
        (["--to", "mxfp4", "-o", "o.gguf"], "another kind of file"),
        (["--to", "mxfp4", "--layout", "gguf", "-o", "o.safetensors"], "another kind of file"),
        (["--to", "keep"], "no tensor is quantized"),
        (["--to", "mxfp4", "--dtype", "F32"], "--layout dequantized"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(nfmt, folder, argv, says):
    (folder / "link").symlink_to("m.safetensors")
    before = names(folder)
    code, out, err = nfmt("m.safetensors", *argv)
    assert (code, out) == (2, "")
    assert is_one_line(err)
    assert says in err
    assert names(folder) == before


def test_a_file_without_tensors_has_nothing_to_quantize(nfmt, folder):
    save_safetensors("n.safetensors", {})
    code, _, err = nfmt("n.safetensors", "--to", "mxfp4")
    assert (code, "no tensor is quantized" in err) == (2, True)


def test_a_missing_file_is_exit_3(nfmt, folder):
    code, _, err = nfmt("none.safetensors", "--to", "mxfp4")
    assert code == 3
    assert is_one_line(err)
    assert "none.safetensors" in err
    assert nfmt(".", "--to", "mxfp4")[0] == 3


# Whole or not at all


def test_a_crash_while_writing_leaves_what_was_there(nfmt, folder, monkeypatch):
    (folder / "o.safetensors").write_bytes(b"older")
    (folder / "r.csv").write_bytes(b"older")
    before = names(folder)

    def fail(self, name, tensor):
        assert len(names(folder)) == len(before) + 2
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numfmt.checkpoints.CheckpointWriter.put", fail)
    code, out, err = nfmt("m.safetensors", "--to", "mxfp4", "-o", "o.safetensors", "--report", "r.csv")
    assert (code, out) == (2, "")
    assert is_one_line(err)
    assert "No space left" in err
    assert names(folder) == before
    assert (folder / "o.safetensors").read_bytes() == (folder / "r.csv").read_bytes() == b"older"


def test_an_interrupted_run_leaves_nothing(nfmt, folder, monkeypatch):
    def interrupt(self, name, tensor):
        raise KeyboardInterrupt

    monkeypatch.setattr("numfmt.checkpoints.CheckpointWriter.put", interrupt)
    assert nfmt("m.safetensors", "--to", "mxfp4", "-o", "o.safetensors") == (130, "", "nfmt: interrupted\n")
    assert names(folder) == ["m.safetensors"]


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="/proc says how much memory a process took")
def test_memory_stays_below_twice_the_largest_tensor(folder):
    """Beyond what a file of 1 MB takes, for which everything is loaded too."""
    x = np.random.default_rng(0).standard_normal((1 << 12, 1 << 12)).astype(np.float32)
    save_safetensors("small.safetensors", {"w": x[:64]})
    save_safetensors("large.safetensors", {"w": x})
    script = "import sys; from numfmt.cli import main; main(sys.argv[1:]); print(open('/proc/self/status').read())"
    peaks = []
    for name in ("small.safetensors", "large.safetensors"):
        command = [
            sys.executable,
            "-c",
            script,
            "quantize",
            name,
            "--to",
            "nvfp4",
            "--layout",
            "dequantized",
            "-o",
            "o",
        ]
        done = subprocess.run(command, env=ENV, capture_output=True, text=True, check=True)
        peaks.append(int(re.search(r"VmHWM:\s+(\d+) kB", done.stdout)[1]) * 1024)
    assert peaks[1] - peaks[0] < 2 * x.nbytes, peaks


def test_progress_is_said_when_asked_for_and_not_into_a_pipe(folder):
    command = [sys.executable, "-m", "numfmt", "quantize", "m.safetensors", "--to", "mxfp4"]
    done = subprocess.run([*command, "--progress"], env=ENV, capture_output=True, text=True, check=True)
    assert "100 % of" in done.stderr
    done = subprocess.run(command, env=ENV, capture_output=True, text=True, check=True)
    assert done.stderr == ""
