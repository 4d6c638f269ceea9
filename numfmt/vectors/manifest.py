"""What a vector file holds, as JSON: function, formats with their hashes, rules, style, seed, count, SHA-256."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from enum import Enum
from fractions import Fraction
from typing import Any

from ..formats import CodebookFormat
from ..rounding import Overflow, Rounding
from .functions import Function, Rules, parse
from .rows import Field, VectorFileError, fields_of

SCHEMA = 1
MAX_BYTES = 1 << 24  # of a manifest that is read


def definition(fmt: Any) -> dict[str, Any]:
    """Every field of a format, as JSON takes it.

    >>> import numfmt as nf
    >>> definition(nf.get_format("e4m3fn"))["precision"]
    4
    """

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return definition(value)
        if isinstance(value, Enum):
            return value.value
        if isinstance(value, Fraction):
            return str(value)
        return [plain(part) for part in value] if isinstance(value, tuple | list) else value

    named = {one.name: plain(getattr(fmt, one.name)) for one in dataclasses.fields(fmt)}
    return {"kind": type(fmt).__name__, **named}


def format_hash(fmt: Any) -> str:
    """SHA-256 of a format's definition, in JSON without spaces and with sorted keys."""
    text = json.dumps(definition(fmt), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def describe(function: Function, rules: Rules, **facts: Any) -> dict[str, Any]:
    """What a file says of itself: all of the manifest that is known before the first row."""
    from .. import __version__

    formats = {str(f): {"definition": definition(f), "sha256": format_hash(f)} for f in function.formats}
    unit = {} if function.unit is None else {"unit": function.unit.as_dict()}
    return {
        "schema": SCHEMA, "numfmt": __version__, "function": function.name, **unit, "formats": formats,
        "rules": rules_text(resolved(function, rules)),
        "fields": [_field_text(one) for one in fields_of(function, rules)], **facts,
    }  # fmt: skip


def resolved(function: Function, rules: Rules) -> Rules:
    """The rules with the modes that are the formats' defaults, where no platform decides them."""
    block = function.block if function.operation == "encode_block" else None
    fmt = block or function.to or function.sources[0]
    if rules.platform is not None or not function.rounds or function.unit is not None:
        return rules
    rounding = rules.rounding or fmt.default_rounding
    overflow = rules.overflow
    if function.operation not in ("to_integer", "round_to_integral") and not isinstance(fmt, CodebookFormat):
        overflow = overflow or fmt.default_overflow
    return dataclasses.replace(rules, rounding=rounding, overflow=overflow)


def rules_text(rules: Rules) -> dict[str, Any]:
    """The rules, as JSON takes them; null is the default of the format."""
    return {
        "rounding": None if rules.rounding is None else rules.rounding.value,
        "overflow": None if rules.overflow is None else rules.overflow.value,
        "platform": rules.platform, "tininess": rules.tininess, "exact": rules.exact,
        "random_bit_count": rules.random_bits or None,
    }  # fmt: skip


def _field_text(one: Field) -> dict[str, Any]:
    return {"name": one.name, "role": one.role, "bits": one.bits, "count": one.count, "digits": one.digits}


def rules_of(text: Mapping[str, Any]) -> Rules:
    """The rules that a manifest states; raises ValueError, TypeError for what they cannot be."""
    known = {"rounding", "overflow", "platform", "tininess", "exact", "random_bit_count"}
    if set(text) - known:
        raise ValueError(f"rules has {sorted(set(text) - known)[0]!r}, which is none of {', '.join(sorted(known))}")
    rounding = None if text.get("rounding") is None else Rounding.parse(str(text["rounding"]))
    overflow = None if text.get("overflow") is None else Overflow.parse(str(text["overflow"]))
    count = text.get("random_bit_count")
    if not isinstance(text.get("exact", False), bool) or not isinstance(count, int | None):
        raise ValueError("rules has exact that is no truth value, or random_bit_count that is no integer")
    platform = text.get("platform")
    return Rules(
        rounding, overflow, None if platform is None else str(platform), str(text.get("tininess", "after")),
        text.get("exact", False), count,
    )  # fmt: skip


def text_of(manifest: Mapping[str, Any]) -> bytes:
    """A manifest as it is written: the same bytes for the same content."""
    return (json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The manifest of a path, its schema checked."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise VectorFileError(path, None, error.strerror or str(error)) from error
    if len(data) > MAX_BYTES:
        raise VectorFileError(path, None, f"more than {MAX_BYTES} bytes; a manifest is smaller")
    return checked(path, data)


def checked(path: str | os.PathLike[str], data: bytes, line: int | None = None) -> dict[str, Any]:
    """A manifest, or what a file says of itself, from its JSON text."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise VectorFileError(path, line, f"no manifest in JSON ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(found, dict) or not isinstance(found.get("function"), str):
        raise VectorFileError(path, line, "no manifest: it is no JSON object with a function")
    if found.get("schema") != SCHEMA:
        made = f"schema {found.get('schema')!r}, made by numfmt {found.get('numfmt', '?')}"
        raise VectorFileError(path, line, f"{made}; this version reads schema {SCHEMA}")
    return found


def function_of(path: str | os.PathLike[str], found: Mapping[str, Any], line: int | None = None) -> Function:
    """The function that a manifest names, its fields and format definitions compared with ours."""
    try:
        function, rules = parse(found["function"]), rules_of(found.get("rules") or {})
    except (ValueError, TypeError, AttributeError) as error:
        raise VectorFileError(path, line, f"a manifest that means nothing here: {error}") from None
    stated = found.get("formats") or {}
    for fmt in function.formats:
        entry = stated.get(str(fmt)) if isinstance(stated, dict) else None
        if entry is None:
            continue
        ours = {"definition": definition(fmt), "sha256": format_hash(fmt)}
        if entry != ours:
            raise VectorFileError(
                path, line, f"format {fmt} is defined otherwise than here: {_difference(entry, ours)}"
            )
    if function.unit is not None and (there := found.get("unit")) not in (None, here := function.unit.as_dict()):
        why = "there are no parameters" if not isinstance(there, dict) else _first_unlike(there, here)
        raise VectorFileError(path, line, f"the unit of {function} is defined otherwise than here: {why}")
    ours_fields = [_field_text(one) for one in fields_of(function, rules)]
    if found.get("fields", ours_fields) != ours_fields:
        raise VectorFileError(path, line, f"the fields stated are not those of {function}: {found['fields']}"[:400])
    return function


def _difference(theirs: Any, ours: dict[str, Any]) -> str:
    """The first thing in which two definitions differ."""
    stated = theirs.get("definition") if isinstance(theirs, dict) else None
    if not isinstance(stated, dict):
        return "there is no definition"
    return _first_unlike(stated, ours["definition"]) or "its SHA-256 is not that of its definition"


def _first_unlike(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """The first key that two mappings have otherwise; "" where they are equal."""
    for key, value in here.items():
        if there.get(key) != value:
            return f"{key} is {there.get(key)!r} there, {value!r} here"
    extra = set(there) - set(here)
    return f"it has {sorted(extra)[0]!r} there" if extra else ""
