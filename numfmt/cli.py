"""The command `nfmt`: its arguments, its errors, its exit codes.

0 ok, 1 a check found mismatches, 2 usage or an unknown name, 3 a bad input file, 70 a fault of nfmt
itself, 130 interrupted. An error is one line on stderr. The commands live in `numfmt._cli` and are
imported when they run. Another package adds one by an entry point in the group "nfmt.commands": its name, and
a function of the arguments after it that returns the exit code.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

from ._cli.screen import FAULT, INTERRUPTED, OK, USAGE, Failure, put
from ._cli.vectors import EXAMPLES as VECTORS
from ._cli.vectors import vectors_arguments
from .rounding import Overflow, Rounding, unknown

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

COMMANDS = {
    "list": ("listing", "the named formats"),
    "info": ("listing", "every derived fact of one format"),
    "explain": ("explaining", "what a value or a code is in a format, and what rounding does and why"),
    "table": ("table", "every code of a format of at most 16 bits"),
    "convert": ("converting", "files of values or codes into codes of a format"),
    "quantize": ("quantizing", "the tensors of a checkpoint into a format, with statistics of each"),
    "units": ("units", "the dot-product units of chips: all of them, or every step of one"),
    "diff": ("differing", "operands that two platforms convert differently"),
    "vectors": ("vectors", "test vectors of arithmetic: generate them, check a device's answers, measure coverage"),
    "selftest": ("selftest", "check this installation, in seconds"),
}
PLUGINS = "nfmt.commands"  # group of the entry points of other packages

MAIN = """\
examples:
  nfmt list                                  the formats there are
  nfmt info e4m3fn                           one of them
  nfmt explain e4m3fn 1.7                    its bits, its neighbours, what every rounding mode does
  nfmt explain e4m3fn 0x7e                   a code instead of a value
  nfmt convert x.npy --to bf16 -o y.npy      a file
  nfmt quantize model.safetensors --to mxfp4 -o out.safetensors
  nfmt units h100.e4m3                       how a matrix unit adds products
  nfmt vectors generate e4m3fn_mul           test vectors of a multiplier
  nfmt COMMAND --help                        more examples

exit codes: 0 ok, 1 a check found mismatches, 2 usage or an unknown name, 3 a bad input file
"""

EXAMPLES = {
    "list": """\
examples:
  nfmt list
  nfmt list --family ocp
  nfmt list --family p3109 --json
""",
    "info": """\
examples:
  nfmt info e4m3fn
  nfmt info binary8p3se
  nfmt info e5m7b20            5 exponent bits, 7 significand bits, bias 20
  nfmt info q3.12 --json
""",
    "explain": """\
A value is written 1.7, -3e-5, 0x1.8p3, 1/3, inf, nan or -0 and is read exactly: 1.7 is 17/10, not
the binary64 number nearest to it. A code is written 0x7e or 0b0_1111_110.

examples:
  nfmt explain e4m3fn 1.7
  nfmt explain bf16 -0x1.8p3
  nfmt explain e5m2 0b0_11110_11
  nfmt explain e4m3fn 1e6 --overflow nan
  nfmt explain e2m1 1/3 --random-bits 4      stochastic rounding with 4 random bits too
  nfmt explain e8m0 3 --platform nvidia
""",
    "table": """\
examples:
  nfmt table e2m1
  nfmt table e4m3fn --csv -o e4m3fn.csv
  nfmt table nf4 --md
""",
    "convert": """\
File formats go by extension: .npy; .csv (numbers between commas, decimal or hex float, # comments);
.hex ($readmemh: a code a line, // comments, @address); .bin and .raw (little-endian codes). - is
stdin or stdout. Values become codes; with --quantize, values on the format's grid. Numbers that are
text are read exactly and rounded once. The output replaces OUT when it is complete, or not at all;
beside an .npy output, OUT.json says what it holds.

examples:
  nfmt convert x.npy --to e4m3fn -o codes.npy
  nfmt convert x.npy --to e2m1 --rounding stochastic --seed 0 -o codes.npy
  nfmt convert x.csv --to bf16 --quantize -o y.csv
  nfmt convert codes.hex --from e4m3fn --to f32 --quantize -o values.npy
  nfmt convert dump.bin --from e5m2 --to e4m3fn --overflow nan -o codes.hex
  seq 10 | nfmt convert - --to e4m3fn
""",
    "quantize": """\
Reads a safetensors file one tensor at a time. Tensors of floats (F64, F32, F16, BF16) with two axes or
more are quantized, all others kept as they are; --map says otherwise for the names that a pattern
matches, the first one that does: FORMAT, or keep. Without -o there is only the report. The output
replaces OUT when it is complete, or not at all.

Layouts: numfmt (X.codes, X.scales, ...: any format), gpt-oss (MXFP4), compressed-tensors (NVFP4, MXFP4,
MXFP6, MXFP8), modelopt (NVFP4), gguf (a GGUF file: Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, MXFP4), and dequantized:
values on the format's grid, which any loader reads.

examples:
  nfmt quantize model.safetensors --to mxfp4                      the statistics alone
  nfmt quantize model.safetensors --to mxfp4 -o out.safetensors --report html --report-file report.html
  nfmt quantize model.safetensors --to nvfp4 --map '*embed*=keep' --map '*.mlp.*=mxfp8' -o out.safetensors
  nfmt quantize model.safetensors --to mxfp4 --layout dequantized -o out.safetensors --report csv > report.csv
  nfmt quantize model.safetensors --to q8_0 --layout gguf -o out.gguf
  nfmt quantize model.safetensors --to mxfp4 --rounding stochastic --seed 0 -o out.safetensors
""",
    "units": """\
A unit is what a chip does with a sum of products: how many it adds at once, the bits it keeps while it
does, where it rounds, to what. UNIT is a name of the table, or a chip (h100, mi300, arm): its part of
the table. The evidence of each has a grade, from A (reproduced on recordings of hardware) to E.

examples:
  nfmt units
  nfmt units --family amd
  nfmt units h100                      the units of one chip
  nfmt units h100.e4m3                 one of them
  nfmt units b200.nvfp4 --json
""",
    "diff": """\
Compares every value of the format, every midpoint, their float32 neighbours, and the specials.

examples:
  nfmt diff nvidia ml_dtypes e4m3fn
  nfmt diff torch onnx e8m0 --json           exit code 1 if there is a difference
""",
    "vectors": VECTORS,
    "selftest": """\
examples:
  nfmt selftest
  nfmt selftest --json
  nfmt selftest --hardware     this processor's conversions and multiply-add; needs a C compiler
""",
}

_NEGATIVE = re.compile(r"-(\.?\d|inf|nan)", re.IGNORECASE)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and whose help has examples."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing usage."""
        raise Failure(f"{message} ({self.prog} --help shows how)")


def _parser(plugins: dict[str, EntryPoint]) -> Parser:
    about = "A bit-exact emulator of number formats."
    parser = Parser("nfmt", description=about, epilog=MAIN, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="store_true", help="say the version and leave")
    parser.add_argument("--debug", action="store_true", help="show a traceback where something fails")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=Parser)
    for name, (_, says) in COMMANDS.items():
        made = commands.add_parser(
            name, help=says, description=says[0].upper() + says[1:] + ".", epilog=EXAMPLES[name],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        made.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        _ARGUMENTS[name](made)
    for name, entry in plugins.items():
        commands.add_parser(name, help=f"a command of {entry.module.partition('.')[0]}")
    return parser


def _screen_options(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help='JSON, with "schema": 1')
    choices = ["always", "never", "auto"]
    parser.add_argument("--color", choices=choices, default="auto", help="auto: on a terminal without NO_COLOR")


def _rule_options(parser: Parser) -> None:
    known = ", ".join(mode.value for mode in Overflow)
    parser.add_argument("--overflow", metavar="O", help=f"{known}; default: the format's")
    parser.add_argument(
        "--platform", metavar="P", help="a vendor's rules: ocp, ml_dtypes, xla, torch, nvidia, amd, onnx, p3109"
    )


def _list_arguments(parser: Parser) -> None:
    parser.add_argument("--family", metavar="F", help="ieee754, ocp, fnuz, p3109, int, codebook, ...")
    _screen_options(parser)


def _info_arguments(parser: Parser) -> None:
    parser.add_argument("format", metavar="FORMAT")
    _screen_options(parser)


def _explain_arguments(parser: Parser) -> None:
    parser.add_argument("format", metavar="FORMAT")
    parser.add_argument("value", metavar="VALUE_OR_CODE")
    _rule_options(parser)
    parser.add_argument(
        "--random-bits", metavar="N", type=_integer, help="show stochastic_a, _b and _c with N random bits"
    )
    _screen_options(parser)


def _table_arguments(parser: Parser) -> None:
    parser.add_argument("format", metavar="FORMAT")
    forms = parser.add_mutually_exclusive_group()
    for form in ("csv", "md", "json"):
        forms.add_argument(f"--{form}", dest="form", action="store_const", const=form, help=f"write {form}")
    parser.set_defaults(form="text")
    parser.add_argument("-o", "--output", metavar="FILE", help="a file instead of stdout")


def _convert_arguments(parser: Parser) -> None:
    parser.add_argument("input", metavar="IN", help=".npy, .csv, .hex, .bin or .raw; - is stdin")
    parser.add_argument("--from", dest="source", metavar="F", help="IN holds codes of this format")
    parser.add_argument("--to", required=True, metavar="FORMAT", help="the format to round to")
    parser.add_argument("--quantize", action="store_true", help="write values instead of codes")
    known = ", ".join(mode.value for mode in Rounding)
    parser.add_argument("--rounding", metavar="R", help=f"{known}; default: the format's")
    _rule_options(parser)
    parser.add_argument(
        "--seed", metavar="N", type=_seed, help="for stochastic rounding: N, or N,A,... to fold in more"
    )
    parser.add_argument("--random-bits", metavar="N", type=_integer, help="for stochastic_a, _b and _c: 1 to 32")
    parser.add_argument("-o", "--output", metavar="OUT", help="- or nothing is stdout")
    kinds = ["npy", "csv", "hex", "raw"]
    parser.add_argument("--input-format", choices=kinds, help="instead of IN's extension; stdin is csv")
    parser.add_argument(
        "--output-format", choices=kinds, help="instead of OUT's extension; stdout is hex, or csv of values"
    )
    parser.add_argument("--header", action="store_true", help="the first row of a .csv is no data")
    parser.add_argument("--progress", action="store_true", help="say how far it is even if stderr is no terminal")


def _quantize_arguments(parser: Parser) -> None:
    parser.add_argument("input", metavar="IN", help="a safetensors file")
    parser.add_argument("--to", required=True, metavar="FORMAT", help="a format, mostly a block format; or keep")
    parser.add_argument("--map", action="append", metavar="PATTERN=FORMAT", help="a format, or keep, for some names")
    layouts = ["numfmt", "gpt-oss", "compressed-tensors", "modelopt", "gguf", "dequantized"]
    parser.add_argument("--layout", choices=layouts, default="numfmt", help="how OUT holds what is quantized")
    parser.add_argument("--dtype", metavar="T", choices=["F64", "F32", "F16", "BF16"], help="of dequantized values")
    parser.add_argument("--axis", metavar="A", type=_seed, default=-1, help="of the blocks; A,B for tiles")
    known = ", ".join(mode.value for mode in Rounding)
    parser.add_argument("--rounding", metavar="R", help=f"{known}; default: the format's")
    parser.add_argument("--seed", metavar="N", type=_seed, help="for stochastic rounding; a tensor's name is folded in")
    parser.add_argument("--random-bits", metavar="N", type=_integer, help="for stochastic_a, _b and _c: 1 to 32")
    parser.add_argument("-o", "--output", metavar="OUT", help="the file to write; nothing is written without it")
    parser.add_argument("--report", metavar="FORM", help="text, csv, json or html; or a file that ends so")
    parser.add_argument("--report-file", metavar="FILE", help="where the report goes; - or nothing is stdout")
    parser.add_argument("--json", action="store_true", help='the same as --report json, with "schema": 1')
    parser.add_argument("--progress", action="store_true", help="say how far it is even if stderr is no terminal")


def _units_arguments(parser: Parser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("name", metavar="UNIT", nargs="?", help="a unit, or a chip")
    which.add_argument("--family", metavar="F", help="nvidia, amd, x86, arm, accumulator")
    _screen_options(parser)


def _diff_arguments(parser: Parser) -> None:
    parser.add_argument("first", metavar="PLATFORM_A")
    parser.add_argument("second", metavar="PLATFORM_B")
    parser.add_argument("format", metavar="FORMAT")
    _screen_options(parser)


def _selftest_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--hardware", action="store_true", help="compare the processor's own instructions with the platforms of x86"
    )
    _screen_options(parser)


_ARGUMENTS = {
    "list": _list_arguments,
    "info": _info_arguments,
    "explain": _explain_arguments,
    "table": _table_arguments,
    "convert": _convert_arguments,
    "quantize": _quantize_arguments,
    "units": _units_arguments,
    "diff": _diff_arguments,
    "vectors": vectors_arguments,
    "selftest": _selftest_arguments,
}


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text.strip()!r} is no integer") from None


def _seed(text: str) -> int | tuple[int, ...]:
    numbers = tuple(_integer(part) for part in text.split(","))
    return numbers if len(numbers) > 1 else numbers[0]


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = _parser({} if _command(argv) in COMMANDS else _plugins())
    # argparse takes what starts with - and is no plain number for an option; after a space it is a value.
    args = parser.parse_args([f" {a}" if _NEGATIVE.match(a) else a for a in argv])
    if args.command is None and not args.version:
        put(parser.format_help())
        raise Failure("no command is given")
    return args


def _command(argv: Sequence[str]) -> str | None:
    return next((a for a in argv if not a.startswith("-")), None)


def _plugins() -> dict[str, EntryPoint]:
    """Commands of other packages by name; looking for them reads the metadata of all that is installed."""
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=PLUGINS) if entry.name not in COMMANDS}


def _run_plugin(name: str, argv: Sequence[str]) -> int:
    """Run a command of another package."""
    plugins = _plugins()
    if name not in plugins:
        raise Failure(unknown("command", name, [*COMMANDS, *plugins]))
    try:
        run = plugins[name].load()
    except ModuleNotFoundError as error:
        raise Failure(f"{name} needs {error.name}, which is not installed; {_advice(plugins[name], error)}") from error
    return int(run([a for a in argv[argv.index(name) + 1 :] if a != "--debug"]))


def _advice(entry: EntryPoint, error: ModuleNotFoundError) -> str:
    """What to install: the extra of that name where the plugin's distribution has one."""
    metadata = None if entry.dist is None else entry.dist.metadata
    extras = [] if metadata is None else metadata.get_all("Provides-Extra") or []
    wanted = f'"{metadata["Name"]}[{error.name}]"' if metadata is not None and error.name in extras else error.name
    return f"pip install {wanted}"


def _run(args: argparse.Namespace) -> int:
    if args.version:
        from . import __version__

        put(f"nfmt {__version__}")
        return OK
    module, _ = COMMANDS[args.command]
    run = getattr(import_module(f"numfmt._cli.{module}"), f"run_{args.command}")
    return int(run(args))


def main(argv: Sequence[str] | None = None) -> int:
    """Run `nfmt`; returns the exit code.

    >>> main(["explain", "e2m1", "one"])
    2
    """
    given = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in given
    command = _command(given)
    try:
        code = _run(_parse(given)) if command is None or command in COMMANDS else _run_plugin(command, given)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _discard_stdout()
        return OK
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except SystemExit as left:  # argparse, after --help
        return int(left.code or 0)
    except Failure as failure:
        if debug:
            raise
        return _complain(str(failure), failure.code)
    except (ValueError, TypeError, OSError, MemoryError) as error:
        if debug:
            raise
        return _complain(" ".join(str(error).split()) or type(error).__name__, USAGE)
    except Exception as error:
        if debug:
            raise
        return _complain(f"a fault of nfmt itself: {type(error).__name__}: {error}; --debug shows where", FAULT)


def _complain(message: str, code: int) -> int:
    sys.stderr.write(f"nfmt: {message}\n")
    return code


def _discard_stdout() -> None:
    """Nobody reads stdout any more; the interpreter shall not say so when it leaves."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
