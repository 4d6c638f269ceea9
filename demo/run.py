"""The demo: the weights of a trained network through a dozen formats; one table, one picture, one weight explained.

    make demo, or: python demo/run.py [--output-dir build/demo] [--formats FORMAT[:ROUNDING[:SCALE]] ...]

Nothing is downloaded when it runs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

if find_spec("numfmt") is None or find_spec("numpy") is None:
    sys.exit('numfmt is not installed here; run `make demo`, or: python -m pip install -e ".[demo]"')

import numpy as np
from measure import CASES, DEFINITIONS, SCALES, SEED, Case, Row, encode, error_in_ulps, measure, scale_of, scaled_by
from weights import Data, Unavailable, load

import numfmt as nf

EXPECTED = Path(__file__).with_name("expected.json")
ROUNDINGS = ", ".join(mode.value for mode in nf.Rounding if not mode.value.startswith("stochastic_"))
EPILOG = f"""\
A case is FORMAT[:ROUNDING[:SCALE]].
  FORMAT    any name that numfmt reads: bf16, e4m3fn, int8, q0.7, nf4,
            binary8p3se; custom floats as e5m7, or e5m7b20 with its exponent
            bias; `python -m numfmt list` shows the named ones
{textwrap.fill(ROUNDINGS, 80, initial_indent="  ROUNDING  ", subsequent_indent=" " * 12)};
            ties_to_even if left out; stochastic rounds by the random bits of
            seed {SEED}
  SCALE     {", ".join(SCALES)}: what each tensor is divided by: nothing, the
            smallest power of two that saturates nothing, or its largest
            magnitude over the format's; if left out, what suits the format

examples:
  one format, three roundings:
    python demo/run.py --formats e4m3fn e4m3fn:toward_zero e4m3fn:stochastic
  where should eight bits go?
    python demo/run.py --formats e5m2 e4m3 e3m4 e2m5 int8
  what a scale is worth:
    python demo/run.py --formats e2m1::none e2m1
  your own numbers:
    python demo/run.py --data my_weights.npy
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the result is the exit status: 0, 1 if bits differ from those committed, 2 usage, 3 files."""
    options = parse_arguments(arguments)
    try:
        data, notes = load(options.data)
    except Unavailable as reason:
        print(f"demo: {reason}", file=sys.stderr)
        return 3
    if options.update_expected and (data.sha256 is None or options.formats != [Case.parse(text) for text in CASES]):
        print("demo: --update-expected is for the usual cases on magika's network", file=sys.stderr)
        return 2
    columns = shutil.get_terminal_size((80, 24)).columns
    paragraph(" ".join([*notes, f"Weights: {data.title}."]), columns)
    rows = [measure(data.tensors, case) for case in options.formats]
    print("\n" + "\n".join(table(rows, columns)) + "\n")
    for word, meaning in DEFINITIONS.items():
        paragraph(f"{word:9}  {meaning}.", columns, " " * 11)

    print()
    if options.update_expected:
        write_json(EXPECTED, expected_of(data, rows))
        print(f"Wrote {relative(EXPECTED)}.")
    same = report_bits(data, rows)
    try:
        write_results(data, rows, options.output_dir)
    except OSError as error:
        print(f"demo: {error.filename or options.output_dir} cannot be written: {error.strerror}", file=sys.stderr)
        return 3
    explain_one(data)
    show_next()
    return 0 if same else 1


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; `formats` are cases."""
    parser = argparse.ArgumentParser(
        prog="demo/run.py", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EPILOG,
        description="The weights of a trained network through a dozen number formats:\n"
        "one table, one picture, one weight explained.",
    )  # fmt: skip
    parser.add_argument("--output-dir", type=Path, default=Path("build/demo"), metavar="DIR",
                        help="where formats.png and formats.json go (%(default)s)")  # fmt: skip
    parser.add_argument("--formats", nargs="+", default=list(CASES), metavar="CASE",
                        help=f"what to try instead of the {len(CASES)} usual cases; see below")  # fmt: skip
    parser.add_argument("--data", default="auto", metavar="auto|digits|FILE.npy",
                        help="auto: the network in the package magika, else digits; digits: a classifier of "
                        "scikit-learn's digits, trained in a second; or an array of yours")  # fmt: skip
    parser.add_argument("--update-expected", action="store_true",
                        help="for maintainers: write the SHA-256 of today's codes to demo/expected.json")  # fmt: skip
    options = parser.parse_args(arguments)
    try:
        options.formats = [Case.parse(text) for text in options.formats]
    except ValueError as error:
        parser.exit(2, f"demo: {error}\n")
    return options


def table(rows: Sequence[Row], columns: int) -> list[str]:
    """The lines of the table, 80 characters wide; from 100 columns on with a bar for the SQNR."""
    width = max(6, *(len(row.format) for row in rows))
    modes = max(8, *(len(row.rounding) for row in rows))
    head = f"{'format':{width}}  {'rounding':{modes}}  scale  bits  SQNR dB  max ulp  saturated  to zero"
    room = min(columns, 120) - len(head) - 3 if columns >= 100 else 0
    top = max((row.sqnr_db or 0 for row in rows), default=0)
    lines = [head, "-" * (len(head) + (room + 2 if room else 0))]
    for row in rows:
        ratio = "exact" if row.sqnr_db is None else f"{row.sqnr_db:.2f}"
        ulps = math.floor(1000 * row.max_error_ulps) / 1000  # 0.9999 must not read as 1
        lines.append(
            f"{row.format:{width}}  {row.rounding:{modes}}  {row.scale:5}  {row.bits:4}  {ratio:>7}  {ulps:7.3f}"
            f"  {row.saturated:9,}  {row.flushed_to_zero:7,}{bar(row.sqnr_db, top, room)}"
        )
    return lines


def bar(value: float | None, top: float, room: int) -> str:
    """A bar of at most `room` characters."""
    if not room or value is None or value <= 0:
        return ""
    mark = "█" if "utf" in (sys.stdout.encoding or "").lower() else "#"
    return "  " + mark * max(1, round(room * value / top))


def paragraph(text: str, columns: int, indent: str = "") -> None:
    """Print text in lines that fit the terminal, and that eyes can follow."""
    width = min(columns, 120)
    print(textwrap.fill(text, width, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False))


def expected_of(data: Data, rows: Sequence[Row]) -> dict[str, Any]:
    """What demo/expected.json holds."""
    return {
        "written_by": "python demo/run.py --update-expected",
        "model_sha256": data.sha256,
        "weights": data.size,
        "codes_sha256": {row.key: row.codes_sha256 for row in rows},
    }


def report_bits(data: Data, rows: Sequence[Row]) -> bool:
    """Say whether the codes are those committed; False if any differs. Other data has nothing to compare with."""
    expected = json.loads(EXPECTED.read_text(encoding="utf-8")) if EXPECTED.exists() else {}
    if data.sha256 is None or expected.get("model_sha256") != data.sha256:
        return True
    known = [row for row in rows if row.key in expected["codes_sha256"]]
    different = [row.key for row in known if row.codes_sha256 != expected["codes_sha256"][row.key]]
    if different:
        print(f"Bits:    DIFFERENT from {relative(EXPECTED)} in {len(different)} rows: {', '.join(different)}")
    elif known:
        print(f"Bits:    equal to the SHA-256 of all codes in {relative(EXPECTED)}, {len(known)} of {len(rows)} rows")
    return not different


def write_results(data: Data, rows: Sequence[Row], folder: Path) -> None:
    """Write the figures as JSON and as a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        "numfmt": nf.__version__,
        "data": {"title": data.title, "sha256": data.sha256, "weights": data.size},
        "tensors": [tensor.name for tensor in data.tensors],
        "definitions": DEFINITIONS,
        "rows": [row.as_json() for row in rows],
    }
    write_json(folder / "formats.json", figures)
    print(f"Figures: {relative(folder / 'formats.json')}")
    if find_spec("matplotlib") is None:
        print("Picture: none; matplotlib is not installed (pip install matplotlib)")
        return
    from picture import draw

    draw(data, rows, folder / "formats.png")
    print(f"Picture: {relative(folder / 'formats.png')}")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON that reads well in a diff."""
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def explain_one(data: Data) -> None:
    """Explain the positive weight of the largest tensor that e4m3fn rounds worst, by the command line's own means."""
    case = Case.parse("e4m3fn")
    values = data.largest.values
    scale = scale_of(values, case.format, case.scale)
    scaled = scaled_by(values, scale)
    x, y = scaled.astype(np.float64), nf.decode(encode(scaled, case, 0), case.format).astype(np.float64)
    worst = int(np.argmax(np.where(x > 0, error_in_ulps(x, y, case.format), -1.0)))
    text = repr(float(x[worst]))
    print(
        f"\nThe weight that {case.name} hits hardest: number {worst:,} of {data.largest.name}, {values[worst]!s},\n"
        f"divided by the scale 2^{math.frexp(scale)[1] - 1} of its tensor.\n\n"
        f"$ {python()} -m numfmt explain {case.name} {text}",
        flush=True,
    )
    try:
        from numfmt.cli import main as command_line
    except ModuleNotFoundError:
        print(f"This numfmt has no command line yet; the value becomes {y[worst]}.")
        return
    try:
        command_line(["explain", case.name, text])
    except SystemExit:
        pass  # a command line may leave by it


def show_next() -> None:
    """Name three commands to try next."""
    print(
        "\nNext, the same with four bits and a number of yours:\n"
        f"  {python()} -m numfmt explain e2m1 0.3\n"
        "every value of a format:\n"
        f"  {python()} -m numfmt table e2m1\n"
        "where should eight bits go?\n"
        f"  {python()} demo/run.py --formats e5m2 e4m3 e3m4 e2m5 int8"
    )


def python() -> str:
    """This interpreter as one would type it here."""
    path = relative(Path(sys.executable))
    return path if not os.path.isabs(path) else "python"


def relative(path: Path) -> str:
    """The path as seen from here where that is shorter, without resolving links."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:  # the reader has enough, as in `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
