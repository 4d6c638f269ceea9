"""Speed of matrix units: multiply-adds a second of products of square matrices, beside numpy.matmul.

    python benchmarks/units.py                          512 x 512 x 512, medians of 5 rounds
    python benchmarks/units.py --size 256 --rounds 9 --only h100
    python benchmarks/units.py --jax --size 256         inside jax.jit

Every product is run in turn, once a round, so that a slow spell of the machine meets all of them; medians of the rounds are
shown. A product begins with float32 arrays and ends with one: that operands have the unit's format is checked each time.
float32's own product (`numpy.matmul`) is there for comparison: no unit, no bits to keep.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np

import numfmt as nf

NAMED = (
    "h100.e4m3", "h100.e4m3.promote128", "h100.mma.e4m3", "ada.e4m3", "b200.e4m3", "b200.mxfp8", "b200.mxfp4", "b200.nvfp4",
    "h100.fp16", "h100.tf32", "a100.bf16", "a100.tf32", "v100.fp16", "mi300.fp16", "mi300.xf32", "mi300.e4m3fnuz",
)  # fmt: skip
BLOCKS = {"b200.mxfp8": "mxfp8_e4m3", "b200.mxfp4": "mxfp4", "b200.nvfp4": "nvfp4"}
CHAINS = (("e4m3fn", "float16"), ("e4m3fn", "e8m13"), ("e5m2", "bfloat16"), ("e2m1", "e6m9"))


def operands(name: str, unit: nf.DotUnit, size: int) -> tuple[object, object]:
    """Random matrices of a unit's first input format, or of its blocks."""
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((size, size)).astype(np.float32) for _ in range(2))
    if name in BLOCKS:
        return nf.encode(x, BLOCKS[name], axis=1), nf.encode(y, BLOCKS[name], axis=0)
    fmt = unit.inputs[0]
    return nf.quantize(x, fmt), nf.quantize(y, fmt)


def tasks(size: int, threads: int | None, only: str) -> dict[str, Callable[[], object]]:
    """All products; the first run of each compiles what it needs."""
    units = {name: nf.get_unit(name) for name in NAMED}
    units |= {f"{a}, rounded to {acc} each time": nf.DotUnit(inputs=(a,), accumulator=acc) for a, acc in CHAINS}
    made: dict[str, Callable[[], object]] = {}
    for name, unit in units.items():
        a, b = operands(name, unit, size)
        made[name] = lambda a=a, b=b, unit=unit: nf.matmul(a, b, unit=unit, threads=threads)  # type: ignore[misc]
    x, y = np.ones((2, size, size), np.float32)
    made["numpy.matmul, float32"] = lambda: x @ y
    return {name: run for name, run in made.items() if only in name}


def jax_tasks(size: int, only: str) -> dict[str, Callable[[], object]]:
    """The same inside jax.jit, of units without scales, and of the float32 chain, which has no compiled loop."""
    import jax

    import numfmt_jax as nj

    made: dict[str, Callable[[], object]] = {}
    for name in (*(name for name in NAMED if name not in BLOCKS), "fp32"):
        a, b = (jax.numpy.asarray(x) for x in operands(name, nf.get_unit(name), size))
        product = jax.jit(partial(nj.matmul, unit=name))
        made[name] = lambda a=a, b=b, product=product: product(a, b).block_until_ready()  # type: ignore[misc]
    return {name: run for name, run in made.items() if only in name}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, metavar="N", help="rows, columns and K (512)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds, of which the median counts (5)")
    parser.add_argument("--only", default="", metavar="TEXT", help="products whose name holds this")
    parser.add_argument("--threads", type=int, metavar="N", help="at most so many (all cores)")
    parser.add_argument("--jax", action="store_true", help="numfmt_jax.matmul inside jax.jit")
    options = parser.parse_args()
    work = jax_tasks(options.size, options.only) if options.jax else tasks(options.size, options.threads, options.only)
    for run in work.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(options.rounds):
        for name, run in work.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    print(f"{options.size}³, medians of {options.rounds} rounds: billions of multiply-adds a second")
    for name, times in seconds.items():
        print(f"{name:44}{options.size**3 / statistics.median(times) / 1e9:8.2f}")


if __name__ == "__main__":
    main()
