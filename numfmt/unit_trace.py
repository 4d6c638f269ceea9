"""What happened in every step of a dot: `Trace`, and what collects it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Trace:
    """The steps of dots.

    Attributes:
        accumulator: float64 (int64 of integer accumulators), of the result's shape and one more axis: after every step.
            Compensated sums are one step. With promotion each stretch starts at zero; the promoted sum is not here.
        exponent: int32, of the same shape: the alignment exponent E; 0 where nothing is aligned.
        lost: int32, of the result's shape and one more axis, terms: significant bits that each lost in alignment.
        swamped: bool, of the same shape: terms other than zero of which nothing was left.
    """

    accumulator: Array
    exponent: Array
    lost: Array
    swamped: Array

    @property
    def swamped_share(self) -> Array:
        """The share of each dot's terms that were swamped."""
        return self.swamped.mean(axis=-1) if self.swamped.shape[-1] else np.zeros(self.swamped.shape[:-1])


class Watch:
    """Collects the steps of all outputs."""

    def __init__(self) -> None:
        self.parts: list[tuple[int, Part]] = []

    def part(self, start: int, stop: int) -> Part:
        """What collects the steps of some of them."""
        made = Part()
        self.parts.append((start, made))
        return made

    def finish(self, shape: tuple[int, ...]) -> Trace:
        """The trace of all."""
        ordered = [part for _, part in sorted(self.parts, key=lambda p: p[0])]

        def whole(name: str, dtype: Any) -> Array:
            columns = [np.stack(getattr(p, name), axis=-1) for p in ordered if getattr(p, name)]
            if not columns:
                return np.zeros((*shape, 0), dtype)
            return np.concatenate(columns).astype(dtype).reshape(*shape, -1)

        kind = np.int64 if any(p.whole for p in ordered) else np.float64
        return Trace(
            whole("accumulators", kind), whole("exponents", np.int32), whole("lost", np.int32), whole("swamped", bool)
        )


class Part:
    """Collects the steps of a chunk of outputs."""

    def __init__(self) -> None:
        self.accumulators: list[Array] = []
        self.exponents: list[Array] = []
        self.lost: list[Array] = []
        self.swamped: list[Array] = []
        self.whole = False

    def accumulator(self, acc: Any) -> None:
        """An accumulator after a step."""
        size = np.ldexp(acc.m.astype(np.float64), np.where(acc.m == 0, 0, acc.exponent - 58).astype(np.int32))
        value = np.where(acc.negative != 0, -size, size)
        value = np.where(acc.infinite, np.where(acc.negative != 0, -np.inf, np.inf), value)
        self.accumulators.append(np.where(acc.nan, np.nan, value))

    def integers(self, acc: Array) -> None:
        """An integer accumulator after a step."""
        self.whole = True
        self.accumulators.append(acc)

    def exponent(self, top: Array) -> None:
        """An alignment exponent."""
        self.exponents.append(top)

    def term(self, m: Array, place: Array, part: Array) -> None:
        """A term that was aligned."""
        low = (m & -m).astype(np.float64)
        zeros = np.frexp(np.where(m == 0, 1.0, low))[1] - 1  # below its last set bit
        length = np.frexp(m.astype(np.float64))[1]
        self.lost.append(np.where(m == 0, 0, np.clip(-place - zeros, 0, length - zeros)))
        self.swamped.append((m != 0) & (part == 0))
