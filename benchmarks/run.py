"""Speed of numfmt as a ratio to a memory copy, beside the peers that are installed.

    python benchmarks/run.py                 the table of BENCHMARKS.md
    python benchmarks/run.py --size 20 --rounds 5 --only quantize
    python benchmarks/run.py --all-patterns  all 2**32 float32 patterns against an independent cast

The ratio to a copy is the time of a one-thread np.copyto that moves as many bytes (read plus written)
as the operation must, over the operation's time. Every contender is timed in turn, once a round, and
medians of the rounds are compared.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import numfmt as nf
from numfmt import compiled


@dataclass
class Contender:
    """One thing that is timed, and the bytes an element must move."""

    group: str
    name: str
    run: Callable[[], object]
    bytes_per_element: float
    elements: int


def quiet(function: Callable[[], object]) -> Callable[[], object]:
    """The function without the warnings that peers give on overflow."""

    def run() -> object:
        with np.errstate(all="ignore"):
            return function()

    return run


def without_numba(function: Callable[[], object]) -> Callable[[], object]:
    """The function as it runs where Numba is not installed."""

    def run() -> object:
        kept, compiled._loop = compiled._loop, lambda *_: None
        try:
            return function()
        finally:
            compiled._loop = kept

    return run


def ours(x: np.ndarray, values: np.ndarray) -> list[Contender]:
    """numfmt's own operations."""
    size = x.size
    codes = np.empty(size, np.uint8)
    words = np.empty(size, np.uint32)
    made: list[Contender] = []
    for name in ("e4m3fn", "e2m1", "bfloat16", "e5m7"):
        for label, options in (("", {}), (", 1 thread", {"threads": 1})):
            made.append(
                Contender(
                    "quantize",
                    f"numfmt {name}{label}",
                    lambda n=name, o=options: nf.quantize(x, n, out=values, **o),
                    8,
                    size,
                )
            )
    for name in ("e4m3fn", "e2m1", "bfloat16", "e5m7"):
        made.append(
            Contender(
                "quantize",
                f"numfmt {name}, no Numba",
                without_numba(lambda n=name: nf.quantize(x, n, out=values)),
                8,
                size,
            )
        )
    for name in ("binary8p3se", "q3.4"):
        made.append(Contender("quantize", f"numfmt {name}", lambda n=name: nf.quantize(x, n, out=values), 8, size))
    made += [
        Contender(
            "stochastic",
            "numfmt e4m3fn, words made in the loop",
            lambda: nf.quantize(x, "e4m3fn", rounding="stochastic", seed=0, out=values),
            8,
            size,
        ),
        Contender("stochastic", "numfmt random_bits alone", lambda: nf.random_bits(0, size, out=words), 4, size),
        Contender("encode", "numfmt e4m3fn", lambda: nf.encode(x, "e4m3fn", out=codes), 5, size),
        Contender(
            "encode", "numfmt e4m3fn, no Numba", without_numba(lambda: nf.encode(x, "e4m3fn", out=codes)), 5, size
        ),
        Contender("decode", "numfmt e4m3fn", lambda: nf.decode(codes, "e4m3fn", out=values), 5, size),
        Contender(
            "decode", "numfmt e4m3fn, no Numba", without_numba(lambda: nf.decode(codes, "e4m3fn", out=values)), 5, size
        ),
    ]
    return made


def blocks(x: np.ndarray, values: np.ndarray) -> list[Contender]:
    """Block formats, over a square array; packed codes of four bits take half a byte."""
    side = 1 << (x.size.bit_length() - 1) // 2
    square, out, size = x.reshape(-1, side), values.reshape(-1, side), x.size
    made: list[Contender] = []
    for name, axis, options in (
        ("mxfp4", -1, {}), ("mxfp4", -1, {"threads": 1}), ("mxfp8_e4m3", -1, {}), ("mxfp8_e4m3", -1, {"threads": 1}), ("mxfp4", 0, {}), ("mxfp8_e4m3", 0, {}),
        ("nvfp4", -1, {}), ("nvfp4", -1, {"threads": 1}), ("nvfp4_16x16", (-2, -1), {}), ("mxint8", -1, {}), ("deepseek_fp8", -1, {}), ("int8_axis", -1, {}), ("int8_tensor", -1, {}),
    ):  # fmt: skip
        label = f"numfmt {name}, axis {axis}" + (", 1 thread" if options else "")
        made.append(
            Contender(
                "blocks", label, lambda n=name, a=axis, o=options: nf.quantize(square, n, axis=a, out=out, **o), 8, size
            )
        )
    encoded = nf.encode(square, "mxfp4")
    packed = encoded.pack()
    data = packed.codes.data

    def encode_then_pack() -> None:
        nf.encode(square, "mxfp4", out=encoded)
        nf.pack(encoded.codes, 4, out=data)

    per, filled = 4 + 0.5 + 1 / 32, encoded.pack()
    made += [
        Contender("blocks", "numfmt mxfp4, encode and pack", lambda: nf.encode(square, "mxfp4", out=filled), per, size),
        Contender("blocks", "numfmt mxfp4, encode, then pack", encode_then_pack, per, size),
        Contender("blocks", "numfmt mxfp4, decode packed", lambda: nf.decode(packed, out=out), per, size),
        Contender("blocks", "numfmt mxfp4, decode", lambda: nf.decode(encoded, out=out), 5 + 1 / 32, size),
    ]
    few = square[: max(1, (1 << 20) // side)]
    if importlib.util.find_spec("torchao") and importlib.util.find_spec("torch"):
        import torch
        from torchao.prototype.mx_formats.mx_tensor import to_mx

        tensor = torch.from_numpy(few)
        made.append(Contender("blocks", "torchao mxfp8_e4m3, encode", lambda: to_mx(tensor, torch.float8_e4m3fn, 32), 5.03, few.size))
    if importlib.util.find_spec("gfloat"):
        from gfloat import decode_block, encode_block
        from gfloat.formats import format_info_mxfp4_e2m1 as mxfp4

        one = few.reshape(-1)[:32].astype(np.float64)
        made.append(Contender("blocks", "gfloat mxfp4, one block", lambda: list(decode_block(mxfp4, encode_block(mxfp4, 1.0, one))), 8, 32))
    return made


def peers(x: np.ndarray) -> list[Contender]:
    """The peers that are installed; slow ones get fewer elements."""
    made: list[Contender] = []

    def has(module: str) -> bool:
        return importlib.util.find_spec(module) is not None

    import ml_dtypes

    few, fewer = x[: 1 << 20], x[: 1 << 14]
    e4m3 = np.dtype(ml_dtypes.float8_e4m3fn)
    cast = few.astype(e4m3)
    made.append(
        Contender("quantize", "ml_dtypes e4m3fn", quiet(lambda: few.astype(e4m3).astype(np.float32)), 8, few.size)
    )
    made.append(
        Contender(
            "quantize",
            "ml_dtypes bfloat16",
            quiet(lambda: few.astype(ml_dtypes.bfloat16).astype(np.float32)),
            8,
            few.size,
        )
    )
    made.append(Contender("encode", "ml_dtypes e4m3fn", quiet(lambda: few.astype(e4m3)), 5, few.size))
    made.append(Contender("decode", "ml_dtypes e4m3fn", lambda: cast.astype(np.float32), 5, few.size))
    if has("torch"):
        import torch

        tensor = torch.from_numpy(x)
        made.append(
            Contender("quantize", "torch e4m3fn", lambda: tensor.to(torch.float8_e4m3fn).to(torch.float32), 8, x.size)
        )
        made.append(
            Contender("quantize", "torch bfloat16", lambda: tensor.to(torch.bfloat16).to(torch.float32), 8, x.size)
        )
        made.append(Contender("encode", "torch e4m3fn", lambda: tensor.to(torch.float8_e4m3fn), 5, x.size))
    if has("jax"):
        import jax
        import jax.numpy as jnp

        array = jnp.asarray(x)
        for name, dtype in (("e4m3fn", jnp.float8_e4m3fn), ("bfloat16", jnp.bfloat16)):
            there = jax.jit(lambda v, d=dtype: v.astype(d).astype(jnp.float32))
            made.append(
                Contender("quantize", f"jax jit {name}", lambda f=there: f(array).block_until_ready(), 8, x.size)
            )
    if has("gfloat"):
        import gfloat
        from gfloat.formats import format_info_ocp_e4m3

        made.append(
            Contender(
                "quantize", "gfloat e4m3fn", lambda: gfloat.round_ndarray(format_info_ocp_e4m3, fewer), 8, fewer.size
            )
        )
    if has("verifloat"):
        made += verifloat_contenders(fewer)
    return made


def verifloat_contenders(x: np.ndarray) -> list[Contender]:
    """verifloat needs Python 3.12; its array conversion, where its interface has one."""
    import verifloat

    convert = getattr(verifloat, "quantize", None)
    if convert is None:
        print("verifloat is installed, but has no quantize(): not timed", file=sys.stderr)
        return []
    return [Contender("quantize", "verifloat e4m3fn", lambda: convert(x, "E4M3"), 8, x.size)]


def measure(
    contenders: list[Contender], rounds: int, source: np.ndarray, target: np.ndarray
) -> list[tuple[Contender, float, float]]:
    """Median seconds an element of every contender, and its ratio to a copy timed in the same rounds."""
    copies: list[float] = []
    seconds: list[list[float]] = [[] for _ in contenders]
    for contender in contenders:
        contender.run()
    for round_number in range(rounds):
        if sys.stderr.isatty():
            print(f"\rround {round_number + 1} of {rounds}", end="", file=sys.stderr)
        for contender, times in zip(contenders, seconds, strict=True):
            start = time.perf_counter()
            np.copyto(target, source)
            copies.append(time.perf_counter() - start)
            start = time.perf_counter()
            contender.run()
            times.append(time.perf_counter() - start)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    per_byte = statistics.median(copies) / (8 * source.size)
    table = []
    for contender, times in zip(contenders, seconds, strict=True):
        element = statistics.median(times) / contender.elements
        table.append((contender, element, per_byte * contender.bytes_per_element / element))
    return table


START = """
import time; start = time.perf_counter()
import numpy as np; numpy_done = time.perf_counter()
import numfmt as nf; imported = time.perf_counter()
x = np.linspace(-1, 1, 10, dtype=np.float32)
def best(f, n=200):
    times = []
    for _ in range(n):
        t = time.perf_counter(); f(); times.append(time.perf_counter() - t)
    return sorted(times)[len(times) // 2]
small = best(lambda: nf.quantize(x, "e4m3fn"))
big = np.linspace(-1, 1, 1 << 17, dtype=np.float32)
t = time.perf_counter(); nf.quantize(big, "e4m3fn"); first = time.perf_counter() - t
after = best(lambda: nf.quantize(x, "e4m3fn"))
print(imported - start, imported - numpy_done, small, first, after)
"""


def start_up() -> None:
    """Seconds of the things that a user waits for once; the first process compiles into an empty cache."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NUMFMT_CACHE_DIR": folder, "PYTHONPATH": os.getcwd()}
        for label in ("first process", "later process"):
            run = subprocess.run(
                [sys.executable, "-c", START], env=environment, capture_output=True, text=True, check=True
            )
            total, own, small, first, after = map(float, run.stdout.split())
            print(f"{label}: import {total:.3f} s (of it numfmt {own:.3f} s); 10 elements {small * 1e6:.0f} µs, "
                  f"after a large array {after * 1e6:.0f} µs; first large array {first:.2f} s")  # fmt: skip


def all_patterns() -> int:
    """Encode all 2**32 float32 patterns to e4m3fn and compare with torch's cast, or ml_dtypes' (slow)."""
    try:
        import torch
    except ImportError:
        torch = None
    judge = "torch" if torch else "ml_dtypes"
    step, wrong, ours_s, judge_s = 1 << 26, 0, 0.0, 0.0
    x = np.arange(step, dtype=np.uint32)
    codes = np.empty(step, np.uint8)
    begin = time.perf_counter()
    for start in range(0, 1 << 32, step):
        floats = x.view(np.float32)
        t = time.perf_counter()
        nf.encode(floats, "e4m3fn", platform=judge, out=codes)
        ours_s += time.perf_counter() - t
        t = time.perf_counter()
        if torch:
            expected = torch.from_numpy(floats).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
        else:
            import ml_dtypes

            with np.errstate(all="ignore"):
                expected = floats.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
        judge_s += time.perf_counter() - t
        wrong += int(np.count_nonzero(codes != expected))
        x += np.uint32(step) if start + step < 1 << 32 else np.uint32(0)
    total = time.perf_counter() - begin
    print(
        f"all 2**32 float32 patterns to e4m3fn: {wrong} differ from {judge}; {total:.1f} s, numfmt {ours_s:.1f} s, {judge} {judge_s:.1f} s"
    )
    return int(wrong > 0)


def versions() -> str:
    """Interpreter, machine and packages in one line."""
    names = ("numpy", "numba", "ml_dtypes", "jax", "torch", "gfloat", "verifloat")
    found = []
    for name in names:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} absent")
    return f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores; " + ", ".join(found)


def main() -> int:
    """Run the benchmark that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=24, metavar="N", help="2**N elements (default 24)")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of all contenders in turn (default 9)")
    parser.add_argument("--only", metavar="TEXT", default="", help="only contenders whose group or name holds TEXT")
    parser.add_argument(
        "--all-patterns", action="store_true", help="all 2**32 float32 patterns against an independent cast"
    )
    parser.add_argument("--no-start-up", action="store_true", help="leave out import and first-call times")
    options = parser.parse_args()
    print(versions())
    if options.all_patterns:
        return all_patterns()
    size = 1 << options.size
    x = np.random.default_rng(0).standard_normal(size, dtype=np.float32)
    values = np.ones_like(x)  # the copy moves x to the array that numfmt fills
    contenders = [c for c in ours(x, values) + blocks(x, values) + peers(x) if options.only in f"{c.group} {c.name}"]
    print(f"2**{options.size} standard normal float32, out= given, median of {options.rounds} rounds\n")
    print(f"| operation  | {'what':<40} | ns/element | ratio to a copy |")
    print(f"| ---------- | {'-' * 40} | ---------- | --------------- |")
    order = {"quantize": 0, "stochastic": 1, "encode": 2, "decode": 3, "blocks": 4}
    for contender, element, ratio in sorted(
        measure(contenders, options.rounds, x, values), key=lambda r: order[r[0].group]
    ):
        print(f"| {contender.group:<10} | {contender.name:<40} | {element * 1e9:10.3f} | {ratio:15.3f} |")
    if not options.no_start_up:
        print()
        start_up()
    return 0


if __name__ == "__main__":
    sys.exit(main())
