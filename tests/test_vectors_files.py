"""Vector files: every syntax round, every kind of damage an error with its line, IBM's suite as it is, streams in little memory."""

import io
import itertools
import json
import resource
import zipfile
from contextlib import suppress

import numpy as np
import pytest

from numfmt import vectors
from numfmt.vectors import archives, fptest, lines
from numfmt.vectors.files import named_function, opened, sniffed
from numfmt.vectors.functions import Rules, parse
from numfmt.vectors.rows import VectorFileError, columns_of, fields_of

TEXTS = ["testfloat", "readmemh", "csv", "jsonl"]
SYNTAXES = [*TEXTS, "npz"]
EXTENSIONS = {"testfloat": "txt", "readmemh": "hex", "csv": "csv", "jsonl": "jsonl", "npz": "npz"}
# Fields of every width: whole digits or not, flags or none, one code or many, beyond 64 bits, truth values.
FUNCTIONS = [
    "f16_add", "f32_to_e4m3fn", "f64_mulAdd", "e2m3_mul", "e2m1_sqrt", "f16_le", "bf16_to_i32", "ui64_to_f32", "e4m3fn_scaleB",
    "q3.12_mul", "f32_to_nf4", "f128_add", "mxfp4_encode32", "nvfp4_encode16", "mxfp4_encode20", "e4m3fn_dot4", "mxfp8_e4m3_dot32",
]  # fmt: skip


def written(function, syntax="testfloat", count=40, **options):
    """The bytes of a file."""
    stream = io.BytesIO()
    vectors.write(stream, function, syntax=syntax, style="random", count=count, coverage=False, **options)
    return stream.getvalue()


def read(data, function, syntax, rules=None):
    """All rows of a file as one list of columns."""
    rules = rules or Rules()
    fields = fields_of(parse(function), rules)
    with opened(io.BytesIO(data), syntax) as file:
        chunks = [columns_of(rows, fields) for rows in file.rows(parse(function), rules)]
    return [np.concatenate(parts) for parts in zip(*chunks, strict=True)]


def failure(data, function=None, syntax=None, **options):
    """The error of a file that is checked."""
    with pytest.raises(VectorFileError) as caught:
        vectors.check(io.BytesIO(data), function, syntax=syntax, **options)
    assert "\n" not in str(caught.value)
    return caught.value


# Round


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_is_written_is_read(function, syntax):
    made = next(vectors.generate(function, style="random", count=40))
    found = read(written(function, syntax), function, syntax)
    fields = fields_of(parse(function), Rules())
    for one, column, expected in zip(fields, found, columns_of(made, fields), strict=True):
        assert column.dtype == expected.dtype, one
        assert column.shape == expected.shape, one
        assert (column == expected).all(), one


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("function", ["f32_to_e4m3fn", "mxfp4_encode32", "f16_add"])
def test_random_numbers_are_in_the_file(function, syntax):
    rules = Rules("stochastic_a", random_bit_count=7)
    data = written(function, syntax, rules=rules)
    random = next(column for one, column in zip(fields_of(parse(function), rules), read(data, function, syntax, rules), strict=True)
                  if one.role == "random")  # fmt: skip
    assert int(random.max()) < 128
    assert len(np.unique(random)) > 20
    assert vectors.check(io.BytesIO(data), function, syntax=syntax, rules=rules).passed


def test_lines_are_those_of_testfloat():
    data = written("f16_mulAdd", count=3).decode().splitlines()
    for line in data:
        assert [len(word) for word in line.split(" ")] == [4, 4, 4, 4, 2]
        assert line == line.upper()
    assert written("f16_le", count=1).decode().split()[2] in "01"  # a truth value is one digit


def test_packed_words_say_where_their_fields_are():
    text = written("e4m3fn_mul", "readmemh", 2).decode()
    assert "[31:24]  a\n" in text
    assert "[7:0]  flags\n" in text
    word = text.splitlines()[-1].replace("_", "")
    a, b, result, flags = (int(word[i : i + 2], 16) for i in (0, 2, 4, 6))
    expected, raised = vectors.evaluate(parse("e4m3fn_mul"), [np.uint8([a]), np.uint8([b])], Rules())
    assert (result, flags) == (expected[0], raised[0])


def test_words_of_readmemh_need_no_underscores_and_may_have_comments():
    data = b"@0\n// dut\n3C3D4201 // first\n3C_3D_42_01\n\n"
    assert vectors.check(io.BytesIO(data), "e4m3fn_mul", syntax="readmemh").rows == 2


def edited(data, edit):
    """The file with its rows, not its header, edited."""
    header = [line for line in data.splitlines(keepends=True) if line.startswith((b"//", b"a,")) or b"schema" in line]
    rows = data.splitlines(keepends=True)[len(header) :]
    return b"".join(header + [edit(row) for row in rows])


@pytest.mark.parametrize("syntax", TEXTS)
def test_lower_case_carriage_returns_and_other_spacing_are_read(syntax):
    data = written("f16_add", syntax)
    old, new = {"testfloat": (b" ", b" \t "), "readmemh": (b"_", b""), "csv": (b",", b" , "), "jsonl": (b":", b" : ")}[
        syntax
    ]
    others = [
        edited(data, lambda row: row.replace(old, new)), data.replace(b"\n", b"\r\n"), data.rstrip(b"\n"),
        edited(data, bytes.lower), edited(data, lambda row: row + b"\n"),
    ]  # fmt: skip
    for other in others:
        assert vectors.check(io.BytesIO(other), "f16_add", syntax=syntax).rows == 40


def test_columns_of_csv_are_found_by_name_and_decimals_are_read():
    data = b"flags,result,b,a\n1,66,0x3D,60\n0x1,0x42,61,0x3C\n"
    report = vectors.check(io.BytesIO(data), "e4m3fn_mul", syntax="csv")
    assert (report.rows, report.mismatches) == (2, 0)


def test_numbers_of_json_lines_are_read():
    data = b'{"a":60,"b":"0x3d","result":66,"flags":1}\n'
    assert vectors.check(io.BytesIO(data), "e4m3fn_mul", syntax="jsonl").passed


@pytest.mark.parametrize("syntax", ["readmemh", "jsonl", "npz"])
def test_files_that_describe_themselves_need_no_more(syntax):
    data = written("f32_to_e5m2", syntax, rounding="toward_zero", overflow="saturate")
    report = vectors.check(io.BytesIO(data))
    assert (report.passed, report.rules[0].overflow.value) == (True, "saturate")


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_the_syntax_of_a_stream_is_seen(syntax):
    assert sniffed(written("e4m3fn_mul", syntax)[:4096]) == syntax


def test_names_of_testfloat_files_say_function_and_mode():
    function, rules = named_function("dir.x/f16_add.near_maxMag.every37.txt")
    assert (function.name, rules.rounding.value) == ("f16_add", "ties_to_away")
    assert named_function("bf16_to_f32.txt")[1].rounding is None
    assert named_function("dut.txt") is None


# Damage


def test_a_column_too_few_is_an_error():
    data = written("f16_add", count=5000).splitlines()
    data[4000] = data[4000].rsplit(b" ", 1)[0]
    error = failure(b"\n".join(data) + b"\n", "f16_add")
    assert error.line == 4001
    assert "3 columns; a row has 4 (a, b, result, flags), flags is missing" in str(error)


def test_a_column_too_many_is_an_error():
    assert "5 columns" in str(failure(b"3C 3D 42 01 00\n", "e4m3fn_mul"))


@pytest.mark.parametrize("syntax", TEXTS)
def test_a_wrong_digit_is_an_error_with_its_line(syntax):
    data = written("e4m3fn_mul", syntax, 3000).splitlines(keepends=True)
    at = 2500
    last = max(i for i, c in enumerate(data[at]) if chr(c) in "0123456789ABCDEF")
    data[at] = data[at][:last] + b"G" + data[at][last + 1 :]
    error = failure(b"".join(data), "e4m3fn_mul", syntax)
    assert error.line == at + 1
    assert "flags" in str(error)


def test_unknown_values_of_a_simulator_are_named():
    assert "unknown value" in str(failure(b"3C 3D xx 01\n", "e4m3fn_mul"))
    assert "unknown value" in str(failure(b"3C3DXX01\n", "e4m3fn_mul", "readmemh"))


@pytest.mark.parametrize(("row", "says"), [
    ("FC 3D 42 01", "a is 0xfc, which is more than 6 bits"), ("3C 3D 142 01", "3 digits; 6 bits are written as 2"),
    ("3C 3D 2 01", "1 digits"), ("3C 3D 42 20", "result is 0x42"), ("3C 3D 02 20", "flags is 0x20, which is more than 5 bits"),
])  # fmt: skip
def test_a_value_too_wide_is_an_error(row, says):
    assert says in str(failure(row.encode() + b"\n", "e2m3_mul"))


@pytest.mark.parametrize("syntax", TEXTS)
def test_a_file_cut_in_the_middle_of_a_line_is_an_error(syntax):
    data = written("f16_add", syntax, 100)
    error = failure(data[:-3], "f16_add", syntax)
    assert error.line == data.count(b"\n")
    assert "the file ends in the middle" in str(error)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_an_empty_file_is_an_error(syntax):
    assert "no rows" in str(failure(b"", "f16_add", syntax)) or syntax == "npz"
    if syntax != "npz":
        assert "no rows" in str(failure(b"\n\n", "f16_add", syntax)) or syntax == "csv"


def test_a_file_with_a_header_alone_is_an_error():
    for syntax in ("readmemh", "csv", "jsonl"):
        header = written("f16_add", syntax, 1).splitlines(keepends=True)[:-1]
        assert "no rows" in str(failure(b"".join(header), "f16_add", syntax))


@pytest.mark.parametrize("syntax", TEXTS)
def test_bytes_that_are_no_text_are_an_error(syntax):
    data = written("f16_add", syntax, 30)
    for junk in (b"\xff\xfe", b"\x00\x00\x00", "é".encode(), bytes(range(128, 256))):
        failure(data + junk + b"\n", "f16_add", syntax)
    failure(bytes(range(256)) * 4, "f16_add", syntax)


@pytest.mark.parametrize(("line", "says"), [
    (b'{"a":60,"b":61,"flags":1}', "result is missing"), (b'{"a":60', "no JSON object"), (b"[1,2]", "no JSON object"),
    (b'{"a":true,"b":61,"result":66,"flags":1}', "a is 'True'"), (b'{"a":-1,"b":61,"result":66,"flags":1}', "a is -0x1"),
    (b'{"a":60,"b":61,"result":66,"flags":1,"z":0}', "'z' is none of a, b, result, flags"), (b"[" * 60000, "no JSON object"),
    (b'{"a":1e3,"b":61,"result":66,"flags":1}', "a is '1000.0'"),
])  # fmt: skip
def test_objects_that_are_no_rows_are_errors(line, says):
    assert says in str(failure(line + b"\n", "e4m3fn_mul", "jsonl"))


def test_columns_of_csv_must_be_there():
    assert "no column flags" in str(failure(b"a,b,result\n1,2,3\n", "e4m3fn_mul", "csv"))
    assert "'z', which is no column" in str(failure(b"a,b,result,flags,z\n1,2,3,4,5\n", "e4m3fn_mul", "csv"))
    assert "3 columns; a row has 4" in str(failure(b"a,b,result,flags\n1,2,3\n", "e4m3fn_mul", "csv"))
    assert "written 0x7e or" in str(failure(b"a,b,result,flags\n1,2,3C,0\n", "e4m3fn_mul", "csv"))


class Endless:
    """A stream of one byte, as long as somebody reads; it counts what was read."""

    def __init__(self, byte, limit=None):
        self.byte, self.limit, self.read_so_far = byte, limit, 0

    def read(self, n):
        n = n if self.limit is None else min(n, self.limit - self.read_so_far)
        self.read_so_far += n
        return self.byte * n


@pytest.mark.parametrize("syntax", [*TEXTS, "fptest"])
@pytest.mark.parametrize("byte", [b"0", b" ", b"{", b"\x00", b"/"])
def test_a_gigabyte_on_one_line_is_refused_early(syntax, byte):
    stream = Endless(byte, 1 << 30)
    function = None if syntax == "fptest" else "f16_add"
    with pytest.raises(VectorFileError, match=r"line 1: longer than 65536 bytes"):
        vectors.check(stream, function, syntax=syntax)
    assert stream.read_so_far < 1 << 23


def test_a_long_line_between_others_is_refused():
    data = written("f16_add") + b"0" * 70000 + b"\n" + written("f16_add")
    assert failure(data, "f16_add").line == 41


class Repeated:
    """A stream that repeats a block, `times` times, without holding it."""

    def __init__(self, block, times):
        self.left, self.block, self.rest = times, block, b""

    def read(self, n):
        while len(self.rest) < n and self.left:
            self.rest += self.block
            self.left -= 1
        data, self.rest = self.rest[:n], self.rest[n:]
        return data


def test_a_long_stream_takes_little_memory():
    block = written("e4m3fn_mul", count=1 << 16)
    vectors.check(io.BytesIO(block), "e4m3fn_mul")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = vectors.check(Repeated(block, 128), "e4m3fn_mul")
    assert (report.rows, report.mismatches) == (128 << 16, 0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB; the stream has 96 MiB


def test_rows_without_end_are_made_in_little_memory():
    made = vectors.generate("e4m3fn_mul", style="random", count=-1, threads=2)
    seen = sum(len(rows) for rows in itertools.islice(made, 20))
    made.close()
    assert seen == 20 << 16


# npz


def npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


ROW = {"a": np.uint8([60]), "b": np.uint8([61]), "result": np.uint8([66]), "flags": np.uint8([1])}


@pytest.mark.parametrize(("arrays", "says"), [
    ({k: v for k, v in ROW.items() if k != "b"}, "there is no array b"),
    (ROW | {"b": np.uint8([1, 2])}, "b has 2 rows, a has 1"), (ROW | {"a": np.float32([1])}, "dtype float32"),
    (ROW | {"a": np.uint16([256])}, "line 1: a has a code of more than 8 bits"), (ROW | {"a": np.int8([-1])}, "more than 8 bits"),
    (ROW | {"a": np.uint8([[1]])}, "shape (1, 1)"), (ROW | {"a": np.uint8(3)}, "shape ()"),
    (ROW | {"description": np.array("{}")}, "no manifest"), (ROW | {"description": np.array([1])}, "is no text"),
])  # fmt: skip
def test_arrays_that_are_no_columns_are_errors(arrays, says):
    assert says in str(failure(npz(**arrays), "e4m3fn_mul"))


def test_archives_that_are_damaged_are_errors():
    data = npz(**ROW)
    assert vectors.check(io.BytesIO(data), "e4m3fn_mul").passed
    for cut in range(0, len(data), 37):
        failure(data[:cut], "e4m3fn_mul", "npz")
    for at in range(0, len(data), 29):  # whatever a flipped byte does, it is no traceback
        damaged = data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
        with suppress(VectorFileError):
            vectors.check(io.BytesIO(damaged), "e4m3fn_mul", syntax="npz", flags=False, errors=1)


def test_python_objects_are_not_read():
    stream = io.BytesIO()
    np.savez(stream, **(ROW | {"a": np.array([{}], object)}), allow_pickle=True)
    assert "Python objects" in str(failure(stream.getvalue(), "e4m3fn_mul"))


def test_a_member_that_claims_too_much_is_not_read():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        with archive.open("a.npy", "w") as member:
            np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": (1 << 40,)})
    assert f"has {1 << 40} bytes" in str(failure(stream.getvalue(), "e4m3fn_mul"))


def test_npz_beyond_its_limit_is_refused(monkeypatch):
    monkeypatch.setattr(archives, "MAX_BYTES", 1 << 10)
    with pytest.raises(ValueError, match=r"text streams"):
        written("f16_add", "npz", 1000)


# Manifests beside files


@pytest.fixture
def pair(tmp_path):
    """A vector file and its manifest."""
    path = tmp_path / "x.txt"
    vectors.write(path, "f16_add", style="random", count=300)
    return path, tmp_path / "x.txt.json"


def refused(path, **options):
    with pytest.raises(VectorFileError) as caught:
        vectors.check(path, **options)
    return str(caught.value)


def test_a_file_agrees_with_its_manifest(pair):
    path, side = pair
    stated = json.loads(side.read_bytes())
    assert stated["count"] == 300
    assert stated["file"]["bytes"] == path.stat().st_size
    assert vectors.check(path).passed


def test_a_file_that_lost_lines_contradicts_its_manifest(pair):
    path, _ = pair
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert "299 rows; the manifest" in refused(path)


def test_a_file_with_other_operands_contradicts_its_manifest(pair):
    path, _ = pair
    data = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([data[1], data[0], *data[2:]]))
    assert "its operands are not those" in refused(path)


def test_a_file_with_other_bytes_contradicts_its_manifest(pair):
    path, _ = pair
    path.write_bytes(path.read_bytes().lower())
    assert "sha256 is" in refused(path)


@pytest.mark.parametrize(("change", "says"), [
    ({"count": 301}, "300 rows; the manifest"), ({"function": "f32_add"}, "the fields stated are not those of f32_add"),
    ({"function": "nothing_add"}, "unknown format"), ({"schema": 2}, "schema 2, made by numfmt"),
    ({"function": None}, "no manifest"), ({"inputs_sha256": "0"}, "operands are not those"),
    ({"rules": {"rounding": "upwards"}}, "unknown rounding mode"), ({"rules": {"colour": 1}}, "'colour'"), ({"rules": [1]}, "means nothing"),
    ({"rules": {"overflow": "wrap"}}, "rules that f16_add cannot have"), ({"rules": {"platform": "abacus"}}, "unknown platform"),
    ({"file": {"sha256": "0"}}, "sha256 is"), ({"file": {"bytes": 1}}, "bytes is"),
    ({"rules": {"rounding": "stochastic_a", "random_bit_count": "8"}}, "no integer"),
])  # fmt: skip
def test_a_manifest_that_says_something_else_is_an_error(pair, change, says):
    path, side = pair
    side.write_text(json.dumps(json.loads(side.read_bytes()) | change))
    assert says in refused(path)


def test_a_format_that_is_defined_otherwise_is_an_error(pair):
    path, side = pair
    stated = json.loads(side.read_bytes())
    stated["formats"]["float16"]["definition"]["bias"] = 16
    side.write_text(json.dumps(stated))
    assert "format float16 is defined otherwise than here: bias is 16 there, 15 here" in refused(path)
    stated["formats"]["float16"]["definition"]["bias"] = 15
    stated["formats"]["float16"]["sha256"] = "0"
    side.write_text(json.dumps(stated))
    assert "its SHA-256 is not that of its definition" in refused(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "[" * 100000, "\ufeff{}", '{"function": 1}'])
def test_a_manifest_that_is_none_is_an_error(pair, text):
    path, side = pair
    side.write_text(text)
    assert "no manifest" in refused(path)
    assert vectors.check(path, "f16_add", manifest="none").passed


def test_answers_are_held_against_the_manifest_of_the_questions(pair, tmp_path):
    path, side = pair
    answers = tmp_path / "dut.out"
    answers.write_bytes(path.read_bytes().lower())  # the device writes in its own way
    assert vectors.check(answers, manifest=side).passed
    lost = answers.read_bytes().splitlines(keepends=True)
    answers.write_bytes(b"".join(lost[:7] + lost[8:]))
    assert "299 rows" in refused(answers, manifest=side)


def test_the_description_inside_must_agree_with_the_manifest_beside(tmp_path):
    path = tmp_path / "x.hex"
    vectors.write(path, "f16_add", style="random", count=5)
    side = tmp_path / "x.hex.json"
    side.write_text(json.dumps(json.loads(side.read_bytes()) | {"function": "f16_sub"}))
    assert "function is f16_sub, but the file says f16_add" in refused(path)


# IBM's suite

SAMPLE = """\
Floating point tests for BFP
----------------------------

b32+ =0 i  -1.6E9177P49 -1.7FFFFFP127 -> -1.7FFFFFP127 x
b32V =0  -1.7FFFFFP127 -> Q i
b32*+ =0  +0.7FFFFFP-126 -1.7FFFFFP127 -Inf -> -Inf
b32+ > +1.000000P0 +1.000000P-40 -> +1.000001P0 x
b32- < +1.000000P0 +1.000000P0 -> -Zero
b64/ 0 +1.0000000000000P0 +1.8000000000000P1 -> +1.5555555555555P-2 x
b64* =0 +1.0000000000000P0 S -> Q i
b32/ =0 -1.000000P0 +Zero -> -Inf z
b32* =0 +1.7FFFFFP127 +1.7FFFFFP127 -> +Inf xo
b32* =0 +1.000000P-126 +1.000000P-1 -> +0.400000P-126
b32* =0 +0.000003P-126 +1.000000P-1 -> +0.000002P-126 xuvw
b32b64cff =0 +1.000000P0 -> +1.0000000000000P0
"""


def sample(text):
    """The report of lines of the suite."""
    return vectors.check(io.BytesIO(text.encode()), syntax="fptest", tininess="before")


def test_lines_of_the_suite_are_read_and_agree():
    report = sample(SAMPLE)
    assert (report.rows, report.mismatches, report.skips) == (12, 0, {})
    assert report.functions["f32_mulAdd"] == 1
    assert report.functions["f32_to_f64"] == 1


def test_lines_of_the_suite_that_say_nothing_are_counted_with_their_numbers():
    report = sample(
        SAMPLE + "d64+ =0 +1E0 +1E0 -> +2E0\n"
        "b32V =0 i -Inf -> # i\n"
        "b32* > xu -1.48FDB5P-78 +1.4381CEP-73 -> -1.197F2AP42 xu\n"
        "b32?- =0 i -Inf -> 0x1\n"
        "b32rfi =0 +1.000000P0 -> +1.000000P0\n"
        "b32* =0 +1.000001P-126 +1.7FFFFEP-1 -> +1.000000P-126 xu\n"
    )
    assert report.rows == 12
    assert [line for _, line, _ in report.skipped] == [16, 17, 18, 19, 20, 21]
    assert report.skips["decimal"] == 1
    assert report.skips["a trapped exception is delivered (u)"] == 1


def test_a_file_of_the_suite_that_is_all_skipped_is_no_pass():
    assert "nothing is checked" in str(failure(b"d64+ =0 +1E0 +1E0 -> +2E0\n", syntax="fptest"))


@pytest.mark.parametrize(("line", "says"), [
    ("b32+ =0 +1.000000P0 -> +1.000000P0", "1 operands are given; + takes 2"), ("b32+ =7 +Zero +Zero -> +Zero", "is no case"),
    ("b32+ =0 +1.FFFFFFP0 +Zero -> +Zero", "has no significand"), ("b32+ =0 +1.0000P0 +Zero -> +Zero", "has no significand"),
    ("b32+ =0 +0.000001P-125 +Zero -> +Zero", "a subnormal of float32 has -126"), ("b32+ =0 +1.000000P128 +Zero -> +Zero", "-126 to 127"),
    ("b32+ =0 0x1 +Zero -> +Zero", "is no operand"), ("b32$ =0 +Zero +Zero -> +Zero", "none of the suite's"),
    ("b32+ =0 +Zero +Zero -> +Zero q", "letters of exceptions"), ("b32+ =0 +Zero +Zero -> +Zero x y", "letters of exceptions"),
    ("b32+ =0 +Zero +Zero +Zero", "is no case"), ("rubbish", "is no case"), ("b32+ =0 +Zero +Zero ->", "letters of exceptions"),
])  # fmt: skip
def test_lines_that_are_none_of_the_suite_s_are_errors(line, says):
    error = failure((SAMPLE + line + "\n").encode(), syntax="fptest")
    assert error.line == 16
    assert says in str(error)


def test_a_text_without_cases_is_an_error():
    assert "no cases" in str(failure(b"some prose\nand more\n", syntax="fptest"))
    assert "no cases" in str(failure(b"", syntax="fptest"))


@pytest.mark.parametrize(
    ("letters", "before", "after"), [("xu", 3, 3), ("xv", 3, 3), ("xw", 3, 1), ("xuvw", 3, 3), ("x", 1, 1), ("u", 0, 0)]
)
def test_letters_of_underflow_are_three_definitions(letters, before, after):
    words = f"b32* =0 +0.000003P-126 +1.000000P-1 -> +0.000002P-126 {letters}".split()
    assert fptest.case_of(words, Rules(tininess="before")).flags == before
    assert fptest.case_of(words, Rules(tininess="after")).flags == after


def test_bounds_of_blocks_do_not_matter(monkeypatch):
    data = written("f16_add", count=500) + b"3C00 3c00  4000 00\n" + written("f16_add", count=100)
    expected = [column.tolist() for column in read(data, "f16_add", "testfloat")]
    for size in (1, 7, 20, 4096):
        monkeypatch.setattr(lines, "BLOCK", size)
        assert [column.tolist() for column in read(data, "f16_add", "testfloat")] == expected
        assert sample(SAMPLE).rows == 12
