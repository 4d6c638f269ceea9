"""A scoreboard for cocotb tests: operands in, answers in, mismatches explained. It imports nothing of cocotb.

A test of an FP8 multiplier with ports a, b, result and flags::

    import cocotb
    from cocotb.triggers import Timer
    from numfmt import vectors
    from numfmt.cocotb import Scoreboard

    @cocotb.test()
    async def every_directed_vector(dut):
        board = Scoreboard("e4m3fn_mul")
        for rows in vectors.generate("e4m3fn_mul", style="directed", level=1):
            for a, b in zip(*(column.tolist() for column in rows.operands)):
                dut.a.value, dut.b.value = a, b
                board.expect(a, b)
                await Timer(1, "ns")
                board.observe(dut.result.value, dut.flags.value)
        board.report().check()

In a pipelined design one coroutine calls `expect` where operands go in and another `observe` where results come
out; answers belong to operands in order.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .vectors.checking import differing
from .vectors.functions import Function, Rules, evaluate, parse

Array = npt.NDArray[Any]
BATCH = 1024  # rows that are judged at once
SEVERAL = (list, tuple, np.ndarray)  # a cocotb value is iterable too: over its bits


class Mismatched(AssertionError):
    """A device answered otherwise than it should; the text explains the first answers that did."""


@dataclass
class Report:
    """What a scoreboard has seen.

    Attributes:
        function: name of the function.
        rows: answers that were judged.
        mismatches: how many of them are wrong.
        causes: how many of each likely cause.
        explained: the first of them, each in lines.
        outstanding: operands that no answer came to.
    """

    function: str
    rows: int = 0
    mismatches: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    explained: list[str] = field(default_factory=list)
    outstanding: int = 0

    @property
    def passed(self) -> bool:
        """Whether there were answers, one for each expectation, and all right."""
        return self.rows > 0 and not self.mismatches and not self.outstanding

    def __str__(self) -> str:
        said = [f"{self.function}: {self.rows:,} answers, {self.mismatches:,} wrong"]
        said += [f"  {count:,} {cause}" for cause, count in self.causes.most_common()]
        if self.outstanding:
            said.append(f"  {self.outstanding:,} operands without an answer")
        return "\n".join([*said, *self.explained])

    def check(self) -> None:
        """Raise Mismatched, with the whole report, unless it passed."""
        if not self.passed:
            raise Mismatched(str(self))


class _Answer(NamedTuple):
    """An answer, with the operands it belongs to."""

    operands: list[list[int]]
    random: int | None
    codes: list[int]
    flags: int | None
    malformed: tuple[str, list[str]] | None


class Scoreboard:
    """Expected answers of one function, in the order of its operands.

    Args:
        function: a name such as "e4m3fn_mul", "f32_to_e5m2" or "mxfp4_dot32".
        rules: what decides a result beside the operands, as `numfmt.vectors.Rules` takes it: rounding, overflow, ...
        nan: "class": any NaN is as good as any other; "bits": it has the very bits.
        errors: how many mismatches are explained; 0 explains all.
        stop: raise Mismatched at the first wrong answer, for the waveform to end there.

    >>> board = Scoreboard("e4m3fn_mul")
    >>> board.expect(0x3C, 0x3D)
    >>> board.observe(0x42, 0x01)
    >>> print(board.report())
    e4m3fn_mul: 1 answers, 0 wrong
    """

    def __init__(
        self, function: str | Function, *, nan: str = "class", errors: int = 20, stop: bool = False, **rules: Any
    ) -> None:
        if nan not in ("class", "bits"):
            raise ValueError(f"nan={nan!r} is given; it is 'class' or 'bits'")
        self.function, self.rules = parse(function), Rules(**rules)
        if self.function.operation == "operands":
            raise ValueError(f"{function} is given, which has operands and no results; name an operation")
        self._nan, self._errors, self._stop = nan, errors, stop
        self._waiting: deque[tuple[list[list[int]], int | None]] = deque()
        self._answered: list[_Answer] = []
        self._report = Report(self.function.name)

    def expect(self, *operands: Any, random: int | None = None) -> None:
        """Note the operands of an answer that is to come.

        Args:
            operands: a code each; of blocks and dots a sequence of codes, or one packed word with element 0 in its
                most significant bits.
            random: the random number of a stochastic rounding.

        Raises:
            ValueError: a wrong number of operands, or one that does not fit its format.
        """
        f = self.function
        if len(operands) != len(f.sources):
            raise ValueError(f"{len(operands)} operands are given; {f} takes {', '.join(f.operand_names)}")
        shapes = zip(operands, f.operand_names, f.operand_widths, f.operand_sizes, strict=True)
        row = [_codes(operand, width, size, f"operand {name} of {f}") for operand, name, width, size in shapes]
        if (random is None) == bool(self.rules.random_bits and f.rounds):
            given = "no random number is given" if random is None else "a random number is given"
            raise ValueError(f"{given}; the rounding of {f} takes {self.rules.random_bits} random bits")
        self._waiting.append((row, random))

    def observe(self, result: Any, flags: Any = None) -> None:
        """Note an answer: to the oldest operands that have none.

        Args:
            result: a code; of blocks the scale codes, then the elements'. Anything that becomes an integer will do, as
                a value of a cocotb handle does; unknown bits are a wrong answer.
            flags: exception flags in the order of TestFloat, or None where the device has none.

        Raises:
            Mismatched: the answer is wrong, and `stop` was asked for; or no operands are waiting.
        """
        if not self._waiting:
            raise Mismatched(f"{self.function}: an answer came to operands that nothing was said of; call expect first")
        operands, random = self._waiting.popleft()
        codes = [_resolved(part) for part in (result if isinstance(result, SEVERAL) else [result])]
        raised = None if flags is None else _resolved(flags)
        malformed = self._malformed(codes, raised, flags is not None)
        self._answered.append(_Answer(operands, random, [code or 0 for code in codes], raised, malformed))
        if self._stop or len(self._answered) >= BATCH:
            self._judge()
            if self._stop and self._report.mismatches:
                raise Mismatched(str(self.report()))

    def report(self) -> Report:
        """What was seen until now."""
        self._judge()
        self._report.outstanding = len(self._waiting)
        return self._report

    def _judge(self) -> None:
        """Compare the answers that have not been compared."""
        if not self._answered:
            return
        answered, self._answered = self._answered, []
        columns = [
            _column([answer.operands[i] for answer in answered], width)
            for i, width in enumerate(self.function.operand_widths)
        ]
        random = None if answered[0].random is None else np.array([answer.random for answer in answered], np.uint32)
        wanted, raised = evaluate(self.function, columns, self.rules, random)
        got, wrong = np.array(wanted), np.zeros(len(wanted), bool)
        for i, answer in enumerate(answered):
            wrong[i] = bool(answer.malformed)
            if not answer.malformed:
                got[i] = answer.codes[0] if got.ndim == 1 else answer.codes
                wrong[i] = raised is not None and answer.flags not in (None, int(raised[i]))
        wrong |= differing(self.function, wanted, got, self._nan == "bits")
        before = self._report.rows
        self._report.rows += len(answered)
        for i in np.flatnonzero(wrong).tolist():
            answer = answered[i]
            if answer.malformed:
                self._note(before + i + 1, *answer.malformed)
                continue
            flags = None if raised is None or answer.flags is None else int(raised[i])
            operands = [column[i] for column in columns]
            found = self._explained(operands, answer.random, wanted[i], got[i], flags, answer.flags)
            self._note(before + i + 1, *found)

    def _note(self, number: int, cause: str, lines: list[str]) -> None:
        """Count a wrong answer, and keep its explanation if it is among the first."""
        report = self._report
        report.mismatches += 1
        report.causes[cause] += 1
        if not self._errors or len(report.explained) < self._errors:
            report.explained.append("\n".join([f"answer {number}: {cause}", *(f"  {line}" for line in lines)]))

    def _explained(
        self, operands: list[Any], random: int | None, wanted: Any, got: Any, flags: int | None, raised: int | None
    ) -> tuple[str, list[str]]:
        """The likely cause, and lines that show it."""
        from .vectors import explain

        found = explain.explain(self.function, operands, wanted, got, flags, raised, self.rules, random)
        return found.cause, list(found.lines)

    def _malformed(self, codes: list[int | None], flags: int | None, has_flags: bool) -> tuple[str, list[str]] | None:
        """What is wrong with an answer that is no result of the function at all, as a cause and lines."""
        widths = [bits for _, _, bits, count in self.function.result_parts for _ in range(count)]
        if None in codes or (has_flags and flags is None):
            return "unknown bits", ["the answer has bits that are neither 0 nor 1"]
        if len(codes) != len(widths):
            return "other", [f"{len(codes)} codes are given; a result of {self.function} has {len(widths)}"]
        for code, width in zip(codes, widths, strict=True):
            if code is not None and not 0 <= code < 1 << width:
                return "other", [f"{code:#x} is no code of {width} bits"]
        return None


def _resolved(value: Any) -> int | None:
    """An integer; None where a simulator's value has unknown bits."""
    try:
        return int(value)
    except ValueError:
        return None


def _codes(operand: Any, width: int, size: int, what: str) -> list[int]:
    """The codes of an operand: itself, a sequence's, or those that a packed word holds."""
    if isinstance(operand, SEVERAL):
        codes = [int(code) for code in operand]
    elif size == 1:
        codes = [int(operand)]
    else:
        word = int(operand)
        if not 0 <= word < 1 << width * size:
            raise ValueError(f"{what} is {word:#x}; a packed word of {size} codes has {width * size} bits")
        codes = [word >> width * i & (1 << width) - 1 for i in reversed(range(size))]
    if len(codes) != size or not all(0 <= code < 1 << width for code in codes):
        raise ValueError(f"{what} is {_shown(codes)}; it takes {size} code{'s' * (size > 1)} of {width} bits")
    return codes


def _column(codes: Sequence[list[int]], width: int) -> Array:
    """One operand of many rows: n codes, or (n, K)."""
    made = np.array(codes, np.uint64 if width <= 64 else object)
    return made[:, 0] if made.shape[1] == 1 else made


def _shown(codes: Sequence[int]) -> str:
    text = " ".join(f"{code:#x}" for code in codes[:8])
    return text + (" …" if len(codes) > 8 else "")
