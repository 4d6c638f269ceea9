"""Mutants of numfmt/_core: its source with one operator, constant, branch, operand or statement changed.

A mutant is known by the function it lies in and by its statement before and after, not by a line number,
so that it stays the same mutant when the file around it moves.
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitOr, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult, ast.Pow: ast.Mult,
}  # fmt: skip
COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq, ast.LtE, ast.GtE), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
}  # fmt: skip
SYMBOLS = {
    ast.Add: "+", ast.Sub: "-", ast.LShift: "<<", ast.RShift: ">>", ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^",
    ast.Mult: "*", ast.FloorDiv: "//", ast.Pow: "**", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
    ast.Eq: "==", ast.NotEq: "!=", ast.Is: "is", ast.IsNot: "is not", ast.USub: "-", ast.Invert: "~",
}  # fmt: skip
OPPOSITE = {"minimum": "maximum", "maximum": "minimum"}


_roots = [ROOT]


def core() -> Path:
    """The folder that mutants are made of: numfmt/_core."""
    return _roots[-1] / "numfmt" / "_core"


def use(root: Path) -> None:
    """Make mutants of a copy of the package, so that the original may change meanwhile."""
    _roots.append(root)
    generate.cache_clear()


@dataclass(frozen=True)
class Mutant:
    """One change to one file of numfmt/_core."""

    file: str  # name of the file, as "float.py"
    function: str  # where it lies; "" outside functions and classes
    before: str  # the statement, as ast.unparse writes it
    after: str
    nth: int  # of equal changes in one function, the nth, from 1
    line: int
    column: int
    what: str
    start: int  # bytes of the file that `text` replaces
    stop: int
    text: str

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What it is known by."""
        return f"{self.file.removesuffix('.py')}.{self.function}", self.before, self.after, self.nth

    @property
    def id(self) -> str:
        """A name that does not change when the file around it does."""
        return f"{self.key[0]}:{hashlib.sha256(repr(self.key).encode()).hexdigest()[:8]}"

    def source(self) -> str:
        """The mutated file."""
        original = (core() / self.file).read_bytes()
        return (original[: self.start] + self.text.encode() + original[self.stop :]).decode()

    def diff(self) -> str:
        """What changes, as a unified diff without context."""
        path = f"numfmt/_core/{self.file}"
        old = (core() / self.file).read_text().splitlines(keepends=True)
        return "".join(unified_diff(old, self.source().splitlines(keepends=True), path, path, n=0))


def files() -> list[str]:
    """The files that mutants are made of."""
    return sorted(path.name for path in core().glob("*.py") if path.name != "__init__.py")


@cache
def generate(file: str) -> tuple[Mutant, ...]:
    """All mutants of a file, in the order of its lines.

    >>> any(m.before == "mask = (1 << drop) - 1" and m.after == "mask = 1 << drop" for m in generate("rounding.py"))
    True
    """
    source = (core() / file).read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    mutants: list[Mutant] = []
    seen: Counter[tuple[str, str, str]] = Counter()
    for function, statement, root in _statements(ast.parse(source), ""):
        changed: set[str] = set()  # two ways to the same statement are one mutant
        before = _head(statement)
        for old, new, text, what in _changes(root, statement):
            after = "pass" if old is statement else _with(statement, old, new)
            if after == before or after in changed:
                continue
            changed.add(after)
            seen[function, before, after] += 1
            assert isinstance(old, ast.expr | ast.stmt)
            mutants.append(
                Mutant(
                    file,
                    function,
                    before,
                    after,
                    seen[function, before, after],
                    old.lineno,
                    old.col_offset,
                    what,
                    starts[old.lineno - 1] + old.col_offset,
                    _end(starts, old),
                    text,
                )
            )
    return tuple(mutants)


def _end(starts: list[int], node: ast.expr | ast.stmt) -> int:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return starts[node.end_lineno - 1] + node.end_col_offset


def change(file: str, old: str, new: str) -> Mutant:
    """The mutant that has `new` where the file first has `old`; raises ValueError where it does not."""
    source = (core() / file).read_text()
    place = source.index(old)
    line, column = source.count("\n", 0, place) + 1, place - source.rfind("\n", 0, place) - 1
    start = len(source[:place].encode())
    return Mutant(file, "", old, new, 1, line, column, "changed by hand", start, start + len(old.encode()), new)


def _statements(tree: ast.AST, scope: str) -> Iterator[tuple[str, ast.stmt, ast.expr | None]]:
    """Every statement that can change: its scope, and the expression in it (of `if` and `for`, in its head)."""
    for statement in getattr(tree, "body", []) + getattr(tree, "orelse", []):
        match statement:
            case ast.FunctionDef():
                yield from _statements(statement, f"{scope}.{statement.name}".lstrip("."))
            case ast.If():
                yield scope, statement, statement.test
                yield from _statements(statement, scope)
            case ast.For():
                yield scope, statement, statement.iter
                yield from _statements(statement, scope)
            case ast.Assign() | ast.AnnAssign() | ast.AugAssign() | ast.Return():
                yield scope, statement, statement.value


def _head(statement: ast.stmt) -> str:
    """A statement in one line; of `if` and `for` the first one."""
    match statement:
        case ast.If():
            return f"if {ast.unparse(statement.test)}:"
        case ast.For():
            return f"for {ast.unparse(statement.target)} in {ast.unparse(statement.iter)}:"
    return ast.unparse(statement)


def _with(statement: ast.stmt, old: ast.AST, new: ast.AST) -> str:
    """The head of a statement with one node replaced."""
    for parent in ast.walk(statement):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new)
                head = _head(statement)
                setattr(parent, name, old)
                return head
            if isinstance(value, list) and any(item is old for item in value):
                setattr(parent, name, [new if item is old else item for item in value])
                head = _head(statement)
                setattr(parent, name, value)
                return head
    raise AssertionError(ast.dump(old))


def _changes(root: ast.expr | None, statement: ast.stmt) -> Iterator[tuple[ast.AST, ast.AST, str, str]]:
    """Pairs of an expression and what may stand in its place, with the text of that and a description."""
    if isinstance(statement, ast.Assign) and _drops(statement):
        yield statement, ast.Pass(), "pass", "statement left out"
    if isinstance(statement, ast.If) and isinstance(root, ast.Name):
        for text in (f"not {root.id}", "False"):  # with True the general case serves all, and is only slower
            yield root, ast.parse(text, mode="eval").body, text, f"if {text}"
    for node in _expressions(root) if root is not None else ():
        for new, what in _replacements(node):
            yield node, new, f"({ast.unparse(new)})", what


def _expressions(root: ast.AST) -> Iterator[ast.expr]:
    """Every expression in a tree, in order; `x * 0` counts as a constant: it is an array of zeros."""
    if isinstance(root, ast.expr):
        yield root
    if not _is_zero(root):
        for child in ast.iter_child_nodes(root):
            yield from _expressions(child)


def _is_zero(node: ast.AST) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) and ast.unparse(node.right) == "0"


def _drops(statement: ast.Assign) -> bool:
    """Whether a statement changes what has a value already: then the function runs without it."""
    targets = {node.id for target in statement.targets for node in ast.walk(target) if isinstance(node, ast.Name)}
    return targets <= {node.id for node in ast.walk(statement.value) if isinstance(node, ast.Name)}


def _replacements(node: ast.expr) -> Iterator[tuple[ast.expr, str]]:
    match node:
        case ast.BinOp(_, ast.Mult(), ast.Constant(0)):
            one = ast.BinOp(node, ast.Add(), ast.Constant(1))
            yield one, "0 becomes 1"
        case ast.BinOp(left, ast.Add(), right) if _is_zero(left):
            yield ast.BinOp(left, ast.Sub(), right), "+ becomes -"
            yield left, "right operand of + left out"
        case ast.BinOp(left, operator, right):
            sign = SYMBOLS[type(operator)]
            other = OPERATORS[type(operator)]
            yield ast.BinOp(left, other(), right), f"{sign} becomes {SYMBOLS[other]}"
            yield left, f"right operand of {sign} left out"
            if isinstance(operator, ast.Sub):
                yield ast.UnaryOp(ast.USub(), right), f"left operand of {sign} left out"
            else:
                yield right, f"left operand of {sign} left out"
        case ast.UnaryOp(operator, operand):
            yield operand, f"{SYMBOLS[type(operator)]} left out"
        case ast.Compare(left, [operator], [right]):
            against_zero = isinstance(operator, ast.Eq) and ast.unparse(right) == "0"  # of what is never negative
            for other in COMPARISONS[type(operator)][: 1 if against_zero else None]:
                what = f"{SYMBOLS[type(operator)]} becomes {SYMBOLS[other]}"
                yield ast.Compare(left, [other()], [right]), what
        case ast.IfExp(test, body, orelse):
            yield ast.IfExp(test, orelse, body), "branches exchanged"
            yield orelse, "always the second branch"
        case ast.Constant(bool() as value):
            yield ast.Constant(not value), f"{value} becomes {not value}"
        case ast.Constant(int() as value):
            yield ast.Constant(value + 1), f"{value} becomes {value + 1}"
            yield ast.Constant(value - 1), f"{value} becomes {value - 1}"
        case ast.Call(ast.Attribute(attr="where"), [condition, yes, no]):
            yield ast.Call(node.func, [condition, no, yes], node.keywords), "branches of where exchanged"
            yield yes, "always the first branch of where"
            yield no, "always the second branch of where"
        case ast.Call(ast.Attribute(value, "minimum" | "maximum" as name), [a, b]):
            other = ast.Attribute(value, OPPOSITE[name], ast.Load())
            yield ast.Call(other, [a, b], []), f"{name} becomes {OPPOSITE[name]}"
            yield a, f"{name}: second argument left out"
            yield b, f"{name}: first argument left out"
        case ast.Call(ast.Name("pick"), [flag, yes, no]):
            yield ast.Call(node.func, [flag, no, yes], []), "choices of pick exchanged"
