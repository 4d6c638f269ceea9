"""Large arrays of blocks: chunks, threads and random words leave no trace in the result."""

import numpy as np
import pytest

import numfmt as nf
from tests.support import assert_same_bits
from tests.test_block_arrays import assert_same, f32, normal

# ---- chunks and threads ----------------------------------------------------------------------------------------

LARGE = {
    "lines": ("mxfp4", (3, 100_000), -1), "short lines": ("nvfp4", (30_001, 9), -1), "columns": ("mxfp8_te", (100_000, 3), 0),
    "middle": ("int4_group32", (3, 200, 301), 1), "wide blocks": ("deepseek_fp8", (5, 40_000), -1), "whole lines": ("int8_axis", (3, 100_001), -1),
    "whole columns": ("int8_axis", (70_001, 3), 0), "tiles": ("nvfp4_16x16", (200, 1000), -1), "large tiles": ("deepseek_fp8_128x128", (400, 700), -1),
    "one block": ("int8_tensor", (7, 30_011), -1), "one affine block": ("int8_affine_tensor", (7, 30_011), -1), "affine columns": ("int8_affine_axis", (40_001, 5), 0),
    "flat": ("q4_1", (11, 20_003), -1), "codebook": ("nf4_double", (11, 20_003), -1), "micro": ("mx6", (4, 50_000), -1), "errors": ("nvfp4_4over6", (4, 40_000), -1),
}  # fmt: skip


@pytest.mark.parametrize("case", LARGE)
def test_threads_and_chunks_do_not_matter(case):
    """Arrays larger than a task, whole against parts that are smaller than one."""
    name, shape, axis = LARGE[case]
    x = normal(*shape)
    one, two = (nf.encode(x, name, axis=axis, threads=n) for n in (1, 2))
    assert_same(one, two)
    assert_same_bits(nf.decode(one, threads=1), nf.decode(two, threads=2))
    assert_same_bits(nf.quantize(x, name, axis=axis, threads=2), nf.decode(one))
    fmt = nf.get_format(name)
    if fmt.flat or fmt.block == () or fmt.has_tensor_scale or len(fmt.block) == 2:
        return
    lines = np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])
    codes, scales = (np.moveaxis(a, axis, -1) for a in (one.codes, one.scales))
    for i in {0, len(lines) // 2, len(lines) - 1}:
        line = nf.encode(lines[i], name)
        assert_same_bits(codes.reshape(lines.shape)[i], line.codes)
        assert_same_bits(scales.reshape(len(lines), -1)[i], line.scales)


def test_one_scale_of_a_whole_array_comes_from_all_its_chunks():
    x = normal(7, 30_011)
    x[6, 30_010] = -50
    q = nf.encode(x, "int8_tensor")
    assert q.scales.tolist() == [[f32(50) / f32(127)]]
    assert_same_bits(q.codes.view(np.int8), np.rint(x.astype(np.float64) / np.float64(q.scales[0, 0])).astype(np.int8))
    tensor = nf.encode(x, "nvfp4")
    assert (tensor.tensor_amax, tensor.tensor_scale) == (50, f32(50) / f32(2688))


def test_parts_of_a_tile_in_several_tasks_share_their_amax():
    x = np.ones((300, 5000), f32)
    x[127, 4990] = 448 * 8
    q = nf.encode(x, "block(e4m3fn, scale=e8m0, size=128x4999, rule=floor)")
    assert q.scales.tolist() == [[130, 119], [119, 119], [119, 119]]
    assert_same_bits(nf.decode(q), x)


def test_threads_are_counted_from_one():
    for threads in (0, -1):
        with pytest.raises(ValueError, match="threads"):
            nf.encode(normal(4, 64), "mxfp4", threads=threads)


# ---- randomness ------------------------------------------------------------------------------------------------

RANDOM = ["mxfp4", "mxint8", "nvfp4", "nvfp4_16x16", "int8_tensor", "int4_axis", "deepseek_fp8", "nf4_block"]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("name", RANDOM)
def test_a_seed_means_the_words_of_the_array_as_it_was_given(name, axis):
    """Element i, in C order of the caller's array, takes word i, whatever the axis, the tiles, the strides or the threads."""
    x = normal(6, 40, 33) * f32(2)
    fmt = nf.get_format(name)
    along = axis if len(fmt.block) == 1 and not fmt.flat else -1
    bits = nf.random_bits(7, x.shape)
    seeded = nf.encode(x, name, axis=along, rounding="stochastic", seed=7)
    assert_same(seeded, nf.encode(x, name, axis=along, rounding="stochastic", random_bits=bits))
    assert_same(seeded, nf.encode(np.asfortranarray(x), name, axis=along, rounding="stochastic", seed=7))
    assert_same(seeded, nf.encode(x, name, axis=along, rounding="stochastic", seed=7, threads=1))
    assert (seeded.codes != nf.encode(x, name, axis=along).codes).any()
    assert (seeded.codes != nf.encode(x, name, axis=along, rounding="stochastic", seed=8).codes).any()


@pytest.mark.parametrize("count", [3, 8, 23])
def test_a_seed_gives_the_top_bits_of_its_words(count):
    x = normal(5, 70)
    words = nf.random_bits((3, 4), x.shape) >> np.uint32(32 - count)
    for mode in ("stochastic_a", "stochastic_b", "stochastic_c"):
        options = {"rounding": mode, "random_bit_count": count}
        seeded = nf.encode(x, "mxfp4", axis=0, seed=(3, 4), **options)
        assert_same(seeded, nf.encode(x, "mxfp4", axis=0, random_bits=words, **options))


def test_random_chunks_of_a_large_array_are_those_of_the_whole():
    x = normal(4, 60_000)
    bits = nf.random_bits(1, x.shape)
    whole = nf.encode(x, "mxfp4", rounding="stochastic", seed=1, threads=2)
    for i in range(4):
        row = nf.encode(x[i], "mxfp4", rounding="stochastic", random_bits=bits[i])
        assert_same_bits(whole.codes[i], row.codes)


def test_stochastic_rounding_of_blocks_is_unbiased_where_nothing_saturates():
    x = np.tile(f32([4, *([0.3] * 31)]), (20_000, 1))
    mean = nf.quantize(x, "mxfp4", rounding="stochastic", seed=0)[:, 1:].mean()
    assert abs(mean - 0.3) < 6 * 0.25 / np.sqrt(20_000 * 31)


def test_random_options_are_checked():
    x = normal(4, 70)
    with pytest.raises(ValueError, match="needs random bits"):
        nf.encode(x, "mxfp4", rounding="stochastic")
    with pytest.raises(ValueError, match="takes no random bits"):
        nf.encode(x, "mxfp4", seed=0)
    with pytest.raises(ValueError, match="must broadcast to x's shape"):
        nf.encode(x, "mxfp4", rounding="stochastic", random_bits=np.zeros((4, 32), np.uint32))
    with pytest.raises(ValueError, match="fixes the rounding of its elements"):
        nf.encode(x, "q8_0", rounding="stochastic", seed=0)
