"""The commands that print: exit codes, messages, colours, JSON."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import numfmt
from numfmt.cli import COMMANDS, main
from numfmt.named import NAMED

ROOT = Path(__file__).resolve().parent.parent
ENV = os.environ | {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def nfmt(capsys, monkeypatch):
    """Runs a command line in this process: exit code, stdout, stderr."""
    monkeypatch.delenv("NO_COLOR", raising=False)

    def run(*argv):
        code = main([str(a) for a in argv])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def process(*argv, **options):
    return subprocess.run([sys.executable, "-m", "numfmt", *argv], env=ENV, capture_output=True, check=False, **options)


def is_one_line(err):
    return err.startswith("nfmt: ") and err.count("\n") == 1 and err.endswith("\n")


# Errors


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["explain", "e4m3fm", "1"], "e4m3fn"),
        (["info", "bfloat61"], "bfloat16"),
        (["table", "foo"], "unknown format"),
        (["lst"], "nearest: list"),
        (["list", "--family", "ocq"], "nearest: ocp"),
        (["explain", "e4m3fn"], "VALUE_OR_CODE"),
        (["explain", "e4m3fn", "one"], "no number"),
        (["explain", "e4m3fn", "0x100"], "8 bits"),
        (["explain", "e4m3fn", "1", "--overflow", "wrap"], "only fixed-point"),
        (["explain", "e4m3fn", "1", "--platform", "nvidea"], "nvidia"),
        (["explain", "e4m3fn", "1.7", "--random-bits", "33"], "1 to 32"),
        (["explain", "e4m3fn", "1.7", "--random-bits", "x"], "no integer"),
        (["explain", "e4m3fn", "1e999999999"], "exponent"),
        (["explain", "e40m3", "1"], "exponent bits"),
        (["info", "e40m3"], "exponent bits"),
        (["table", "float32"], "at most 16"),
        (["table", "e2m1", "--csv", "--md"], "not allowed"),
        (["table", "e2m1", "-o", "/nowhere/at/all"], "cannot write"),
        (["list", "--nonsense"], "unrecognized"),
        ([], "no command"),
    ],
)  # fmt: skip
def test_usage_errors_are_one_line_and_exit_2(nfmt, argv, says):
    code, _, err = nfmt(*argv)
    assert code == 2
    assert is_one_line(err)
    assert says in err


def test_debug_shows_the_traceback():
    done = process("explain", "e4m3fm", "1", "--debug", text=True)
    assert "Traceback" in done.stderr
    assert done.returncode != 0


def test_interruption_is_one_line_and_exit_130(nfmt, monkeypatch):
    def interrupt(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("numfmt._cli.table.run_table", interrupt)
    assert nfmt("table", "e2m1") == (130, "", "nfmt: interrupted\n")


def test_a_fault_of_nfmt_is_one_line_and_exit_70(nfmt, monkeypatch):
    def fault(args):
        raise ZeroDivisionError("by design")

    monkeypatch.setattr("numfmt._cli.table.run_table", fault)
    code, out, err = nfmt("table", "e2m1")
    assert (code, out) == (70, "")
    assert is_one_line(err)


def test_a_closed_pipe_is_quiet():
    command = f"'{sys.executable}' -m numfmt table e6m5 | head -n 1"
    done = subprocess.run(["bash", "-c", command], env=ENV, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1


def test_ascii_terminals_get_ascii():
    done = subprocess.run(
        [sys.executable, "-m", "numfmt", "explain", "e4m3fn", "1.7"],
        env=ENV | {"PYTHONIOENCODING": "ascii"}, capture_output=True, check=True,
    )  # fmt: skip
    done.stdout.decode("ascii")
    assert b"-> 2^(7 - 7)" in done.stdout


# Help and version


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(nfmt, command):
    code, out, err = nfmt(command, "--help")
    assert (code, err) == (0, "")
    assert f"nfmt {command}" in out
    assert "examples:" in out


def examples():
    for command in COMMANDS:
        text = process(command, "--help", text=True).stdout.partition("examples:")[2]
        for line in text.splitlines():
            match = re.match(r" +nfmt ((?:list|info|explain|table|units|diff|selftest)\b[^#]*?)(?: {3,}|$)", line)
            if match and " -o " not in match[1]:
                yield match[1].split()


@pytest.mark.parametrize("argv", [pytest.param(a, id=" ".join(a)) for a in examples()])
def test_examples_of_the_help_run(nfmt, argv):
    code, out, err = nfmt(*argv)
    assert code in ((0, 1) if argv[0] == "diff" else (0,))
    assert out
    assert err == ""


def test_version_is_the_package_s(nfmt):
    assert nfmt("--version") == (0, f"nfmt {numfmt.__version__}\n", "")


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["list"], ["units"], ["explain", "e4m3fn", "1.7"]])
def test_small_commands_load_no_numba(argv):
    code = f"import sys; from numfmt.cli import main; main({argv!r}); print('numba' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True, check=True)
    assert done.stderr == "False\n"


# Colour


def test_pipes_get_no_colour(nfmt):
    assert "\x1b" not in nfmt("explain", "e4m3fn", "1.7")[1]


def test_colour_can_be_asked_for(nfmt, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[38;5;16;48;5;208m0\x1b[0m" in nfmt("explain", "e4m3fn", "1.7", "--color", "always")[1]


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_terminals_get_colour_unless_told_not_to(nfmt, monkeypatch, variables, coloured):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert ("\x1b" in nfmt("explain", "e4m3fn", "1.7")[1]) is coloured
    assert "\x1b" not in nfmt("explain", "e4m3fn", "1.7", "--color", "never")[1]


def test_colour_is_not_the_only_sign(nfmt):
    """Without escape sequences the coloured text is the plain one."""
    plain, coloured = (nfmt("explain", "e5m2", "0.3", "--color", choice)[1] for choice in ("never", "always"))
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain


# list, info


def test_list_shows_what_the_standards_say(nfmt):
    lines = {line.split()[0]: line.split()[1:] for line in nfmt("list")[1].splitlines() if line.startswith("  ")}
    assert lines["float8_e4m3fn"] == ["8", "1/4/3", "7", "448", "2^-6", "2^-9", "nan", "-0"]  # OFP8 table 1
    assert lines["float16"] == [
        "16",
        "1/5/10",
        "15",
        "65504",
        "2^-14",
        "2^-24",
        "inf",
        "nan",
        "-0",
    ]  # IEEE 754 table 3.5
    assert lines["float4_e2m1fn"][3:6] == ["6", "1", "1/2"]  # OCP MX §5.3.3
    assert "binary8p3se" not in lines


def test_p3109_is_listed_when_asked_for(nfmt):
    assert sum(line.startswith("  binary") for line in nfmt("list", "--family", "p3109")[1].splitlines()) == 504


def test_list_as_json_has_every_format(nfmt):
    content = json.loads(nfmt("list", "--json")[1])
    assert content["schema"] == 1
    assert len(content["formats"]) == len(numfmt.list_formats())
    assert {f["name"] for f in content["formats"]} == {str(numfmt.get_format(name)) for name in numfmt.list_formats()}


def test_info_as_json_holds_the_facts(nfmt):
    found = json.loads(nfmt("info", "e5m2", "--json")[1])
    assert found["schema"] == 1
    assert (found["bias"], found["emax"], found["precision"]) == (15, 15, 3)
    assert found["max"] == {"exact": "57344", "decimal": "57344", "hex": "0x1.cp+15"}
    assert (
        found["codes"] | {"infinity": "0x7c", "-infinity": "0xfc", "nan": "0x7e", "largest": "0x7b"} == found["codes"]
    )
    assert "0x7f" in found["platforms"]["torch"]


def test_info_names_what_nobody_confirmed(nfmt):
    assert "unverified" in nfmt("info", "cfloat8_1_4_3")[1]


@pytest.mark.parametrize(
    "name", ["binary256", "x87", "fp4_bnb", "q3.12", "ap_ufixed<3,-2>", "fixed(bits=8, sign_magnitude=yes)", "e8m0"]
)
def test_info_takes_every_kind(nfmt, name):
    code, out, err = nfmt("info", name)
    assert (code, err) == (0, "")
    assert "None" not in out
    assert json.loads(nfmt("info", name, "--json")[1])["bits"] == numfmt.get_format(name).bits


# explain


def test_explain_shows_fields_value_and_reasons(nfmt):
    out = nfmt("explain", "e4m3fn", "1.7")[1]
    for text in ("0 0111 110", "0x3e", "7/4", "1.75", "0x1.cp+0", "normal", "+0.4 ulp", "guard 1, sticky 1", "17/10"):
        assert text in out


@pytest.mark.parametrize("value", ["-0x1.8p3", "-inf", "-1/3", "-1e-5", "-0", "-nan", "-.5"])
def test_negative_values_are_no_options(nfmt, value):
    code, out, err = nfmt("explain", "bf16", value)
    assert (code, err) == (0, "")
    assert out.startswith(value)


def test_explain_as_json(nfmt):
    found = json.loads(nfmt("explain", "e4m3fn", "1.6875", "--json")[1])
    assert (found["schema"], found["code"], found["guard"], found["sticky"], found["is_exact"]) == (
        1,
        "0x3e",
        1,
        0,
        False,
    )
    assert {r["mode"]: r["code"] for r in found["rounding"]}["toward_zero"] == "0x3d"


@pytest.mark.parametrize("name", [*NAMED, "q3.4", "q20.40", "e5m7b20", "codebook(-1, 0, 0, 5)", "binary16p8ue"])
def test_explain_takes_every_format(nfmt, name):
    for value in ("0.3", "-1e30", "-0", "inf", "nan", "0x1"):
        code, out, err = nfmt("explain", name, value)
        assert (code, err) == (0, "")
        assert "report" not in out
    assert json.loads(nfmt("explain", name, "-1/3", "--json")[1])["schema"] == 1


def test_platforms_change_the_result(nfmt):
    codes = {
        p: json.loads(nfmt("explain", "e8m0", "3", "--platform", p, "--json")[1])["code"] for p in ("ocp", "ml_dtypes")
    }
    assert codes == {"ocp": "0x80", "ml_dtypes": "0x81"}  # ties to even, ties up


# table


def test_table_has_a_row_for_every_code(nfmt):
    rows = list(csv.DictReader(nfmt("table", "e4m3fn", "--csv")[1].splitlines()))
    assert len(rows) == 256
    assert rows[0x7E] == {
        "code": "0x7e",
        "bits": "0 1111 110",
        "exact": "448",
        "decimal": "448",
        "hex": "0x1.cp+8",
        "class": "normal",
    }
    assert rows[0x7F]["class"] == "nan"
    assert rows[0x80]["exact"] == "-0"


def test_tables_agree(nfmt):
    rows = json.loads(nfmt("table", "e2m1", "--json")[1])["rows"]
    assert [r["decimal"] for r in rows[:8]] == ["0", "0.5", "1", "1.5", "2", "3", "4", "6"]  # OCP MX §5.3.3
    markdown = [line.strip("| ").split(" | ") for line in nfmt("table", "e2m1", "--md")[1].splitlines()]
    assert [list(r.values()) for r in rows] == markdown[2:]


def test_table_goes_to_a_file(nfmt, tmp_path):
    path = tmp_path / "nf4.md"
    assert nfmt("table", "nf4", "--md", "-o", path) == (0, "", "")
    assert path.read_text().count("\n") == 18
    assert list(tmp_path.iterdir()) == [path]


# selftest, diff


def test_selftest_passes_in_ten_seconds():
    """Of processor time: the machine may be busy with other tests."""
    before = os.times().children_user
    done = process("selftest", "--json", timeout=120)
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert found["passed"]
    assert found["versions"]["numpy"]
    assert os.times().children_user - before < 10


def test_selftest_sees_a_wrong_decoder(nfmt, monkeypatch):
    from numfmt._cli import selftest

    monkeypatch.setattr(selftest, "CHECKS", {"ml_dtypes": selftest.check_ml_dtypes})
    right = selftest.decode
    monkeypatch.setattr(selftest, "decode", lambda codes, fmt: -right(codes, fmt))
    code, out, _ = nfmt("selftest")
    assert code == 1
    assert "FAIL" in out


def test_diff_lists_what_differs(nfmt):
    code, out, err = nfmt("diff", "nvidia", "ml_dtypes", "e4m3fn")
    assert (code, err) == (1, "")
    assert re.search(r"inf +0x7e +0x7f", out)
    assert nfmt("diff", "nvidia", "nvidia", "e4m3fn")[0] == 0
