"""What a vector file is about: its function and rules, from its manifest, itself, its name, or the caller."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import files, manifest
from .files import VectorFile
from .functions import Function, Rules, check_rules
from .rows import Digest, Field, Rows, VectorFileError, fields_of

NO_MANIFEST = "none"  # instead of a path: do not look for one


@dataclass
class Subject:
    """A file's function and rules, and the manifest that its rows must agree with.

    Attributes:
        function: None for .fptest, whose lines say it.
        stated: the manifest, or None.
        stated_in: its path.
        is_original: whether the manifest is of this very file, so that its SHA-256 holds, or of the vectors that a
            device has answered.
    """

    function: Function | None
    rules: Rules
    stated: dict[str, Any] | None = None
    stated_in: str = ""
    is_original: bool = False

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields of a row."""
        return () if self.function is None else fields_of(self.function, self.rules)

    @property
    def prefix(self) -> str | None:
        """The line before the first row that the manifest states."""
        prefix = None if self.stated is None else self.stated.get("prefix")
        return None if prefix is None else str(prefix)


def subject_of(
    file: VectorFile,
    function: Function | None,
    given: dict[str, Any],
    manifest_path: str | os.PathLike[str] | None,
) -> Subject:
    """What a file is about.

    Args:
        function: as the caller says, or None.
        given: the fields of `Rules` that the caller says.
        manifest_path: of the manifest; None looks beside the file; "none" does not.

    Raises:
        VectorFileError: a manifest that cannot be read, or contradicts the file.
        ValueError: nobody says the function, or the caller says another one than the file.
    """
    beside = f"{file.path}.json"
    path = manifest_path
    if path is None and file.path != "-" and os.path.exists(beside):
        path = beside
    if path is not None and os.fspath(path) != NO_MANIFEST:
        stated = manifest.read(path)
        found = _stated(os.fspath(path), stated, file, function, given)
        found.is_original = os.path.exists(beside) and os.path.samefile(path, beside)
        return found
    if file.description is not None:
        return replace(_stated(file.path, file.description, file, function, given), stated=None)
    if file.syntax == "fptest":
        if function is not None:
            raise ValueError(f"function {function} is given; every line of {file.path} says its own")
        return Subject(None, Rules(**given))
    named = files.named_function(file.path)
    if named is not None:
        said = {} if named[1].rounding is None else {"rounding": named[1].rounding}
        chosen = _same(function, named[0], "its name")
        return Subject(chosen, _rules(said, given, "its name"))
    if function is None:
        name = "stdin" if file.path == "-" else Path(file.path).name
        raise ValueError(f"nothing says which function {name} holds; give --function, or a manifest (FILE.json)")
    return Subject(function, Rules(**given))


def _stated(
    path: str, stated: dict[str, Any], file: VectorFile, function: Function | None, given: dict[str, Any]
) -> Subject:
    found = manifest.function_of(path, stated)
    own = file.description
    if own is not None and own is not stated:
        same = manifest.function_of(file.path, own)
        for key in ("function", "rules"):
            if own.get(key) != stated.get(key):
                raise VectorFileError(path, None, f"{key} is {stated.get(key)}, but the file says {own.get(key)}"[:400])
        found = same
    rules = manifest.rules_of(stated.get("rules") or {})
    try:
        check_rules(found, rules)
    except ValueError as error:
        raise VectorFileError(path, None, f"rules that {found} cannot have: {error}") from None
    said = {k: v for k, v in vars(rules).items() if v is not None}
    return Subject(_same(function, found, "its manifest"), _rules(said, given, "its manifest"), stated, path)


def _same(given: Function | None, said: Function, where: str) -> Function:
    """The function, which the caller and the file agree on."""
    if given is not None and replace(given, name="") != replace(said, name=""):
        raise ValueError(f"function {given} is given, {where} says {said}; leave one out")
    return said


def _rules(said: dict[str, Any], given: dict[str, Any], where: str) -> Rules:
    """The rules, which the caller and the file agree on."""
    wanted = vars(Rules(**given)) if given else {}
    for key in given:
        if (
            key in said
            and said[key] != wanted[key]
            and (key in ("rounding", "overflow", "platform") or said[key] != getattr(Rules(), key))
        ):
            raise ValueError(f"{key} {wanted[key]} is given, {where} says {said[key]}; leave one out")
    return Rules(**(said | {key: wanted[key] for key in given}))


class Verification:
    """Rows counted and hashed as they pass, and compared with the manifest at the end."""

    def __init__(self, subject: Subject) -> None:
        self._subject, self.rows = subject, 0
        self._digest = Digest(subject.fields) if subject.stated is not None else None

    def update(self, rows: Rows) -> None:
        """Take a chunk in."""
        self.rows += len(rows)
        if self._digest is not None:
            self._digest.update(rows)

    def finish(self, file: VectorFile) -> None:
        """Raise VectorFileError where the manifest states something else."""
        stated, path = self._subject.stated, self._subject.stated_in
        if stated is None or self._digest is None:
            return
        count = stated.get("count")
        if count is not None and count != self.rows:
            raise VectorFileError(file.path, None, f"{self.rows} rows; the manifest {path} states {count}")
        inputs = stated.get("inputs_sha256")
        if inputs is not None and inputs != self._digest.hexdigest():
            raise VectorFileError(
                file.path, None, f"its operands are not those that the manifest {path} states (SHA-256)"
            )
        about = stated.get("file")
        if not self._subject.is_original or not isinstance(about, dict):
            return
        for key, value in (("bytes", file.size), ("sha256", file.sha256)):
            if about.get(key) not in (None, value):
                advice = f"a device's answers go into a file of another name, with --manifest {path}"
                why = f"{key} is {value}; the manifest {path} states {about[key]}; {advice}"
                raise VectorFileError(file.path, None, why)
