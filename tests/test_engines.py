"""One kernel, several engines: NumPy, Numba, plain Python, JAX eager and jit give the same bits."""

import dataclasses
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import numfmt as nf
from numfmt import compiled, engines, lookup, scheduler
from numfmt._core.parameters import BINARY32, BINARY64
from numfmt._core.table import Table
from numfmt.plans import encode_plan, quantize_plan, resolve
from numfmt.sources import decode_plan, decode_table
from tests.support import assert_same_bits, modes, mostly_nightly, stratified_float32, stratified_float64

FORMATS = [
    "e4m3fn", "e5m2", "e4m3fnuz", "binary8p3se", "binary8p1ue", "e8m0", "ue5m3", "e2m1", "e3m0", "bfloat16", "float16",
    "tf32", "e5m7", "e5m7b20", "binary16p8se", "fp24_amd", "dlfloat16", "cfloat8_1_4_3", "hif4_scale_e6m2", "int8", "q3.4",
    "uq0.8", "fixed(bits=7, fraction=3, sign_magnitude=yes)", "nf4", "fp4_bnb", "binary", "codebook(-3, -1, 2, 5)",
]  # fmt: skip
RANDOM = np.random.default_rng(17)
SINGLE = np.concatenate(
    [stratified_float32()[::7], RANDOM.integers(0, 2**32, 20000, dtype=np.uint64).astype(np.uint32).view(np.float32)]
)
DOUBLE = np.concatenate([stratified_float64(40), RANDOM.integers(0, 2**63, 4000).view(np.float64)])


def plan_of(name, carrier, in_carrier=False, rounding="ties_to_even", overflow=None, bits=None):
    fmt = nf.get_format(name)
    maker = quantize_plan if in_carrier else encode_plan
    return maker(fmt, resolve(fmt, rounding, overflow, None, bits), carrier)


def patterns(carrier):
    return SINGLE.view(np.int32) if carrier is BINARY32 else DOUBLE.view(np.int64)


def numbers_for(plan, size):
    words = np.random.default_rng(5).integers(0, 2**32, size, dtype=np.uint64).astype(np.uint32)
    return words.view(np.int32) if plan.carrier is BINARY32 else words.astype(np.int64)


def with_tables(plan, convert):
    """The plan with its tables, if it has any, as other arrays."""
    if plan.kernel != "table":
        return plan
    return dataclasses.replace(
        plan, parameters=Table(*(convert(f) if isinstance(f, np.ndarray) else f for f in plan.parameters))
    )


def cases():
    for name in FORMATS:
        for carrier in (BINARY32, BINARY64):
            for in_carrier in (False, True):
                for rounding, bits in (
                    ("ties_to_even", None),
                    ("toward_negative", None),
                    ("to_odd", None),
                    ("stochastic_c", 5),
                    ("stochastic", None),
                ):
                    plan = plan_of(name, carrier, in_carrier, rounding, None, bits)
                    if plan is not None:
                        yield pytest.param(
                            plan,
                            in_carrier,
                            id=f"{name}-{carrier.bits}-{'quantize' if in_carrier else 'encode'}-{rounding}",
                        )


@pytest.mark.parametrize(("plan", "in_carrier"), list(cases()))
def test_plain_python_equals_numpy(plan, in_carrier):
    x = patterns(plan.carrier)[::101]
    words = numbers_for(plan, x.size) if plan.is_stochastic else None
    expected = engines.apply(plan, x, words, in_carrier)
    assert expected.dtype == x.dtype
    plan = with_tables(plan, np.ndarray.tolist)
    got = engines.apply_exactly(plan, x.tolist(), None if words is None else words.tolist(), in_carrier)
    mask = 2**plan.carrier.bits - 1
    assert [g & mask for g in got] == [int(e) & mask for e in expected]


numba = pytest.mark.skipif(compiled._module() is None, reason="Numba is not installed for this interpreter")


@numba
@pytest.mark.parametrize("name", mostly_nightly(FORMATS, {"e4m3fn", "e5m2", "binary8p3se", "e8m0", "e3m0", "float16", "int8", "q3.4", "uq0.8"}))
@pytest.mark.parametrize("in_carrier", [False, True])
def test_numba_equals_numpy(name, in_carrier, monkeypatch):
    monkeypatch.setattr(compiled, "SMALL", 0)
    for carrier in (BINARY32, BINARY64):
        for rounding in (*modes(nf.get_format(name)), "stochastic_a", "stochastic_b", "stochastic_c", "stochastic"):
            bits = 11 if rounding[-2:] in ("_a", "_b", "_c") else None
            plan = plan_of(name, carrier, in_carrier, rounding, None, bits)
            if plan is None or plan.kernel not in ("float", "fixed"):
                continue
            x = patterns(carrier)
            words = numbers_for(plan, x.size)
            source = scheduler.RandomSource(None, words.astype(np.uint32), bits or 32) if plan.is_stochastic else None
            engine = compiled.engine_for(plan, x.size, in_carrier, source)
            out = np.empty(x.size, x.dtype)
            engine(plan, x, source, 0, out, in_carrier)
            assert_same_bits(
                out, engines.apply(plan, x, words if source else None, in_carrier), f"{name} {rounding} {carrier.bits}"
            )


@numba
def test_numba_makes_the_random_words_inside_the_loop_as_numpy_makes_them(monkeypatch):
    monkeypatch.setattr(compiled, "SMALL", 0)
    for name, carrier in (("e4m3fn", BINARY32), ("e4m3fn", BINARY64), ("binary8p3se", BINARY32), ("q3.4", BINARY64)):
        for count in (32, 9):
            plan = plan_of(name, carrier, False, "stochastic_a", None, count)
            x = patterns(carrier)[:5000]
            source = scheduler.RandomSource(nf.random.key_of((7, 5)), None, count)
            for start in (0, 12345, 2**32 - 2000, 2**40 + 3):  # an index whose low word wraps among them
                out = np.empty(x.size, x.dtype)
                compiled.engine_for(plan, x.size, False, source)(plan, x, source, start, out, False)
                words = source.numbers(start, start + x.size)
                words = words.view(np.int32) if carrier is BINARY32 else words.astype(np.int64)
                assert_same_bits(out, engines.apply(plan, x, words, False), f"{name} {count} {start}")


@numba
@pytest.mark.parametrize("name", ["e4m3fn", "e8m0", "bfloat16", "nf4", "int8", "tf32", "int32", "uint16", "dlfloat16"])
def test_numba_decodes_as_numpy(name, monkeypatch):
    monkeypatch.setattr(compiled, "SMALL", 0)
    fmt = nf.get_format(name)
    dtype = nf.encode(0.0, name).dtype
    codes = np.random.default_rng(2).integers(0, 2 ** (8 * dtype.itemsize), 70000, dtype=np.uint64).astype(dtype)
    if fmt.bits <= 16:
        codes[: 2**fmt.bits] = np.arange(2**fmt.bits)
    got = nf.decode(codes, name)
    monkeypatch.setattr(compiled, "decoder_for", lambda *_: None)
    assert_same_bits(got, nf.decode(codes, name), name)


@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "e2m1", "e4m3fnuz", "bfloat16", "e5m7", "e3m0"])
def test_lookup_tables_hold_what_the_kernel_gives(name):
    for rounding in modes(nf.get_format(name)):
        for in_carrier in (False, True):
            plan = plan_of(name, BINARY32, in_carrier, rounding)
            dtype = np.dtype(np.int32 if in_carrier else nf.encode(0.0, name).dtype)
            engine = lookup.engine_for(plan, 1 << 20, in_carrier, dtype)
            x = patterns(BINARY32)
            out = np.empty(x.size, dtype)
            engine(plan, x, None, 0, out, in_carrier)
            assert_same_bits(out, engines.apply(plan, x, None, in_carrier).astype(dtype), f"{name} {rounding}")


def test_no_lookup_table_where_the_top_bits_do_not_decide():
    for name in ("float16", "binary16p8se", "int8", "nf4"):
        assert lookup.engine_for(plan_of(name, BINARY32), 1 << 24, False, np.dtype(np.uint16)) is None


# JAX: the kernels run under jax.numpy, without and with jit, with static and with traced parameters.


def jax_cases():
    for name in FORMATS:
        for in_carrier in (False, True):
            for rounding, bits in (
                ("ties_to_even", None),
                ("toward_positive", None),
                ("to_odd", None),
                ("stochastic_b", 7),
                ("stochastic", None),
            ):
                plan = plan_of(name, BINARY32, in_carrier, rounding, None, bits)
                if plan is not None:
                    yield pytest.param(
                        plan, in_carrier, id=f"{name}-{'quantize' if in_carrier else 'encode'}-{rounding}"
                    )


@pytest.mark.parametrize(("plan", "in_carrier"), list(jax_cases()))
def test_jax_equals_numpy(plan, in_carrier):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    jnp = jax.numpy
    x = patterns(BINARY32)
    words = numbers_for(plan, x.size) if plan.is_stochastic else None
    expected = engines.apply(plan, x, words, in_carrier)
    jw = None if words is None else jnp.asarray(words)

    plan = with_tables(plan, jnp.asarray)
    got = jax.jit(lambda bits, random: engines.apply(plan, bits, random, in_carrier, jnp))(jnp.asarray(x), jw)
    assert got.dtype == jnp.int32
    assert_same_bits(np.asarray(got), expected)


@pytest.mark.parametrize("name", ["e4m3fn", "bfloat16", "binary16p8se", "q3.4", "nf4", "dlfloat16"])
def test_jax_eager_equals_numpy(name):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    plan, x = plan_of(name, BINARY32), patterns(BINARY32)
    eager = engines.apply(with_tables(plan, jax.numpy.asarray), jax.numpy.asarray(x), None, False, jax.numpy)
    assert_same_bits(np.asarray(eager), engines.apply(plan, x, None, False))


def test_traced_parameters_give_the_bits_of_static_ones():
    """One compilation serves all formats: only the mode's family and the shapes are static."""
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    from numfmt._core import float as floating

    jnp = jax.numpy
    x = patterns(BINARY32)
    for kernel in (floating.encode, floating.quantize):
        traced = jax.jit(lambda b, t, r, m, kernel=kernel: kernel(b, None, BINARY32, t, r, m, True, xp=jnp))
        for name in (
            "e4m3fn",
            "e5m2",
            "e4m3fnuz",
            "binary8p3se",
            "binary8p1ue",
            "e8m0",
            "bfloat16",
            "e5m7b20",
            "ue5m3",
        ):
            for rounding in ("ties_to_even", "toward_zero", "toward_negative", "to_odd"):
                plan = plan_of(name, BINARY32, kernel is floating.quantize, rounding)
                got = traced(jnp.asarray(x), plan.parameters, plan.results, plan.mode)
                assert got.dtype == jnp.int32
                assert_same_bits(
                    np.asarray(got), engines.apply(plan, x, None, kernel is floating.quantize), f"{name} {rounding}"
                )
        assert traced._cache_size() == 1


def test_jax_decodes_as_numpy():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    jnp = jax.numpy
    for name in ("e4m3fn", "e8m0", "bfloat16", "float16", "binary8p3se", "int8", "q3.4", "dlfloat16", "cfloat8_1_4_3"):
        fmt = nf.get_format(name)
        codes = jnp.arange(2**fmt.bits, dtype=jnp.int32)
        got = jax.jit(lambda c, fmt=fmt: engines.decode(c, BINARY32, decode_plan(fmt, BINARY32), jnp))(codes)
        assert got.dtype == jnp.int32
        assert_same_bits(np.asarray(got), decode_table(fmt, BINARY32), name)


def test_jax_gives_the_same_bits_with_64_bit_types_enabled():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    with jax.enable_x64(True):
        jnp = jax.numpy
        for name in ("e4m3fn", "bfloat16", "q3.4", "e8m0"):
            plan = plan_of(name, BINARY32)
            got = jax.jit(lambda b, plan=plan: engines.apply(plan, b, None, False, jnp))(
                jnp.asarray(patterns(BINARY32))
            )
            assert got.dtype == jnp.int32
            assert_same_bits(np.asarray(got), engines.apply(plan, patterns(BINARY32), None, False), name)
            wide = plan_of(name, BINARY64)
            got = jax.jit(lambda b, wide=wide: engines.apply(wide, b, None, False, jnp))(
                jnp.asarray(patterns(BINARY64))
            )
            assert_same_bits(np.asarray(got), engines.apply(wide, patterns(BINARY64), None, False), name)


# Threads, forks, the cache


def test_results_do_not_depend_on_threads():
    x = np.random.default_rng(1).standard_normal(300_001).astype(np.float32)
    for options in ({}, {"rounding": "stochastic", "seed": 3}):
        assert_same_bits(nf.encode(x, "e4m3fn", threads=1, **options), nf.encode(x, "e4m3fn", threads=3, **options))


def test_calls_from_several_threads_at_once_are_right():
    x = np.random.default_rng(1).standard_normal(200_000).astype(np.float32)
    expected = {name: nf.encode(x, name) for name in ("e4m3fn", "e5m2", "bf16", "q3.4")}
    wrong = []

    def work(name):
        for _ in range(5):
            if (nf.encode(x, name) != expected[name]).any():
                wrong.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in list(expected) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


FORKING = """
import os, sys, numpy as np, numfmt as nf
x = np.arange(400_000, dtype=np.float32)
before = nf.encode(x, "e4m3fn", threads=2)
child = os.fork()
if child == 0:
    os._exit(int((nf.encode(x, "e4m3fn", threads=2) != before).any()))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_gives_the_same_bits():
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING], capture_output=True, text=True, timeout=100, check=False
    )
    assert run.returncode == 0, run.stderr


EDITED = """
import sys, numpy as np
sys.path.insert(0, sys.argv[1])
import numfmt as nf
from numfmt import compiled
compiled.SMALL = 0
print(nf.encode(np.full(10, 1.0625, np.float32), "e4m3fn")[0], compiled._loops and "compiled")
"""


@numba
def test_an_edited_kernel_changes_the_bits_of_cached_loops(tmp_path):
    """Numba's own cache would not see a change in a file that is inlined from."""
    import shutil

    package = tmp_path / "numfmt"
    shutil.copytree(Path(nf.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {"NUMFMT_CACHE_DIR": str(tmp_path / "cache"), "PATH": "", "HOME": str(tmp_path)}

    def first_code():
        run = subprocess.run(
            [sys.executable, "-c", EDITED, str(tmp_path)],
            capture_output=True,
            text=True,
            env=environment,
            timeout=100,
            check=True,
        )
        return run.stdout.split()

    assert first_code() == ["56", "compiled"]  # 1.0625 is a tie between 1 and 1.125; 1 has the even code 0x38
    assert first_code() == ["56", "compiled"]
    source = package / "_core" / "rounding.py"
    text = source.read_text()
    assert "(mask >> 1) + up" in text
    source.write_text(text.replace("(mask >> 1) + up", "(mask >> 1) + 1"))
    assert first_code() == ["57", "compiled"]


@numba
def test_a_cache_that_cannot_be_written_is_no_error(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    environment = {"NUMFMT_CACHE_DIR": str(blocked), "PATH": "", "HOME": str(tmp_path)}
    root = str(Path(nf.__file__).parent.parent)
    run = subprocess.run(
        [sys.executable, "-c", EDITED, root], capture_output=True, text=True, env=environment, timeout=100, check=True
    )
    assert run.stdout.split() == ["56", "compiled"]


def test_without_numba_everything_gives_the_same_bits(monkeypatch):
    x = np.random.default_rng(1).standard_normal(1 << 17).astype(np.float32)
    jobs = [
        ("e4m3fn", {}),
        ("bf16", {}),
        ("float16", {}),
        ("q3.4", {}),
        ("nf4", {}),
        ("e4m3fn", {"rounding": "stochastic", "seed": (1, 2)}),
    ]
    with_numba = [(nf.encode(x, n, **o), nf.quantize(x, n, **o)) for n, o in jobs]
    monkeypatch.setattr(compiled, "_loop", lambda *_: None)
    for (name, options), (codes, values) in zip(jobs, with_numba, strict=True):
        assert_same_bits(nf.encode(x, name, **options), codes, name)
        assert_same_bits(nf.quantize(x, name, **options), values, name)
    assert_same_bits(
        nf.random_bits(3, 1 << 17),
        np.concatenate([nf.random_bits(3, 1 << 16), nf.random_bits(3, 1 << 16, offset=1 << 16)]),
    )


ORDERED = """
import sys, numpy as np
import numfmt as nf
x = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
for name in sys.argv[1:]:
    options = {} if name.startswith("mx") else dict(rounding="stochastic_a", random_bit_count=9, seed=1)
    fast = nf.quantize(x, name, **options)
    some = slice(0, 512)
    if name.startswith("mx"):
        slow = nf.quantize(x[some], name)
    else:
        slow = nf.quantize(x[some], name, rounding="stochastic_a", random_bit_count=9, random_bits=nf.random_bits(1, 512) >> 23)
    assert np.array_equal(fast[some], slow), name
"""


@numba
@pytest.mark.nightly
def test_cached_loops_do_not_depend_on_what_else_was_compiled(tmp_path):
    """Numba names closures by a counter of the process: loops of the cache must not meet another's functions."""
    environment = {**os.environ, "NUMFMT_CACHE_DIR": str(tmp_path)}
    for names in (["e4m3fn"], ["q3.4", "e4m3fn"], ["mxint8", "q3.4"], ["mxfp4", "e4m3fn", "mxint8", "q3.4"]):
        run = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", ORDERED, *names], capture_output=True, text=True, env=environment, timeout=300, check=False
        )
        assert run.returncode == 0, run.stderr
