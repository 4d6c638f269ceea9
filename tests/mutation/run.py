"""Mutation test: change numfmt/_core in one place, and see that judge.py and the parts of it notice.

    python tests/mutation/run.py                       all mutants (4 minutes on two cores)
    python tests/mutation/run.py --only rounding.py    of one file, one function (float.locate) or one id
    python tests/mutation/run.py --list --only fixed   which mutants there are
    python tests/mutation/run.py --verify              also compare survivors with numfmt on sweeps (10 minutes)
    python tests/mutation/run.py --change rounding.py "(mask >> 1) + up" "mask >> 1"       a mutant of your own

A mutant that passes the subset has survived. Either a vector is missing (add a format or operand to the
judge), or the code does something needless (simplify it), or the change means the same: then
survivors.toml lists it with the reason. A survivor that is not listed makes the exit code 1.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT)] if str(ROOT) not in sys.path else []  # run as a file, Python looks beside this one

from tests.mutation import judge, judge_arithmetic, judge_blocks, judge_core, judge_dot, mutants, sweep, workers  # noqa: E402
from tests.mutation.judge import Case  # noqa: E402
from tests.mutation.mutants import Mutant  # noqa: E402

SURVIVORS = HERE / "survivors.toml"
VERDICTS = {  # what a worker says, and how the summary calls it
    "result": "wrong result",
    "rule": "rule broken",
    "error": "exception",
    "survived": "survived",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; the exit code."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="numfmt-mutants-") as folder:  # the package as it is now
        shutil.copytree(ROOT / "numfmt", Path(folder) / "numfmt", ignore=shutil.ignore_patterns("__pycache__"))
        sys.path.insert(0, folder)
        mutants.use(Path(folder))
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    chosen = _chosen(options)
    if options.list:
        for mutant in chosen:
            print(f"{mutant.id:42} {mutant.file}:{mutant.line}:{mutant.column + 1} {mutant.what}: {mutant.after}")
        return 0
    start = time.monotonic()
    cases, seconds = _baseline(_cases(options, {mutant.file for mutant in chosen}))
    _say(f"{len(cases)} cases pass on numfmt as it is; {len(chosen)} mutants")
    answers = _judge_all(chosen, cases, options.jobs, 10 + 5 * seconds)
    known = _known()
    report = _report(chosen, answers, known)
    if options.verify:
        report["differing"] = _verify([m for m in chosen if answers[m][0] == "survived"], options.jobs)
    report["seconds"] = round(time.monotonic() - start)
    _print(report, chosen, answers, known)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return int(bool(report["unexplained"] or report.get("differing")))


def _cases(options: argparse.Namespace, files: set[str]) -> list[Case]:
    """The cases that changes in these files can touch; making the others is left out where it takes long."""

    def touched(kernel: str) -> bool:
        return any(judge.concerned(file, kernel) for file in files)

    made: list[Case] = []
    if any(map(touched, judge.SCALAR)):
        made += judge.Suite(options.seed, options.formats).cases
    if any(map(touched, judge.BLOCK)):
        made += judge_blocks.cases(options.seed, options.formats)
    if any(map(touched, judge.CORE)) and options.formats is None:
        made += judge_core.cases(options.seed)
    if any(map(touched, judge.ARITHMETIC)) and options.formats is None:
        made += judge_arithmetic.cases(options.seed)
    if any(map(touched, judge.DOT)) and options.formats is None:
        made += judge_dot.cases(options.seed)
    return [case for case in made if touched(case.kernel)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="mutants at a time (2)")
    parser.add_argument("--only", action="append", default=[], metavar="NAME",
                        help="a file, function or id, or the start of one; may be repeated")  # fmt: skip
    parser.add_argument("--change", action="append", nargs=3, metavar=("FILE", "OLD", "NEW"),
                        help="judge this change of a file's text instead; may be repeated")  # fmt: skip
    parser.add_argument("--max", type=int, metavar="N", help="at most so many mutants, drawn at random")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of that draw, and of the operands that are drawn (0)"
    )
    parser.add_argument(
        "--formats", nargs="+", metavar="NAME", help="judge by these formats only, of those in judge.py"
    )
    parser.add_argument("--list", action="store_true", help="print the mutants, judge none")
    parser.add_argument("--verify", action="store_true", help="compare survivors with numfmt on exhaustive sweeps")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every verdict to a file")
    return parser


def _chosen(options: argparse.Namespace) -> list[Mutant]:
    if options.change:
        return [mutants.change(*change) for change in options.change]
    every = [mutant for file in mutants.files() for mutant in mutants.generate(file)]
    names = tuple(name.replace(".py", ".") for name in options.only)
    found = [m for m in every if not names or m.id.startswith(names)]
    if not found:
        sys.exit(f"no mutant is called {' or '.join(options.only)}; the files are {', '.join(mutants.files())}")
    if options.max is not None and options.max < len(found):
        places = judge.np.random.default_rng(options.seed).choice(len(found), options.max, replace=False)
        found = [found[i] for i in sorted(places)]
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# ---- judging ---------------------------------------------------------------------------------------------------


def examine(mutant: Mutant | None, cases: Sequence[tuple[int, Case]]) -> workers.Answer:
    """Import a mutant and put cases before it until one fails. In a process of its own."""
    try:
        workers.become(mutant)
    except Exception as error:
        return "error", f"import: {error!r}"
    for place, case in cases:
        if mutant is not None and not judge.concerned(mutant.file, case.kernel):
            continue
        try:
            wrong = judge.check(case)
        except judge.Broken as error:
            return "rule", f"{place}|{case}: {error}"
        except Exception as error:
            return "error", f"{place}|{case}: {error!r}"
        if wrong:
            return "result", f"{place}|{case}: {wrong}"
    return "survived", ""


def _baseline(cases: list[Case]) -> tuple[list[Case], float]:
    """The cases that apply, all of which numfmt passes unchanged, and how many seconds they take."""

    def all_of_them(_: None) -> workers.Answer:
        workers.become(None)
        start, apply, wrong = time.process_time(), [], []
        for place, case in enumerate(cases):
            try:
                answer = judge.check(case)
                apply.append(place)
            except judge.NoPlan:
                continue
            except Exception as error:
                answer = repr(error)
            if answer:
                wrong.append(f"{case}: {answer}")
        return "done", json.dumps([apply, wrong, time.process_time() - start])

    ((_, (verdict, detail)),) = workers.run(all_of_them, [None], 1, 600)
    if verdict != "done":
        sys.exit(f"numfmt as it is: {detail}")
    places, wrong, seconds = json.loads(detail)
    if wrong:
        sys.exit(f"numfmt fails {len(wrong)} cases as it is, so mutants cannot be judged:\n" + "\n".join(wrong[:20]))
    return [cases[place] for place in places], seconds


def _judge_all(chosen: list[Mutant], cases: list[Case], jobs: int, seconds: float) -> dict[Mutant, workers.Answer]:
    """A verdict for each mutant. Cases that kill often are tried first; that changes how long it takes, no verdict."""
    kills = Counter({place: 0 for place in range(len(cases))})
    answers: dict[Mutant, workers.Answer] = {}

    def task(mutant: Mutant) -> workers.Answer:
        return examine(mutant, [(place, cases[place]) for place, _ in kills.most_common()])

    start = time.monotonic()
    for mutant, (verdict, detail) in workers.run(task, chosen, jobs, seconds):
        place, bar, text = detail.partition("|")
        if bar and place.isdigit():
            kills[int(place)] += 1
            detail = text
        answers[mutant] = verdict, detail
        if verdict == "survived":
            _say(f"survived: {mutant.id} {mutant.file}:{mutant.line} {mutant.what}: {mutant.after}")
        if len(answers) % 50 == 0 or len(answers) == len(chosen):
            alive = sum(v == "survived" for v, _ in answers.values())
            _say(f"{len(answers)} of {len(chosen)} judged, {alive} survived, {time.monotonic() - start:.0f} s")
    return answers


def _verify(survivors: list[Mutant], jobs: int) -> list[str]:
    """Ids of survivors that differ from numfmt somewhere in the exhaustive sweeps."""
    differing = []
    for number, (mutant, (verdict, detail)) in enumerate(workers.run(sweep.compare, survivors, jobs, 3600), 1):
        _say(f"swept {number} of {len(survivors)}: {mutant.id} {'equal' if verdict == 'equal' else detail}")
        if verdict != "equal":
            differing.append(mutant.id)
    return differing


# ---- the report ------------------------------------------------------------------------------------------------


def _known() -> dict[tuple[str, str, str, int], str]:
    """Reasons of the listed survivors, by what a mutant is known by."""
    if not SURVIVORS.exists():
        return {}
    entries = tomllib.loads(SURVIVORS.read_text()).get("survivor", [])
    return {(e["in"], e["before"], after, n): e["because"]
            for e in entries for after in ([e["after"]] if isinstance(e["after"], str) else e["after"])
            for n in e.get("nth", [1])}  # fmt: skip


def _report(chosen: list[Mutant], answers: dict[Mutant, workers.Answer], known: dict[Any, str]) -> dict[str, Any]:
    files: dict[str, Counter[str]] = {mutant.file: Counter() for mutant in chosen}
    for mutant, (verdict, _) in answers.items():
        files[mutant.file][verdict] += 1
    by_key = {mutant.key: mutant for file in mutants.files() for mutant in mutants.generate(file)}
    killed = [by_key[k].id for k in known if k in by_key and answers.get(by_key[k], ("survived", ""))[0] != "survived"]
    return {
        "files": {file: dict(counts) for file, counts in files.items()},
        "unexplained": [m.id for m in chosen if answers[m][0] == "survived" and m.key not in known],
        "listed but killed": killed,
        "listed but gone": [" | ".join(map(str, k)) for k in known if k not in by_key],
        "verdicts": {m.id: [m.file, m.line, m.before, m.after, *answers[m]] for m in chosen},
    }


def _print(
    report: dict[str, Any], chosen: list[Mutant], answers: dict[Mutant, workers.Answer], known: dict[Any, str]
) -> None:
    by_id = {mutant.id: mutant for mutant in chosen}
    for id_ in report["unexplained"]:
        print(f"\nsurvived, and survivors.toml does not say why: {id_} ({by_id[id_].what})\n{by_id[id_].diff()}")
        print(_entry(by_id[id_]))
    for id_ in report.get("differing", []):
        print(f"\ndiffers from numfmt in the sweeps, whatever survivors.toml says: {id_}\n{by_id[id_].diff()}")
    for id_ in report["listed but killed"]:
        print(f"survivors.toml lists {id_}, which is killed: {answers[by_id[id_]][1]}")
    for key in report["listed but gone"]:
        print(f"survivors.toml lists what is no mutant any more: {key}")
    columns = [
        "file",
        "mutants",
        "killed",
        *(v for k, v in VERDICTS.items() if k != "survived"),
        "equivalent",
        "unexplained",
    ]
    print("\n" + " ".join(f"{c:>13}" for c in columns))
    unexplained = Counter(by_id[id_].file for id_ in report["unexplained"])
    total: Counter[str] = Counter()
    rows = []
    for file, counts in report["files"].items():
        alive = counts.get("survived", 0)
        row = Counter({"mutants": sum(counts.values()), "killed": sum(counts.values()) - alive,
                       "equivalent": alive - unexplained[file], "unexplained": unexplained[file]})  # fmt: skip
        row.update({name: counts.get(verdict, 0) for verdict, name in VERDICTS.items() if verdict != "survived"})
        total.update(row)
        rows.append((file, row))
    for file, row in [*rows, ("total", total)]:
        print(" ".join(f"{file if c == 'file' else row[c]:>13}" for c in columns))
    print(f"{report['seconds']} s")


def _entry(mutant: Mutant) -> str:
    """A survivor as survivors.toml would list it."""
    function, before, after, nth = mutant.key
    lines = [
        "[[survivor]]",
        f"in = {json.dumps(function)}",
        f"before = {json.dumps(before)}",
        f"after = {json.dumps(after)}",
    ]
    lines += [f"nth = [{nth}]"] if nth > 1 else []
    return "\n".join([*lines, 'because = ""'])


if __name__ == "__main__":
    sys.exit(main())
