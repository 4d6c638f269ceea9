"""The arguments of `nfmt vectors`; `numfmt.vectors.command` runs it."""

from __future__ import annotations

import argparse
from typing import Any

from ..rounding import Overflow, Rounding

# TestFloat's options for rounding modes.
ROUNDINGS = {
    "near_even": "ties_to_even", "near_maxMag": "ties_to_away", "minMag": "toward_zero", "min": "toward_negative",
    "max": "toward_positive", "odd": "to_odd",
}  # fmt: skip

EXAMPLES = """\
examples:
  nfmt vectors generate e4m3fn_mul -o mul.txt         operands, result and flags that find bugs; mul.txt.json says what
  nfmt vectors check dut.txt --manifest mul.txt.json  what a device answered: mismatches explained, exit code 1
  nfmt vectors cover mul.txt                          the corner cases that a file reaches and misses
  nfmt vectors generate dot --unit h100.e4m3 -o d.txt dots of a matrix unit that tell each of its parameters
  nfmt vectors mutants d.txt                          which other units a file tells apart from its own
  nfmt vectors list e4m3fn                            the functions there are
  nfmt vectors generate --help                        more examples
"""

GENERATE = """\
A function is named as in Berkeley TestFloat: f32_to_e4m3fn, e5m2_mul, e4m3fn_mulAdd, f16_sqrt, bf16_le_quiet,
i32_to_f16; blocks and dot products are mxfp4_encode32, nvfp4_encode16, e4m3fn_dot32, mxfp8_e4m3_dot32. A format alone,
with the number of operands, gives operands alone: f32 2.

Units: h100.e4m3_dot48, or dot48 --unit h100.e4m3, is K products and c as that matrix unit adds them (nfmt units); dot
alone takes a K that crosses the end of a step, and of a stretch before a promotion. --inputs chooses among the formats
that a unit takes, --set changes a parameter of DotUnit, or scale and block. A row holds the codes of a, b and c, and of
scales behind their operand; results are codes of c's format where it holds them all; there are no flags. Directed rows
tell apart every unit that differs in one parameter: nfmt vectors mutants FILE.

Styles: directed aims at the exact result (ties, sticky bits, ends of the range); exhaustive takes every combination;
random mixes uniform and interesting codes. -n says how many rows; random ones follow where directed ones end.

Syntaxes: testfloat (operands, result, flags in hexadecimal), readmemh (one packed word a line: first operand in the
most significant digits, flags in the least), csv, jsonl, npz. Stochastic rounding adds the random number before the
result.

Flags: 16 invalid, 8 division by zero, 4 overflow, 2 underflow, 1 inexact.

examples:
  nfmt vectors generate e4m3fn_mul                                    to stdout, as testfloat_gen
  nfmt vectors generate f16_add -rminMag -level 2 -o f16_add.minMag.txt
  nfmt vectors generate f32_to_e4m3fn --overflow saturate -o f32_to_e4m3fn.hex
  nfmt vectors generate e4m3fn_mul --style exhaustive -o all.jsonl
  nfmt vectors generate f32_mulAdd --style random -n 1000000 -seed 7 -o fma.csv
  nfmt vectors generate f32_to_bf16 --rounding stochastic_a --random-bits 8 -o sr.txt
  nfmt vectors generate mxfp4_encode32 -o block.npz
  nfmt vectors generate dot --unit h100.e4m3 -o dot.txt
  nfmt vectors generate dot64 --unit b200.mxfp8 --inputs e4m3fn,e5m2 --set fraction=24 -o scaled.jsonl
  nfmt vectors generate f16_mul -forever | ./device | nfmt vectors check - --function f16_mul
"""

CHECK = """\
Function and rules come from the manifest (FILE.json, or --manifest), from what the file says of itself, from a name as
f16_add.near_even.txt, or from the options. With the manifest of the vectors that a device has answered, its operands
must be those of the vectors. A line that is no row, a file cut short, a manifest that says something else: exit code 3.

examples:
  nfmt vectors check f16_add.near_even.txt                            a TestFloat file, as it is
  nfmt vectors check dut.txt --manifest mul.txt.json
  ./device < inputs | nfmt vectors check - --function e4m3fn_mul -rminMag
  nfmt vectors check Basic-Types-Inputs.fptest -tininessbefore        IBM's test suite
  nfmt vectors check dut.hex --function e5m2_add -errors 3 -checkNaNs --json
"""

COVER = """\
examples:
  nfmt vectors cover mul.txt
  nfmt vectors cover dump.csv --function f32_to_e4m3fn
  nfmt vectors cover mul.txt --strict                                 exit code 1 if a class is missed
"""

MUTANTS = """\
Every unit that differs from the file's in one parameter is run on the file's operands: length, fraction, alignment,
roundings, early or late accumulator, order, flushing, exponent of zero, groups, promotion, and the rest that the unit
has. It is told apart, by so many rows; or cannot matter for these formats and this K, with the reason; or neither.

examples:
  nfmt vectors mutants dot.txt
  nfmt vectors mutants dot.txt --strict                               exit code 1 if one is neither
  nfmt vectors mutants dump.txt --function h100.e4m3_dot48 --json
"""

LIST = """\
examples:
  nfmt vectors list                                                   the operations
  nfmt vectors list e5m2
  nfmt vectors list h100.e4m3
  nfmt vectors list mxfp4 --json
"""


def vectors_arguments(parser: Any) -> None:
    """The arguments of `nfmt vectors` and its commands."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions", parser_class=type(parser))
    actions.required = True
    for name, (says, epilog, fill) in _ACTIONS.items():
        made = actions.add_parser(
            name, help=says, description=says[0].upper() + says[1:] + ".", epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        made.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        fill(made)


def run_vectors(args: argparse.Namespace) -> int:
    """Run the action that was asked for."""
    from ..vectors.command import run

    return run(args)


def _rules(parser: argparse.ArgumentParser) -> None:
    known = ", ".join(mode.value for mode in Rounding)
    group = parser.add_argument_group("rules")
    group.add_argument("--rounding", metavar="R", help=f"{known}; default: the format's")
    for name, mode in ROUNDINGS.items():
        group.add_argument(f"-r{name}", dest="rounding", action="store_const", const=mode, help=f"the same as {mode}")
    group.add_argument("--overflow", metavar="O", help=", ".join(mode.value for mode in Overflow))
    group.add_argument(
        "--platform", metavar="P", help="a vendor's rules, of NaNs too: riscv, x86.sse, arm, nvidia, ..."
    )
    for when in ("before", "after"):
        says = f"underflow is decided {when} rounding" + (" (default)" if when == "after" else "")
        group.add_argument(f"-tininess{when}", dest="tininess", action="store_const", const=when, help=says)
    group.add_argument(
        "-exact", dest="exact", action="store_true", default=None, help="conversions to integers raise inexact"
    )
    group.add_argument("-notexact", dest="exact", action="store_false", help="they do not (default)")
    group.add_argument("--random-bits", metavar="N", type=int, help="of stochastic_a, _b and _c: 1 to 32")


def _formats(parser: argparse.ArgumentParser, names: list[str]) -> None:
    parser.add_argument("--format", choices=names, help="the syntax; default: by extension")


def _progress(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--progress", action="store_true", help="say how far it is even if stderr is no terminal")
    parser.add_argument("--threads", metavar="N", type=int, help="at most so many")
    parser.add_argument("--json", action="store_true", help='JSON, with "schema": 1')


def _generate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("function", metavar="FUNCTION", help="such as e4m3fn_mul; or a format: operands alone")
    parser.add_argument("operands", metavar="COUNT", nargs="?", type=int, help="operands of a format alone: 1, 2 or 3")
    parser.add_argument("--unit", metavar="U", help="of dot and dot<K>: a matrix unit, such as h100.e4m3")
    parser.add_argument("--inputs", metavar="A[,B]", help="formats of a unit's operands; default: its first")
    parser.add_argument(
        "--set", dest="changes", metavar="P=V", action="append", help="another value of a unit's parameter; repeatable"
    )
    parser.add_argument("--style", choices=["directed", "exhaustive", "random"], default="directed")
    parser.add_argument("-level", "--level", metavar="L", type=int, choices=[1, 2], help="1 (default) or 2: more rows")
    parser.add_argument("-seed", "--seed", metavar="S", type=int, default=1, help="of random operands; default 1")
    parser.add_argument("-n", "--count", metavar="N", type=int, help="rows; default: the style's own")
    parser.add_argument("-forever", "--forever", action="store_true", help="without end, at level 2")
    parser.add_argument("-prefix", "--prefix", metavar="TEXT", help="a first line, in TestFloat's syntax")
    _formats(parser, ["testfloat", "readmemh", "csv", "jsonl", "npz"])
    parser.add_argument("-o", "--output", metavar="FILE", help="- or nothing is stdout")
    parser.add_argument("--manifest", metavar="FILE", help="default: OUTPUT.json; none of what goes to stdout")
    parser.add_argument(
        "--coverage", action=argparse.BooleanOptionalAction, help="count classes; default: of up to 262,144 rows"
    )
    _rules(parser)
    _progress(parser)


def _input(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="+", help="- is stdin")
    parser.add_argument("--function", metavar="F", help="whose rows these are, where the file does not say it")
    parser.add_argument("--manifest", metavar="FILE", help="default: FILE.json if it is there; none: look for none")
    _formats(parser, ["testfloat", "readmemh", "csv", "jsonl", "npz", "fptest"])


def _check(parser: argparse.ArgumentParser) -> None:
    _input(parser)
    parser.add_argument("-errors", "--errors", metavar="N", type=int, default=20, help="explain N mismatches; 0: all")
    parser.add_argument("-checkNaNs", "--check-nans", action="store_true", help="compare the bits of NaNs")
    parser.add_argument(
        "--no-flags", dest="flags", action="store_false", help="do not compare flags; they may be absent"
    )
    _rules(parser)
    _progress(parser)


def _cover(parser: argparse.ArgumentParser) -> None:
    _input(parser)
    parser.add_argument("--strict", action="store_true", help="exit code 1 if a class is missed")
    _rules(parser)
    _progress(parser)


def _mutants(parser: argparse.ArgumentParser) -> None:
    _input(parser)
    parser.add_argument("--strict", action="store_true", help="exit code 1 if a mutant is not told apart, but could be")
    _rules(parser)
    _progress(parser)


def _list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("format", metavar="FORMAT", nargs="?", help="a format, a block format, or a matrix unit")
    parser.add_argument("--json", action="store_true", help='JSON, with "schema": 1')


_ACTIONS = {
    "generate": ("rows of a function: operands, result, flags", GENERATE, _generate),
    "check": ("a device's answers: every row computed again, mismatches explained", CHECK, _check),
    "cover": ("the classes of corner cases that a file reaches and misses", COVER, _cover),
    "mutants": ("the units that a file tells apart from its own, parameter by parameter", MUTANTS, _mutants),
    "list": ("the names of functions", LIST, _list),
}
