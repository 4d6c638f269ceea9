"""Numba loops over blocks; imported by block_compiled.py when a large array asks for them.

An operand is canonical (outer, rows, columns) binary32 patterns; a block is `a` rows by `g` columns. With
g = 1 the loops run along a row, each column with its own scale; else along the elements of a block. Where g
is one of block_compiled.UNROLLED and divides the columns, vectors hold parts of one block.
"""

from __future__ import annotations

from typing import Any

from . import block_decode_loops, block_element_loops, block_scale_loops, block_vector_loops
from .loops import jit

MAKERS: dict[str, Any] = {
    "amax": block_scale_loops.amax_rows,
    "amax columns": block_scale_loops.amax_columns,
    "steps": lambda: block_scale_loops.steps,
    "tensor scales": lambda: block_scale_loops.tensor_scales,
    "offset": block_element_loops.offset,
    "scaled": block_element_loops.scaled,
    "divided": block_element_loops.divided,
    "decode": block_decode_loops.decode,
    "whole": block_vector_loops.whole,
    "scaled vectors": block_vector_loops.scaled,
    "tensor scaled": block_vector_loops.tensor_scaled,
    "decode vectors": block_vector_loops.decode,
}


def make(kind: str, *options: Any) -> Any:
    """The loop of a kind and its options; compiled on first use, or loaded from disk."""
    return jit(MAKERS[kind](*options), "block", kind.replace(" ", "_"), *options)
