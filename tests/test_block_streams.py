"""Results that no cache holds are written past the caches: with the same bits, wherever they lie in memory."""

import threading
from functools import partial
from unittest import mock

import numpy as np
import pytest

import numfmt as nf
from numfmt import block_compiled, compiled
from numfmt.block_compiled import Work
from numfmt.block_layout import layout_of
from tests.test_block_engines import assert_same, operand

pytestmark = pytest.mark.skipif(compiled._module() is None, reason="Numba is not installed for this interpreter")
NAMES = ["mxfp4", "mxfp8_e4m3", "mxint8", "nvfp4", "nvfp4_16x16", "deepseek_fp8"]


def streamed(function):
    """What a call gives with compiled loops that stream every result."""
    with mock.patch.object(block_compiled, "FAR", 0), mock.patch.object(compiled, "SMALL", 0):
        return function()


def far(array):
    return Work(layout_of(array.shape, nf.get_format("mxfp4"), -1), array.view(np.int32), array, True).far


def empty_at(offset, shape):
    """A contiguous float32 array that begins so many bytes behind a cache line."""
    size = 4 * int(np.prod(shape))
    room = np.full(size + 128, 255, np.uint8)
    start = -room.ctypes.data % 64 + offset
    return room[start : start + size].view(np.float32).reshape(shape), room


def test_results_are_far_from_the_threshold_on():
    x = np.zeros((4, 64), np.float32)
    for threshold, expected in ((x.nbytes + 1, False), (x.nbytes, True), (x.nbytes - 1, True)):
        with mock.patch.object(block_compiled, "FAR", threshold):
            assert far(x) is expected
    assert not far(x)


@pytest.mark.parametrize("name", NAMES)
def test_streamed_results_equal_stored_ones(name):
    x = operand("mxfp4") if name.startswith("mx") else np.random.default_rng(0).standard_normal((272, 384)).astype("f4")
    axis = (-2, -1) if "16x16" in name else -1
    for array in (x, x[:, :32], x[:1], np.tile(x, (1, 23))):
        assert_same(streamed(lambda a=array: nf.quantize(a, name, axis=axis)), nf.quantize(array, name, axis=axis))
        made = streamed(lambda a=array: nf.encode(a, name, axis=axis))
        assert_same(made, nf.encode(array, name, axis=axis))
        assert_same(streamed(lambda q=made: nf.decode(q)), nf.decode(made))


@pytest.mark.parametrize("offset", [0, 1, 2, 4, 8, 12, 16, 32, 48, 60])
@pytest.mark.parametrize("name", ["mxfp4", "nvfp4"])
def test_results_may_lie_anywhere(name, offset):
    x = np.random.default_rng(offset).standard_normal((33, 96)).astype(np.float32)
    q, expected = nf.encode(x, name), nf.quantize(x, name)
    for given, function in ((x, nf.quantize), (q, nf.decode)):
        out, room = empty_at(offset, x.shape)
        before, start = room.copy(), out.ctypes.data - room.ctypes.data
        options = {"out": out} if given is q else {"format": name, "out": out}
        assert_same(streamed(partial(function, given, **options)), expected)
        assert np.array_equal(room[:start], before[:start])
        assert np.array_equal(room[start + out.nbytes :], before[start + out.nbytes :])
    here, _ = empty_at(offset, x.shape)
    here[...] = x
    assert_same(streamed(partial(nf.quantize, here, name, out=here)), expected)


def test_streamed_results_are_there_when_threads_are_done():
    x = np.random.default_rng(3).standard_normal((8, 1 << 18)).astype(np.float32)
    expected, failures = nf.quantize(x, "mxfp4", threads=1), []

    def work():
        for _ in range(5):
            out = np.full_like(x, np.nan)
            nf.quantize(x, "mxfp4", out=out, threads=2)
            if not np.array_equal(out, expected):
                failures.append(1)

    def all_at_once():
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    streamed(all_at_once)
    assert not failures
