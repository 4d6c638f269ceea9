"""Which mutants of a unit vector files tell apart from it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from . import files
from .checking import Source, given_rules, sources
from .functions import Function, Rules, parse
from .rows import Rows
from .subjects import Verification, subject_of
from .unit_mutants import Comparison, Verdict


def mutants(
    paths: Source | Iterable[Source],
    function: str | Function | None = None,
    rules: Rules | None = None,
    *,
    syntax: str | None = None,
    manifest: str | os.PathLike[str] | None = None,
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> dict[str, list[Verdict]]:
    r"""What vector files say of every unit that differs from theirs in one parameter.

    Arguments as for `check`.

    Returns:
        For each function, by name, a `Verdict` of each mutant: told apart, by how many rows and first in which line; or
        why it cannot matter; or neither.

    Raises:
        VectorFileError: as for `check`.
        ValueError: as for `check`; a function that is no dot of a unit.

    >>> import io
    >>> from numfmt import vectors
    >>> text = io.BytesIO()
    >>> made = vectors.write(text, "v100.fp16_dot6", coverage=False)
    >>> found = vectors.mutants(io.BytesIO(text.getvalue()), "v100.fp16_dot6")["v100.fp16_dot6"]
    >>> all(one.is_settled for one in found), [one.mutant for one in found if one.reason][:2]
    (True, ['zero_exponent=none', 'zero_exponent=-132'])
    """
    given = given_rules(rules, options)
    named = None if function is None else parse(function)
    found: dict[str, Comparison] = {}
    for path in sources(paths):
        with files.opened(path, syntax) as file:
            subject = subject_of(file, named, given, manifest)
            one = subject.function
            if one is None or one.unit is None:
                what = f"rows of {one}" if one is not None else "rows of several functions"
                raise ValueError(f"{file.path} holds {what}; mutants are of dots of units, as h100.e4m3_dot48")
            comparison, verification = found.setdefault(one.name, Comparison(one)), Verification(subject)
            chunks: Iterator[Rows] = file.rows(one, subject.rules, flags=False, prefix=subject.prefix)
            for rows in chunks:
                verification.update(rows)
                comparison.update(rows.operands, subject.rules, rows.random, rows.lines)
                if progress is not None:
                    progress(comparison.tried)
            verification.finish(file)
    return {name: comparison.verdicts() for name, comparison in found.items()}
