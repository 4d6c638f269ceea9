"""The commands `python -m numfmt_jax` and `nfmt recipes`: what they print, their errors, what they load."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from numfmt.cli import main as nfmt_main
from numfmt_jax import get_recipe, list_recipes
from numfmt_jax.cli import MAIN, TRAIN, main
from numfmt_jax.training import plan

ROOT = Path(__file__).resolve().parents[2]
METADATA = "Metadata-Version: 2.4\nName: numfmt-emulator\nVersion: 0\nProvides-Extra: jax\nProvides-Extra: train\n"
TINY = "--width 16 --layers 1 --heads 1 --context 16 --batch 1 --steps 2".split()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which numfmt is installed, as far as metadata go."""
    pyproject = (ROOT / "pyproject.toml").read_text()
    (entry,) = re.findall(r'^\[project\.entry-points\."nfmt\.commands"\].*\n(.*)$', pyproject, re.MULTILINE)
    info = tmp_path / "numfmt_emulator-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(METADATA)
    (info / "entry_points.txt").write_text(f"[nfmt.commands]\n{entry.replace(chr(34), '')}\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]), "PYTHONIOENCODING": "utf-8"}


def python(environment: dict[str, str], code: str, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *argv], env=environment, capture_output=True, text=True, check=False)


NFMT = "import sys; from numfmt.cli import main; sys.exit(main())"


def test_recipes_lists_every_recipe_with_its_operands_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.partition("\n\n")[0].splitlines()
    rows = {line.split()[0]: (re.split(r"\s{2,}", line), after.strip()) for line, after in zip(lines[1::2], lines[2::2], strict=True)}
    for name in list_recipes():
        cells, source = rows[name]
        assert len(cells) == 7
        assert source == get_recipe(name).source
    assert rows["nvfp4"][0][1:] == ["nvfp4", "nvfp4_16x16", "nvfp4 SR", "=forward", "nvfp4 RHT16", "nvfp4 RHT16 SR"]


def test_one_recipe_is_shown_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "nvfp4", "switchback"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"g wgrad +nvfp4 +16 +transformer_engine +stochastic +contracting +RHT16 fixed signs", out)
    assert re.search(r"g wgrad +as it is", out)
    assert "2509.25149" in out
    assert "unverified  division by 127" in out


def test_json_has_a_schema_and_six_slots(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["schema"] == 1
    assert [recipe["name"] for recipe in content["recipes"]] == list_recipes()
    assert all(len(recipe["slots"]) == 6 for recipe in content["recipes"])


def test_nfmt_finds_recipes_by_its_entry_point(environment: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    done = python(environment, NFMT, "recipes", "nvfp4", "mxfp8")
    assert (done.returncode, done.stderr) == (0, "")
    main(["recipes", "nvfp4", "mxfp8"])
    assert done.stdout == capsys.readouterr().out


def test_nfmt_reports_the_errors_of_recipes_as_its_own(environment: dict[str, str]) -> None:
    done = python(environment, NFMT, "recipes", "nvfp5")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "nfmt: unknown recipe 'nvfp5'; nearest: nvfp4\n"


def test_nfmt_says_what_to_install_where_jax_is_not(environment: dict[str, str]) -> None:
    done = python(environment, f"import sys; sys.modules['jax'] = None\n{NFMT}", "recipes")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == 'nfmt: recipes needs jax, which is not installed; pip install "numfmt-emulator[jax]"\n'


def test_nfmt_names_commands_of_other_packages_without_loading_them(environment: dict[str, str]) -> None:
    code = "import sys; from numfmt.cli import main; main(['--help']); main(['recpies']); print([*sys.modules])"
    done = python(environment, code)
    shown, loaded = done.stdout.rsplit("\n[", 1)
    assert re.search(r"^ +recipes +a command of numfmt_jax$", shown, re.MULTILINE)
    assert done.stderr == "nfmt: unknown command 'recpies'; nearest: recipes\n"
    assert "'jax'" not in loaded
    assert "'numfmt_jax'" not in loaded


def test_own_commands_do_not_look_for_others(environment: dict[str, str]) -> None:
    done = python(environment, "import sys; from numfmt.cli import main; main(['info', 'e4m3fn']); print([*sys.modules])")
    assert "'importlib.metadata'" not in done.stdout.rsplit("\n[", 1)[1]


def test_a_plugin_cannot_replace_a_command(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "numfmt_emulator-0.dist-info/entry_points.txt").write_text("[nfmt.commands]\nlist = numfmt_jax.cli:nfmt_recipes\n")
    assert "float8_e4m3fn" in python(environment, NFMT, "list").stdout


def test_nothing_heavy_is_loaded_with_the_package() -> None:
    code = "import sys, numfmt_jax; print({'optax', 'matplotlib', 'tqdm', 'flax', 'equinox'} & {*sys.modules})"
    done = python({**os.environ, "PYTHONPATH": str(ROOT)}, code)
    assert done.stdout.strip() == "set()", done.stderr


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "no command is given"),
        (["tran"], "nearest: train"),
        (["train", "--recipe", "nvfp5"], "nearest: nvfp4"),
        (["train", "--policy", "head/*"], "PATTERN=RECIPE"),
        (["train", "--recipe", "bf16", "bf16"], "trained once"),
        (["train", "--steps", "0"], "steps=0"),
        (["train", "--steps", "many"], "invalid int value"),
        (["train", "--width", "50"], "such as 48"),
        (["train", "--context", "100000"], "shorter context"),
        (["train", *TINY, "--recipe", "bf16", "--policy", "frist/*=float32"], "first/attention/qkv/dot_general"),
        (["recipes", "mxfp9"], "nearest: mxfp"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("numfmt_jax: ")
    assert says in err


@pytest.mark.parametrize(
    "argv", [["--text", "absent.txt"], ["--log", "absent/x.jsonl"], ["--figure", "absent/x.png"]], ids=lambda argv: argv[0]
)
def test_files_that_cannot_be_used_are_exit_code_3_before_anything_is_trained(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *argv]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "absent" in err


@pytest.mark.parametrize(("package", "extra"), [("optax", "train"), ("matplotlib", "viz")])
def test_a_missing_package_is_named_with_its_extra(package: str, extra: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None\nfrom numfmt_jax.cli import main; sys.exit(main())"
    done = python({**os.environ, "PYTHONPATH": str(ROOT)}, code, "train", *TINY, "--figure", "/tmp/x.png")
    assert done.returncode == 2
    assert done.stderr == f'numfmt_jax: {package} is not installed; pip install "numfmt-emulator[{extra}]"\n'


def test_help_teaches_with_examples_that_are_true(capsys: pytest.CaptureFixture[str]) -> None:
    assert [main(["--help"]), main(["train", "--help"]), main(["recipes", "--help"])] == [0, 0, 0]
    assert capsys.readouterr().out.count("examples:") == 3
    commands = re.findall(r"^  python -m numfmt_jax train *(.*?)(?:  .*)?$", TRAIN, re.MULTILINE)
    assert len(commands) == 6
    for command in commands:
        for name in re.findall(r"--recipe ((?:\w+ ?)+)", command):
            assert all(plan.recipe_of(part) or part == "float32" for part in name.split())
        for rule in re.findall(r"'([^']*)'", command):
            assert plan.parse_rule(rule)
    assert all(len(line) <= 100 for line in (MAIN + TRAIN).splitlines())


def test_training_is_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_bytes(b"to be or not to be " * 50)
    files = ["--text", str(tmp_path / "text"), "--log", str(tmp_path / "x.jsonl"), "--figure", str(tmp_path / "x.png")]
    assert main(["train", *TINY, *files, "--recipe", "float32", "--recipe", "bf16", "--policy", "head/*=bf16"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"head/dot_general +.* bf16$", out, re.MULTILINE)
    assert re.search(r"^bf16 .*%.*$", out, re.MULTILINE)
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    records = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert records[0]["policies"]["bf16"][0] == ["head/*", "bf16"]
    assert records[0]["policies"]["float32"] == [["*", None]]


def test_nfmt_without_a_command_still_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert nfmt_main([]) == 2
    out, err = capsys.readouterr()
    assert "commands" in out
    assert err == "nfmt: no command is given\n"
