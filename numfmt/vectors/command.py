"""What `nfmt vectors` does: generate, check, cover, mutants, list."""

from __future__ import annotations

import argparse
import re
from typing import Any

from .._cli.output import Progress, binary_stdout, is_stdout
from .._cli.screen import BAD_INPUT, MISMATCH, OK, Failure, columns, put, put_json
from .checking import Report, check, cover
from .files import syntax_of
from .functions import INTEGERS, OPERATIONS, Function, functions_of, parse
from .generating import job_of, write
from .manifest import rules_text
from .rows import VectorFileError
from .telling import mutants
from .unit_functions import unit_dot
from .unit_limits import unreachable
from .unit_mutants import Verdict

SHOWN = 24  # lines passed over that are listed


def run(args: argparse.Namespace) -> int:
    """Run the action; a bad file is exit code 3."""
    try:
        return _ACTIONS[args.action](args)
    except VectorFileError as error:
        raise Failure(str(error), BAD_INPUT) from error


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """The rules that the options say."""
    made = {
        "rounding": args.rounding, "overflow": args.overflow, "platform": args.platform, "tininess": args.tininess,
        "exact": args.exact, "random_bit_count": args.random_bits,
    }  # fmt: skip
    return {key: value for key, value in made.items() if value is not None}


# ---- generate --------------------------------------------------------------------------------------------------


def _function(args: argparse.Namespace) -> Function:
    """The function that the arguments name: by its name, or as dot or dot<K> with --unit."""
    options = [name for name, value in (("--inputs", args.inputs), ("--set", args.changes)) if value]
    if args.unit is None:
        if options:
            raise Failure(f"{options[0]} is given without --unit, whose parameters it says")
        return parse(args.function if args.operands is None else f"{args.function} {args.operands}")
    match = re.fullmatch(r"dot(\d*)", args.function)
    if match is None or args.operands is not None:
        raise Failure(f"{args.function} is given with --unit; a unit has dot and dot<K>: dot64 --unit {args.unit}")
    formats = [part.strip() for part in (args.inputs or "").split(",") if part.strip()]
    if len(formats) > 2:
        raise Failure(f"--inputs {args.inputs} is given; it is one format for a and b, or one for each")
    changes: dict[str, Any] = dict(zip("ab", formats * 2, strict=False)) if formats else {}
    for text in args.changes or ():
        key, equals, value = text.partition("=")
        if not equals:
            raise Failure(f"--set {text} is given; it is PARAMETER=VALUE, as in --set fraction=14")
        changes[key.strip()] = value.strip()
    return unit_dot(args.unit, int(match[1]) if match[1] else None, **changes)


def _generate(args: argparse.Namespace) -> int:
    function = _function(args)
    if args.forever and args.count is not None:
        raise Failure("-forever and -n are given; one of them says when to end")
    count = -1 if args.forever else args.count
    style = args.style
    if function.operation == "operands" and style == "directed":
        style = "random"
    options = {"style": style, "level": args.level or (2 if args.forever else 1), "seed": args.seed, "count": count}
    job = job_of(function, **options, **_given(args))
    out = args.output
    syntax = args.format or ("testfloat" if is_stdout(out) else syntax_of(out)) or "testfloat"
    if count == -1 and (not is_stdout(out) or syntax == "npz"):
        raise Failure("-forever is given; rows without end go to stdout, as text")
    progress = Progress(job.total, forced=args.progress)
    try:
        made = write(
            binary_stdout() if is_stdout(out) else out, function, syntax=syntax, manifest_path=args.manifest,
            coverage=args.coverage, prefix=args.prefix, threads=args.threads, progress=progress.at,
            **options, **_given(args),
        )  # fmt: skip
    finally:
        progress.end()
    if is_stdout(out):
        return OK
    if args.json:
        put_json({key: value for key, value in made.items() if key != "schema"})
    else:
        put(f"{out}: {made['count']:,} rows of {function}, {made['file']['bytes']:,} bytes{_reached(made['coverage'])}")
    return OK


def _reached(coverage: dict[str, Any] | None) -> str:
    """, 31 of 33 classes: without …."""
    if coverage is None:
        return ""
    reached, missed = len(coverage["reached"]), coverage["missed"]
    without = f"; missed: {', '.join(missed[:8])}{', …' if len(missed) > 8 else ''}" if missed else ""
    return f", {reached} of {reached + len(missed)} classes{without}"


# ---- check -----------------------------------------------------------------------------------------------------


def _check(args: argparse.Namespace) -> int:
    if args.errors < 0:
        raise Failure(f"-errors {args.errors} is given; it is 0, for all, or more")
    progress = Progress(None, forced=args.progress)
    try:
        report = check(
            args.files, args.function, syntax=args.format, manifest=args.manifest, flags=args.flags,
            nan="bits" if args.check_nans else "class", errors=args.errors, threads=args.threads,
            progress=progress.at, **_given(args),
        )  # fmt: skip
    finally:
        progress.end()
    if args.json:
        put_json(_as_json(report))
    else:
        _put_report(report)
    return OK if report.passed else MISMATCH


def _put_report(report: Report) -> None:
    """The examples, the summary by cause and by class, the verdict."""
    for one in report.examples:
        line = f"{'stdin' if one.file == '-' else one.file}: line {one.line}: {one.function}: {one.cause}"
        put("\n".join([line, *(f"    {text}" for text in one.lines), ""]))
    if report.mismatches > len(report.examples):
        put(f"{report.mismatches - len(report.examples):,} more mismatches are not shown; -errors 0 shows all\n")
    _put_skipped(report)
    if report.causes:
        some = report.classified < report.mismatches
        put("likely causes" + (f" of the first {report.classified:,} mismatches" if some else ""))
        _put_counts(report.causes.most_common())
    if report.classes:
        put("mismatches by class; a row may be in several")
        _put_counts(report.classes.most_common())
    if report.common:
        put(f"{report.common}\n")
    functions = ", ".join(report.functions) if len(report.functions) <= 4 else f"{len(report.functions)} functions"
    verdict = "none differs" if report.passed else f"{report.mismatches:,} differ"
    put(f"{report.rows:,} rows of {functions}: {verdict}")


def _put_skipped(report: Report) -> None:
    if not report.skips:
        return
    put(f"{sum(report.skips.values()):,} lines are skipped, not checked")
    _put_counts(report.skips.most_common())
    for path, line, why in report.skipped[:SHOWN]:
        put(f"  {path}: line {line}: {why}")
    if sum(report.skips.values()) > SHOWN:
        put("  …; --json has the numbers of the first 1,000")
    put("")


def _put_counts(counts: list[tuple[str, int]]) -> None:
    for line in columns([(f"{n:,}", name) for name, n in counts], "><"):
        put(f"  {line}")
    put("")


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "passed": report.passed, "files": report.files, "rows": report.rows, "mismatches": report.mismatches,
        "functions": dict(report.functions), "rules": [rules_text(rules) for rules in report.rules],
        "classified": report.classified, "causes": dict(report.causes.most_common()),
        "classes": dict(report.classes.most_common()), "common": report.common or None,
        "examples": [
            {
                "file": one.file, "line": one.line, "function": one.function, "cause": one.cause,
                "operands": list(one.operands), "expected": one.expected, "got": one.got,
                "expected_flags": one.expected_flags, "got_flags": one.got_flags, "explanation": list(one.lines),
            }
            for one in report.examples
        ],
        "skips": dict(report.skips.most_common()),
        "skipped": [{"file": path, "line": line, "why": why} for path, line, why in report.skipped],
    }  # fmt: skip


# ---- cover -----------------------------------------------------------------------------------------------------


def _cover(args: argparse.Namespace) -> int:
    progress = Progress(None, forced=args.progress)
    try:
        found = cover(
            args.files, args.function, syntax=args.format, manifest=args.manifest, threads=args.threads,
            progress=progress.at, **_given(args),
        )  # fmt: skip
    finally:
        progress.end()
    missed = {name: [one for one, n in classes.items() if not n] for name, classes in found.items()}
    if args.json:
        made = [
            {
                "function": name,
                "reached": {k: n for k, n in classes.items() if n},
                "missed": missed[name],
                **({"unreachable": limits} if (limits := _limits(name)) else {}),
            }
            for name, classes in found.items()
        ]
        put_json({"files": list(args.files), "coverage": made})
    else:
        for name, classes in found.items():
            put(f"{name}: {len(classes) - len(missed[name])} of {len(classes)} classes are reached")
            _put_counts([(one, n) for one, n in classes.items() if n])
            if missed[name]:
                put("\n".join(["missed", *(f"  {one}" for one in missed[name]), ""]))
            if limits := _limits(name):
                put("\n".join(["cannot be reached", *(f"  {one}: {why}" for one, why in limits.items()), ""]))
    return MISMATCH if args.strict and any(missed.values()) else OK


def _limits(name: str) -> dict[str, str]:
    """Classes that no operands of a unit reach, with reasons."""
    function = parse(name)
    return {} if function.unit is None else unreachable(function)


# ---- mutants ---------------------------------------------------------------------------------------------------


def _mutants(args: argparse.Namespace) -> int:
    progress = Progress(None, forced=args.progress)
    try:
        found = mutants(
            args.files, args.function, syntax=args.format, manifest=args.manifest, progress=progress.at, **_given(args)
        )
    finally:
        progress.end()
    open_ = {name: [one for one in verdicts if not one.is_settled] for name, verdicts in found.items()}
    if args.json:
        made = [{"function": name, "mutants": [_verdict_json(one) for one in found[name]]} for name in found]
        put_json({"files": list(args.files), "units": made})
    else:
        for name, verdicts in found.items():
            put("\n".join(columns([(one.mutant, str(one)) for one in verdicts], "<<")))
            told, excused = sum(one.rows > 0 for one in verdicts), sum(bool(one.reason) for one in verdicts)
            counts = f"{told} told apart, {excused} cannot matter, {len(open_[name])} not told apart"
            put(f"{name}: {len(verdicts)} mutants: {counts}")
    return MISMATCH if args.strict and any(open_.values()) else OK


def _verdict_json(one: Verdict) -> dict[str, Any]:
    verdict = "told apart" if one.rows else "cannot matter" if one.reason else "not told apart"
    return {
        "mutant": one.mutant, "parameter": one.parameter, "verdict": verdict, "rows": one.rows,
        "first": one.first or None, "reason": one.reason or None, "tried": one.tried,
    }  # fmt: skip


# ---- list ------------------------------------------------------------------------------------------------------


def _list(args: argparse.Namespace) -> int:
    if args.format is not None:
        names = functions_of(args.format)
        if args.json:
            put_json({"format": args.format, "functions": names})
        else:
            put("\n".join(names))
        return OK
    rows = [
        ("<source>_to_<target>", "a conversion, rounded once", "f32_to_e4m3fn"),
        (f"<format>_to_{'|'.join(INTEGERS)}", "to an integer, and back", "f16_to_i32"),
        *(
            (f"<format>_{name}", operation.replace("_", " "), _example(name))
            for name, (operation, _) in OPERATIONS.items()
        ),
        ("<block>_encode<K>", "K binary32 numbers into scales and codes", "mxfp4_encode32"),
        ("<format>_dot<L>", "the exact sum of L products, rounded once to binary32", "mxfp8_e4m3_dot32"),
        ("<unit>_dot<K>", "K products as a matrix unit adds them (nfmt units)", "h100.e4m3_dot48"),
        (
            "unit(<unit>, <parameter>=<value>)_dot<K>",
            "those of a unit with other parameters",
            "unit(h100.e4m3, fraction=14)_dot48",
        ),
        ("<format> [COUNT]", "operands alone", "f32 2"),
    ]
    if args.json:
        put_json({"functions": [{"name": name, "what": what, "example": example} for name, what, example in rows]})
    else:
        put("\n".join(columns(rows, "<<<")))
    return OK


def _example(name: str) -> str:
    return f"int8_{name}" if name == "mac" else f"e4m3fn_{name}"


_ACTIONS = {"generate": _generate, "check": _check, "cover": _cover, "mutants": _mutants, "list": _list}
