"""The mutation tester works: it notices faults that were put in by hand, and none where there is none.

The mutants themselves are judged by `make nightly`.
"""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run.py")

FAULTS = {
    "ties go down": ("rounding.py", "(mask >> 1) + up", "(mask >> 1)"),
    "ties go to odd": ("rounding.py", "(lsb & mode.lsb) ^", "(~lsb & mode.lsb) ^"),
    "the sign does not count": ("rounding.py", "(negative & mode.sign)", "(negative & 0)"),
    "bits below the carrier's are lost": (
        "rounding.py",
        "drop = xp.minimum(drop, reach)",
        "drop = xp.minimum(drop, reach - 3)",
    ),
    "even is the significand's": ("float.py", "round_away(m, drop, code,", "round_away(m, drop, s,"),
    "subnormals keep a bit too many": (
        "float.py",
        "xp.maximum(target.emin - field, 0)",
        "xp.maximum(target.emin - field - 1, 0)",
    ),
    "the largest value overflows": ("float.py", "packed > target.largest", "packed >= target.largest"),
    "the remainder is forgotten": ("gapped.py", "(twice > middle) | ", "(twice > middle) & "),
    "ties of negatives go up": ("table.py", "xp.where(negative != 0, -away, away)", "away"),
    "-8 overflows": ("fixed.py", "(value < grid.low)", "(value <= grid.low)"),
    "a scale moves the grid the wrong way": ("block.py", "target.emin + shift", "target.emin - shift"),
    "a wrong constant": ("threefry.py", "0x1BD11BDA", "0x1BD11BDB"),
}
HARMLESS = ("rounding.py", "(mask >> 1) + up", "up + (mask >> 1)")
FORMATS = ["e4m3fn", "e3m0", "int8", "nf4", "dlfloat16"]


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """What the tester says of each change, by its text; in a process of its own, because it forks."""
    out = tmp_path_factory.mktemp("mutation") / "verdicts.json"
    changes = [part for change in [*FAULTS.values(), HARMLESS] for part in ("--change", *change)]
    command = [sys.executable, str(RUN), *changes, "--json", str(out), "--formats", *FORMATS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert out.exists(), done.stdout + done.stderr  # numfmt as it is must pass
    assert done.returncode == 1  # one survives
    return {
        (file, before, after): verdict
        for file, _, before, after, verdict, _ in json.loads(out.read_text())["verdicts"].values()
    }


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_noticed(verdicts, fault):
    assert verdicts[FAULTS[fault]] in ("result", "rule")


def test_a_change_that_means_the_same_survives(verdicts):
    assert verdicts[HARMLESS] == "survived"


def test_every_listed_survivor_has_a_reason():
    listed = tomllib.loads(RUN.with_name("survivors.toml").read_text())["survivor"]
    assert all(set(entry) <= {"in", "before", "after", "nth", "because"} and entry["because"] for entry in listed)
