"""The command `python -m numfmt_jax`, and `nfmt recipes`: arguments, errors, exit codes.

0 ok, 2 usage or an unknown name, 3 a file that cannot be read or written, 130 interrupted. An error is one
line on stderr. What trains is imported when it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from numfmt.kernels import unknown

OK, USAGE, BAD_FILE, INTERRUPTED = 0, 2, 3, 130
EXTRAS = {"jax": "jax", "jaxlib": "jax", "optax": "train", "matplotlib": "viz"}

TRAIN = """\
Trains a byte-level transformer (causal attention with rotary positions, MLPs with GELU, AdamW) on
Python's own documentation, or on a file. All recipes train the same loss function, which knows
nothing of formats, from the same parameters on the same batches; what a recipe rounds is printed
first. With float32 among the recipes, the results say how far each lies above it.

A recipe covers the linear layers of the blocks. The head and the products of attention stay in
float32, and for recipes of four bits the first and last of three blocks or more, as in NVIDIA's
paper on NVFP4 (arXiv 2509.25149). --policy says otherwise: PATTERN=RECIPE over paths such as
first/attention/qkv/dot_general, middle/mlp/up/dot_general, last/mlp/down/dot_general,
head/dot_general; * crosses /, the first pattern that matches decides, float32 leaves a product
alone. A pattern that matches nothing is an error that lists the paths.

The log has one JSON object a line: run (all settings, versions), then for each recipe receipt,
step (0: before training) and result. Lines are written whole; Ctrl-C ends the log with a line
"interrupted" and draws the figure of what there is. Both files are replaced if they exist.

examples:
  python -m numfmt_jax train                            float32 and nvfp4, about two minutes
  python -m numfmt_jax train --recipe nvfp4 --steps 300 --log run.jsonl
  python -m numfmt_jax train --recipe float32 mxfp8 nvfp4 --figure curves.png
  python -m numfmt_jax train --recipe nvfp4 --policy 'middle/mlp/*=mxfp8' --policy 'head/*=bf16'
  python -m numfmt_jax train --recipe float32 mxfp4 mxfp4_sr --width 256 --layers 6 --steps 1000
  python -m numfmt_jax train --text novel.txt --recipe float32 fp8_current
  XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m numfmt_jax train --devices 8
"""

RECIPES = """\
Without a name: every recipe, its six operands and where it is from. With names: each of them in full.

  forward  y  = x · w          x forward     w forward
  dgrad    dx = g · w          g dgrad       w dgrad
  wgrad    dw = x · g          x wgrad       g wgrad

examples:
  {prog}
  {prog} nvfp4
  {prog} mxfp8 mxfp8_ocp
  {prog} nvfp4 --json
"""

MAIN = """\
examples:
  python -m numfmt_jax recipes                     the recipes there are
  python -m numfmt_jax recipes nvfp4               one of them
  python -m numfmt_jax train --recipe float32 nvfp4 --figure curves.png
  python -m numfmt_jax train --help                more

exit codes: 0 ok, 2 usage or an unknown name, 3 a bad file, 130 interrupted
"""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing usage."""
        raise ValueError(f"{message} ({self.prog} --help shows how)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `python -m numfmt_jax`; returns the exit code.

    >>> main(["recipes", "nvfp5"])
    2
    """
    given = list(sys.argv[1:] if argv is None else argv)
    commands = {"train": train, "recipes": recipes}
    name = next((a for a in given if not a.startswith("-")), None)

    def chosen() -> int:
        if name is not None and given[0] == name:
            if name not in commands:
                raise ValueError(unknown("command", name, list(commands)))
            return commands[name](given[1:])
        _parser("python -m numfmt_jax", "Training under number formats.", MAIN, commands).parse_args(given)
        raise ValueError("no command is given (python -m numfmt_jax --help shows which)")

    return guarded(chosen, debug="--debug" in given)


def guarded(command: Callable[[], int], *, debug: bool = False) -> int:
    """The exit code of a command; its errors are one line on stderr."""
    try:
        code = command()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except SystemExit as left:  # argparse, after --help
        return int(left.code or 0)
    except ModuleNotFoundError as error:
        if debug or error.name not in EXTRAS:
            raise
        extra = EXTRAS[str(error.name)]
        return _complain(f'{error.name} is not installed; pip install "numfmt-emulator[{extra}]"', USAGE)
    except (ValueError, TypeError, OSError) as error:
        if debug:
            raise
        return _complain(" ".join(str(error).split()), BAD_FILE if isinstance(error, OSError) else USAGE)


def _complain(message: str, code: int) -> int:
    sys.stderr.write(f"numfmt_jax: {message}\n")
    return code


def _parser(prog: str, about: str, epilog: str, commands: Sequence[str] | dict[str, Any] = ()) -> Parser:
    parser = Parser(prog, description=about, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--debug", action="store_true", help=argparse.SUPPRESS)
    if commands:
        parser.add_argument("command", nargs="?", choices=list(commands), help="what to do")
    return parser


# ---- train -----------------------------------------------------------------------------------------------------


def train(argv: Sequence[str]) -> int:
    """The command `train`."""
    parser = _parser("python -m numfmt_jax train", "A transformer trained under recipes of number formats.", TRAIN)
    runs = parser.add_argument_group("runs")
    runs.add_argument(
        "--recipe", nargs="+", action="extend", metavar="R",
        help="float32, or a name that `python -m numfmt_jax recipes` lists; float32 nvfp4 unless given",
    )  # fmt: skip
    runs.add_argument("--policy", action="append", default=[], metavar="PATTERN=RECIPE", help="for some products")
    runs.add_argument("--steps", type=int, default=300, metavar="N", help="of each run (%(default)s)")
    runs.add_argument("--seed", type=int, default=0, metavar="N", help="of parameters, batches, rounding (%(default)s)")
    runs.add_argument("--lr", type=float, default=3e-3, metavar="X", help="the highest learning rate (%(default)s)")
    runs.add_argument("--batch", type=int, default=8, metavar="N", help="windows a step (%(default)s)")
    runs.add_argument("--devices", type=int, default=1, metavar="N", help="that divide each batch (%(default)s)")
    runs.add_argument(
        "--validate-every", type=int, default=0, metavar="N", help="steps between validations (a tenth of the steps)"
    )
    runs.add_argument("--text", metavar="FILE", help="what to learn, instead of pydoc_data.topics; any bytes")
    model = parser.add_argument_group("the model")
    for name, size, says in (
        ("width", 128, "of the residual stream, a multiple of twice the heads"),
        ("layers", 4, "blocks of attention and MLP"),
        ("heads", 4, "of attention"),
        ("context", 128, "bytes that are seen at once"),
    ):
        model.add_argument(f"--{name}", type=int, default=size, metavar="N", help=f"{says} ({size})")
    files = parser.add_argument_group("files")
    files.add_argument("--log", metavar="FILE", help="JSON lines")
    files.add_argument("--figure", metavar="FILE", help="the curves, as .png, .svg or .pdf")
    args = parser.parse_args(argv)
    args.recipe = args.recipe or ["float32", "nvfp4"]
    from .training.command import run_train

    return run_train(args)


# ---- recipes ---------------------------------------------------------------------------------------------------


def recipes(argv: Sequence[str], prog: str = "python -m numfmt_jax recipes") -> int:
    """The command `recipes`."""
    from . import listing

    parser = _parser(prog, "The named recipes.", RECIPES.format(prog=prog))
    parser.add_argument("name", nargs="*", metavar="NAME", help="recipes to show in full")
    parser.add_argument("--json", action="store_true", help='JSON, with "schema": 1')
    args = parser.parse_args(argv)
    if args.json:
        print(json.dumps(listing.as_json(args.name), indent=2, ensure_ascii=False))
        return OK
    print("\n".join(listing.in_full(args.name) if args.name else listing.summary()))
    return OK


def nfmt_recipes(argv: Sequence[str]) -> int:
    """The command `recipes` of `nfmt`, which finds it by its entry point and reports its errors."""
    return recipes(argv, "nfmt recipes")
