"""nfmt vectors: testfloat_gen's options, files and pipes, exit codes, reports."""

import io
import json
import subprocess
import sys

import pytest

from numfmt import vectors
from numfmt.cli import main

from .test_cli import ENV, is_one_line


@pytest.fixture
def nfmt(capfdbinary, monkeypatch, tmp_path):
    """Runs nfmt vectors in an empty folder; exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*argv, stdin=None):
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main(["vectors", *map(str, argv)])
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return run


def rows(text):
    return [line.split() for line in text.splitlines()]


# generate


def test_rows_go_to_stdout_as_testfloat_gen_writes_them(nfmt):
    code, out, err = nfmt("generate", "f16_add", "--style", "random", "-n", "20")
    assert (code, err) == (0, "")
    assert [[len(word) for word in row] for row in rows(out)] == [[4, 4, 4, 2]] * 20


@pytest.mark.parametrize(("option", "mode"), [
    ("-rnear_even", "ties_to_even"), ("-rnear_maxMag", "ties_to_away"), ("-rminMag", "toward_zero"), ("-rmin", "toward_negative"),
    ("-rmax", "toward_positive"), ("-rodd", "to_odd"),
])  # fmt: skip
def test_rounding_is_named_as_testfloat_does_or_as_numfmt_does(nfmt, option, mode):
    argv = ("generate", "f16_mul", "--style", "random", "-n", "50")
    first = nfmt(*argv, option)
    assert first[0] == 0
    assert first == nfmt(*argv, "--rounding", mode)
    assert vectors.check(io.BytesIO(first[1].encode()), "f16_mul", rounding=mode).passed


def test_options_of_testfloat_gen_are_known(nfmt):
    argv = ("-seed", "7", "-level", "1", "-tininessbefore", "-exact", "-n", "30")
    code, out, _ = nfmt("generate", "f16_to_i32", *argv)
    assert (code, len(rows(out))) == (0, 30)
    assert vectors.check(io.BytesIO(out.encode()), "f16_to_i32", tininess="before", exact=True).passed
    assert nfmt("generate", "f16_to_i32", *argv[2:], "-seed", "8")[1] != out
    assert nfmt("generate", "f16_mul", "-tininessafter", "-notexact", "-n5")[0] == 0
    code, out, _ = nfmt("generate", "f16_mul", "-prefix", "near_even", "-n", "2")
    assert out.splitlines()[0] == "near_even"


def test_a_format_alone_gives_operands_alone(nfmt):
    code, out, _ = nfmt("generate", "f32", "2", "-n", "10")
    assert (code, [[len(word) for word in row] for row in rows(out)]) == (0, [[8, 8]] * 10)
    assert [len(row) for row in rows(nfmt("generate", "e4m3fn", "--style", "exhaustive")[1])] == [1] * 256


@pytest.mark.parametrize("extension", ["txt", "hex", "csv", "jsonl", "npz", "odd"])
def test_files_are_written_checked_and_covered(nfmt, tmp_path, extension):
    path = f"x.{extension}"
    code, out, err = nfmt("generate", "e5m2_mul", "-o", path)
    assert (code, err) == (0, "")
    assert out.startswith(f"{path}: ")
    assert sorted(p.name for p in tmp_path.iterdir()) == [path, f"{path}.json"]
    code, out, _ = nfmt("check", path)
    assert (code, out.split(": ")[-1]) == (0, "none differs\n")
    assert nfmt("cover", path, "--strict")[0] == 0


def test_format_and_manifest_go_where_they_are_told(nfmt, tmp_path):
    assert nfmt("generate", "e5m2_mul", "-n", "5", "--format", "csv", "-o", "x.dat", "--manifest", "m.json")[0] == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.json", "x.dat"]
    assert nfmt("check", "x.dat", "--manifest", "m.json")[0] == 0


def test_the_manifest_is_shown_as_json(nfmt, tmp_path):
    code, out, _ = nfmt("generate", "e5m2_mul", "-o", "x.txt", "--json")
    shown = json.loads(out)
    assert (code, shown["schema"], shown["function"], shown["file"]["name"]) == (0, 1, "e5m2_mul", "x.txt")
    assert shown == json.loads((tmp_path / "x.txt.json").read_bytes())


def test_a_device_that_is_written_to_stays_one(nfmt):
    assert nfmt("generate", "e5m2_mul", "-n", "5", "-o", "/dev/null", "--manifest", "m.json")[0] == 0


# check


def test_a_pipe_from_generator_to_checker_agrees(nfmt):
    _, out, _ = nfmt("generate", "f16_mulAdd", "-rmax", "-n", "200")
    assert nfmt("check", "-", "--function", "f16_mulAdd", "-rmax", stdin=out.encode())[0] == 0
    assert nfmt("check", "-", "--function", "f16_mulAdd", "-rmin", stdin=out.encode())[0] == 1


def test_mismatches_are_explained_and_counted(nfmt):
    code, out, err = nfmt("check", "-", "--function", "e4m3fn_mul", stdin=b"3C 3D 42 01\n3C 3D 41 01\n3C 3D 43 01\n")
    assert (code, err) == (1, "")
    assert "stdin: line 2: e4m3fn_mul: wrong rounding direction" in out
    assert "likely causes" in out
    assert out.endswith("3 rows of e4m3fn_mul: 2 differ\n")


def test_the_report_is_shown_as_json(nfmt):
    code, out, _ = nfmt("check", "-", "--function", "e4m3fn_mul", "--json", "-errors", "1", stdin=b"3C 3D 41 01\n" * 3)
    shown = json.loads(out)
    assert (code, shown["schema"], shown["passed"], shown["rows"], shown["mismatches"]) == (1, 1, False, 3, 3)
    assert len(shown["examples"]) == 1
    example = shown["examples"][0]
    assert (example["line"], example["operands"], example["expected"], example["got"]) == (1, [0x3C, 0x3D], 0x42, 0x41)
    assert sum(shown["causes"].values()) == 3


def test_errors_limits_what_is_explained(nfmt):
    argv = ("check", "-", "--function", "e4m3fn_mul")
    text = b"3C 3D 41 01\n" * 30
    assert nfmt(*argv, stdin=text)[1].count("stdin: line") == 20
    assert nfmt(*argv, "-errors", "2", stdin=text)[1].count("stdin: line") == 2
    assert nfmt(*argv, "-errors", "0", stdin=text)[1].count("stdin: line") == 30
    assert "28 more mismatches are not shown" in nfmt(*argv, "-errors", "2", stdin=text)[1]


def test_bits_of_nans_are_compared_if_asked_for(nfmt):
    argv = ("check", "-", "--function", "bf16_mul")
    assert nfmt(*argv, stdin=b"7FC0 3F80 FFC1 00\n")[0] == 0
    assert nfmt(*argv, "-checkNaNs", stdin=b"7FC0 3F80 FFC1 00\n")[0] == 1


def test_flags_are_left_out_if_asked_for(nfmt):
    argv = ("check", "-", "--function", "e4m3fn_mul")
    assert nfmt(*argv, stdin=b"3C 3D 42 00\n")[0] == 1
    assert nfmt(*argv, "--no-flags", stdin=b"3C 3D 42 00\n")[0] == 0
    assert nfmt(*argv, "--no-flags", stdin=b"3C 3D 42\n")[0] == 0


def test_lines_of_the_suite_that_are_skipped_are_listed(nfmt, tmp_path):
    (tmp_path / "x.fptest").write_text("b32+ =0 +Zero +Zero -> +Zero\nd64+ =0 +1E0 +1E0 -> +2E0\n")
    code, out, _ = nfmt("check", "x.fptest")
    assert code == 0
    assert "1 lines are skipped, not checked" in out
    assert "x.fptest: line 2: decimal" in out


# cover, list


def test_missed_classes_are_listed(nfmt):
    code, out, _ = nfmt("cover", "-", "--function", "e4m3fn_mul", stdin=b"3C 3D 42 01\n")
    assert code == 0
    assert "missed\n" in out
    assert nfmt("cover", "-", "--function", "e4m3fn_mul", "--strict", stdin=b"3C 3D 42 01\n")[0] == 1
    shown = json.loads(nfmt("cover", "-", "--function", "e4m3fn_mul", "--json", stdin=b"3C 3D 42 01\n")[1])
    assert shown["coverage"][0]["reached"]["product in [2, 4)"] == 1
    assert "zero operand" in shown["coverage"][0]["missed"]


def test_functions_are_listed(nfmt):
    assert "<format>_mulAdd" in nfmt("list")[1]
    assert nfmt("list", "mxfp4")[1].split() == ["mxfp4_encode32", "mxfp4_dot32"]
    assert json.loads(nfmt("list", "e5m2", "--json")[1])["functions"][0] == "e5m2_add"
    for line in nfmt("list")[1].splitlines():
        vectors.parse(line.split("  ")[-1].strip())


def test_help_teaches_with_examples_that_run(nfmt, tmp_path):
    assert "nfmt vectors check dut.txt" in nfmt("--help")[1]
    for action in ("generate", "check", "cover", "list"):
        code, out, _ = nfmt(action, "--help")
        assert code == 0
        assert "examples:" in out
    for line in nfmt("generate", "--help")[1].split("examples:")[1].splitlines():
        words = line.split("  to stdout")[0].split()
        if words and "-forever" not in words and "1000000" not in words:
            assert nfmt(*words[2:], "--no-coverage")[0] == 0, line


# What goes wrong


@pytest.mark.parametrize(("argv", "code", "says"), [
    (["generate", "e4m3fm_mul"], 2, "unknown format 'e4m3fm'"), (["generate", "f32_add", "--style", "exhaustive"], 2, "2**64 rows"),
    (["generate", "f32_add", "-level", "3"], 2, "invalid choice"), (["generate", "f32_add", "-n", "0"], 2, "1 is least"),
    (["generate", "f32_add", "-n", "x"], 2, "invalid int"), (["generate", "f32_add", "-forever", "-n", "3"], 2, "-forever and -n"),
    (["generate", "f32_add", "-forever", "-o", "x.txt"], 2, "go to stdout"), (["generate", "f32_add", "-rup"], 2, "unrecognized"),
    (["generate", "f32_add", "--rounding", "up"], 2, "unknown rounding mode"), (["generate"], 2, "required: FUNCTION"),
    (["generate", "f32_add", "-o", "x.fptest"], 2, "read only"), (["generate", "f32_add", "-o", "no/x.txt"], 2, "cannot write"),
    (["generate", "f32_add", "-prefix", "a\nb"], 2, "one line"), (["generate", "mx9_encode16"], 2, "one scale code"),
    (["check", "missing.txt"], 3, "No such file"), (["check", "."], 3, "directory"), (["check"], 2, "required: FILE"),
    (["check", "-"], 2, "give --function"), (["check", "-", "--function", "f16_add"], 3, "no rows"),
    (["check", "-", "--manifest", "missing.json"], 3, "No such file"), (["check", "-", "-errors", "-1"], 2, "-errors"),
    (["cover", "missing.txt"], 3, "No such file"), (["list", "e9m9x"], 2, "unknown format"), ([], 2, "required: ACTION"),
    (["guess"], 2, "invalid choice"),
])  # fmt: skip
def test_errors_are_one_line_with_an_exit_code(nfmt, tmp_path, argv, code, says):
    got, out, err = nfmt(*argv, stdin=b"")
    assert got == code
    assert out == ""
    assert is_one_line(err)
    assert says in err
    assert [p.name for p in tmp_path.iterdir()] == []


def test_a_bad_line_is_exit_code_3(nfmt, tmp_path):
    (tmp_path / "f16_add.near_even.txt").write_text("0000 F4F6 F4F6 00\n0000 F4F6 F4F 00\n")
    code, out, err = nfmt("check", "f16_add.near_even.txt")
    assert (code, out) == (3, "")
    assert err == "nfmt: f16_add.near_even.txt: line 2: result is 'F4F', 3 digits; 16 bits are written as 4\n"


def test_endless_rows_end_when_nobody_reads():
    command = [sys.executable, "-m", "numfmt", "vectors", "generate", "e4m3fn_mul", "-forever", "--style", "random"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV) as process:
        assert process.stdout.readline().count(b" ") == 3
        process.stdout.close()
        assert process.wait(60) == 0
        assert process.stderr.read() == b""


def test_progress_is_said_on_stderr_if_asked_for(nfmt):
    code, out, err = nfmt("generate", "e4m3fn_mul", "--style", "exhaustive", "--progress", "-o", "x.txt")
    assert code == 0
    assert "100 % of 65536" in err
    assert "%" not in out


def test_starting_nfmt_does_not_load_vectors():
    script = "import sys; from numfmt.cli import main; main(['list']); print([m for m in sys.modules if m.startswith('numfmt.vectors')])"
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=ENV, check=True)
    assert made.stdout.splitlines()[-1] == "[]"
