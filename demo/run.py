"""The demo: the weights of a trained network through two dozen formats, scalar ones and blocks, and what is left of its
answers about real files; tables, one picture, one weight explained. Then a transformer, trained under three recipes.

    make demo, or: python demo/run.py [--output-dir build/demo] [--formats FORMAT[:ROUNDING[:SCALE]] ...] [--steps N]

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
from accuracy import DEFINITIONS as ACCURACY_DEFINITIONS
from accuracy import Answers, ask
from blocks import BLOCK_CASES, BlockCase, BlockRow, measure_blocks
from blocks import DEFINITIONS as BLOCK_DEFINITIONS
from measure import CASES, DEFINITIONS, SCALES, SEED, Case, Row, encode, error_in_ulps, measure, scale_of, scaled_by
from training import STEPS, train
from weights import Data, Unavailable, load

import numfmt as nf

EXPECTED = Path(__file__).with_name("expected.json")
FILES = 160
ROUNDINGS = ", ".join(mode.value for mode in nf.Rounding if not mode.value.startswith("stochastic_"))
EPILOG = f"""\
A case is FORMAT[:ROUNDING[:SCALE]].
  FORMAT    any name that numfmt reads: bf16, e4m3fn, int8, q0.7, nf4,
            binary8p3se; custom floats as e5m7, or e5m7b20 with its exponent
            bias; block formats as mxfp4, nvfp4, q4_0, or
            block(e2m1, scale=e8m0, size=32, rule=rceil), which have scales of
            their own; `python -m numfmt list` shows the named ones
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
    python demo/run.py --formats e2m1::none e2m1 mxfp4 nvfp4
  your own numbers:
    python demo/run.py --data my_weights.npy
  a longer training:
    python demo/run.py --steps 2000
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the result is the exit status: 0, 1 if bits differ from those committed, 2 usage, 3 files."""
    options = parse_arguments(arguments)
    try:
        data, notes = load(options.data)
    except Unavailable as reason:
        print(f"demo: {reason}", file=sys.stderr)
        return 3
    usual = [parse_case(text) for text in (*CASES, *BLOCK_CASES)]
    if options.update_expected and (data.sha256 is None or options.formats != usual):
        print("demo: --update-expected is for the usual cases on magika's network", file=sys.stderr)
        return 2
    columns = shutil.get_terminal_size((80, 24)).columns
    paragraph(" ".join([*notes, f"Weights: {data.title}."]), columns)
    rows = [measure(data.tensors, case) for case in options.formats if isinstance(case, Case)]
    blocks = [measure_blocks(data.tensors, case) for case in options.formats if isinstance(case, BlockCase)]
    show_tables(rows, blocks, columns)
    answers = ask(data, options.formats, options.files)
    show_answers(answers, columns)

    print()
    if options.update_expected:
        write_json(EXPECTED, expected_of(data, rows, blocks))
        print(f"Wrote {relative(EXPECTED)}.")
    same = report_bits(data, rows, blocks)
    try:
        write_results(data, rows, blocks, answers, options.output_dir)
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"demo: {error.filename or options.output_dir} cannot be written: {error.strerror}", file=sys.stderr)
        return 3
    explain_one(data)
    if options.steps:
        show_training(options.steps, options.output_dir)
    show_next()
    return 0 if same else 1


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; `formats` are cases."""
    parser = argparse.ArgumentParser(
        prog="demo/run.py", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EPILOG,
        description="The weights of a trained network through two dozen number formats, and what is\n"
        "left of its answers about real files: tables, one picture, one weight explained.\n"
        "Then a transformer, trained under float32, MXFP8 and NVFP4.",
    )  # fmt: skip
    parser.add_argument("--output-dir", type=Path, default=Path("build/demo"), metavar="DIR",
                        help="where formats.*, training.* go (%(default)s)")  # fmt: skip
    usual = [*CASES, *BLOCK_CASES]
    parser.add_argument("--formats", nargs="+", metavar="CASE",
                        help=f"what to try instead of the {len(usual)} usual cases; see below")  # fmt: skip
    parser.add_argument("--files", type=int, default=FILES, metavar="N",
                        help="files of this machine that the network is asked about (%(default)s); 0: none")  # fmt: skip
    parser.add_argument("--data", metavar="auto|digits|FILE.npy",
                        help="auto: the network in the package magika, else digits; digits: a classifier of "
                        "scikit-learn's digits, trained in a second; or an array of yours")  # fmt: skip
    parser.add_argument("--steps", type=int, metavar="N",
                        help=f"of the training under each recipe ({STEPS}, or 0 with --formats or --data); 0: none")  # fmt: skip
    parser.add_argument("--update-expected", action="store_true",
                        help="for maintainers: write the SHA-256 of today's codes to demo/expected.json")  # fmt: skip
    options = parser.parse_args(arguments)
    if options.steps is None:
        options.steps = 0 if options.formats or options.data or options.update_expected else STEPS
    elif options.steps < 0:
        parser.exit(2, f"demo: --steps {options.steps} is given; it is 0 or more\n")
    options.formats, options.data = options.formats or usual, options.data or "auto"
    try:
        options.formats = [parse_case(text) for text in options.formats]
    except ValueError as error:
        parser.exit(2, f"demo: {error}\n")
    return options


def parse_case(text: str) -> Case | BlockCase:
    """The case that a text describes."""
    return BlockCase.parse(text) or Case.parse(text)


def show_tables(rows: Sequence[Row], blocks: Sequence[BlockRow], columns: int) -> None:
    """Print what formats and block formats did to the weights, and what the words mean."""
    for lines, definitions in (
        (table(rows, columns) if rows else [], DEFINITIONS),
        (block_table(blocks, columns) if blocks else [], BLOCK_DEFINITIONS),
    ):
        if lines:
            print("\n" + "\n".join(lines) + "\n")
            for word, meaning in definitions.items():
                paragraph(f"{word:9}  {meaning}.", columns, " " * 11)


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


def block_table(rows: Sequence[BlockRow], columns: int) -> list[str]:
    """The lines of the table of blocks, as `table`."""
    width = max(12, *(len(row.label) for row in rows))
    scales = max(5, *(len(row.scale) for row in rows))
    head = (
        f"{'blocks of':{width}}  {'block':5}  {'scale':{scales}}   bits  SQNR dB   slope  saturated  last bin  to zero"
    )
    room = min(columns, 120) - len(head) - 3 if columns >= 100 else 0
    top = max((row.sqnr_db or 0 for row in rows), default=0)
    lines = [head, "-" * (len(head) + (room + 2 if room else 0))]
    for row in rows:
        ratio = "exact" if row.sqnr_db is None else f"{row.sqnr_db:.2f}"
        lines.append(
            f"{row.label:{width}}  {row.block:5}  {row.scale:{scales}}  {row.bits:5.4g}  {ratio:>7}  {row.slope:6.4f}"
            f"  {row.saturated:9,}  {row.last_bin:8,}  {row.flushed_to_zero:7,}{bar(row.sqnr_db, top, room)}"
        )
    return lines


def show_answers(answers: Answers | None, columns: int) -> None:
    """Print how far the network's answers agree with those of its float32 weights, in two columns."""
    if answers is None:
        return
    print()
    paragraph(
        f"The network's answers about {answers.files} files of this machine, of {answers.types} types, with each format's "
        "weights:", columns,
    )  # fmt: skip
    width = max(11, *(len(key) for key in answers.rows))
    cells = [f"{key:{width}}  {100 * row.top1:6.2f} %  {row.mean_kl:8.1e}" for key, row in answers.rows.items()]
    head = f"{'format':{width}}     top-1   mean KL"
    half = -(-len(cells) // 2) if 2 * len(head) + 6 <= columns and len(cells) > 3 else len(cells)
    count = 1 + (len(cells) > half)
    print("\n" + "      ".join([head] * count))
    print("      ".join(["-" * len(head)] * count))
    for i, left in enumerate(cells[:half]):
        print(f"{left}      {cells[half + i]}" if half + i < len(cells) else left)
    print()
    for word, meaning in ACCURACY_DEFINITIONS.items():
        paragraph(f"{word:9}  {meaning}.", columns, " " * 11)


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


def expected_of(data: Data, rows: Sequence[Row], blocks: Sequence[BlockRow]) -> dict[str, Any]:
    """What demo/expected.json holds."""
    return {
        "written_by": "python demo/run.py --update-expected",
        "model_sha256": data.sha256,
        "weights": data.size,
        "codes_sha256": {row.key: row.codes_sha256 for row in rows},
        "blocks_sha256": {row.key: row.sha256 for row in blocks},
    }


def report_bits(data: Data, rows: Sequence[Row], blocks: Sequence[BlockRow] = ()) -> bool:
    """Say whether the codes are those committed; False if any differs. Other data has nothing to compare with."""
    expected = json.loads(EXPECTED.read_text(encoding="utf-8")) if EXPECTED.exists() else {}
    if data.sha256 is None or expected.get("model_sha256") != data.sha256:
        return True
    committed = {**expected["codes_sha256"], **expected.get("blocks_sha256", {})}
    found: dict[str, Any] = {row.key: row.codes_sha256 for row in rows} | {row.key: row.sha256 for row in blocks}
    known = [key for key in found if key in committed]
    different = [key for key in known if found[key] != committed[key]]
    if different:
        print(f"Bits:    DIFFERENT from {relative(EXPECTED)} in {len(different)} rows: {', '.join(different)}")
    elif known:
        print(f"Bits:    equal to the SHA-256 of all codes in {relative(EXPECTED)}, {len(known)} of {len(found)} rows")
    return not different


def write_results(
    data: Data, rows: Sequence[Row], blocks: Sequence[BlockRow], answers: Answers | None, folder: Path
) -> None:
    """Write the figures as JSON and as a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        "numfmt": nf.__version__,
        "data": {"title": data.title, "sha256": data.sha256, "weights": data.size},
        "tensors": [tensor.name for tensor in data.tensors],
        "definitions": DEFINITIONS | BLOCK_DEFINITIONS | ACCURACY_DEFINITIONS,
        "rows": [row.as_json() for row in rows],
        "blocks": [row.as_json() for row in blocks],
        "answers": None if answers is None else answers.as_json(),
    }
    write_json(folder / "formats.json", figures)
    print(f"Figures: {relative(folder / 'formats.json')}")
    if find_spec("matplotlib") is None:
        print("Picture: none; matplotlib is not installed (pip install matplotlib)")
        return
    from picture import draw

    draw(data, rows, blocks, answers, folder / "formats.png")
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


def show_training(steps: int, folder: Path) -> None:
    """Train a transformer under three recipes, and say where the log and the curves are."""
    print("\nNumbers in training: one loss function, its products rounded by recipe.\n")
    files = train(steps, folder)
    print()
    for word, path in files.items():
        print(f"{word + ':':8} {relative(path)}")


def show_next() -> None:
    """Name three commands to try next."""
    print(
        "\nNext, the same with four bits and a number of yours:\n"
        f"  {python()} -m numfmt explain e2m1 0.3\n"
        "every value of a format:\n"
        f"  {python()} -m numfmt table e2m1\n"
        "where should eight bits go?\n"
        f"  {python()} demo/run.py --formats e5m2 e4m3 e3m4 e2m5 int8 mxint8\n"
        "the recipes there are, and a training of yours:\n"
        f"  {python()} -m numfmt recipes\n"
        f"  {python()} -m numfmt_jax train --help"
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
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader has enough, as in `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
