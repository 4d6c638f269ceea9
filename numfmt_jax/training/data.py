"""Bytes of a text, the part held out for validation, and the batch of each step."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int32]
HELD_OUT = 10  # one part in so many, from the end


@dataclass(frozen=True, eq=False)
class Text:
    """A text as bytes: what is trained on, and what is held out.

    Args:
        title: what it is, for people.
        sha256: of all its bytes.
        training, validation: uint8 arrays.
    """

    title: str
    sha256: str
    training: npt.NDArray[np.uint8]
    validation: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, content: bytes, title: str) -> Text:
        """The text of these bytes."""
        every = np.frombuffer(content, np.uint8)
        border = every.size - every.size // HELD_OUT
        return cls(title, hashlib.sha256(content).hexdigest(), every[:border], every[border:])

    def check(self, context: int) -> None:
        """Raise ValueError where the text is too short for windows of `context` bytes."""
        least = HELD_OUT * (context + 2)
        if len(self.training) + len(self.validation) < least:
            raise ValueError(
                f"{self.title} has {len(self.training) + len(self.validation)} bytes; a context of {context} needs "
                f"{least}: take a longer text or a shorter context"
            )

    def batch(self, seed: int, step: int, size: int, context: int) -> Tokens:
        """The windows of a step: they depend on the seed and the step alone.

        Returns:
            int32 array (size, context + 1): the last `context` columns are what is predicted.
        """
        numbers = np.random.default_rng((seed, step))
        return windows(self.training, numbers.integers(0, self.training.size - context, size), context)

    def held_out(self, size: int, context: int) -> Tokens:
        """Windows of the validation part at equal distances, the same in every run; (size, context + 1)."""
        starts = np.linspace(0, self.validation.size - context - 1, size).astype(np.int64)
        return windows(self.validation, starts, context)


def windows(text: npt.NDArray[np.uint8], starts: npt.NDArray[Any], context: int) -> Tokens:
    """The `context + 1` bytes from each start, as int32."""
    return text[starts[:, None] + np.arange(context + 1)].astype(np.int32)


def load(path: str | Path | None = None) -> Text:
    """The text of a file, or that of Python's own documentation, `pydoc_data.topics`.

    >>> load().title
    'pydoc_data.topics'
    """
    if path is not None:
        return Text.of(Path(path).read_bytes(), Path(path).name)
    topics: dict[str, str] = import_module("pydoc_data.topics").topics
    return Text.of("\n".join(topics[name] for name in sorted(topics)).encode(), "pydoc_data.topics")
