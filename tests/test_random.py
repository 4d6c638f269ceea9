"""Random words: those of jax.random, from any index, on any engine."""

import numpy as np
import pytest

import numfmt as nf
from numfmt.random import key_of


def test_words_and_keys_are_the_published_ones():
    assert [hex(w) for w in nf.random_bits(7, 5)] == [
        "0xac91290b",
        "0xf9807e00",
        "0x4d8729aa",
        "0x71a74530",
        "0xbb1b6386",
    ]
    assert key_of((7, 5)) == (0xD5917E25, 0x7415E54E)


@pytest.mark.parametrize("shape", [(), (3,), (4, 5), (0, 3), 7, (300, 301)])
@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, (7, 5), (1, 2, 3)])
def test_words_are_those_of_jax_random(seed, shape):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    first, *folded = seed if isinstance(seed, tuple) else (seed,)
    key = jax.random.key(np.uint32(first))
    for number in folded:
        key = jax.random.fold_in(key, number)
    expected = np.asarray(jax.random.bits(key, (shape,) if isinstance(shape, int) else shape, "uint32"))
    got = nf.random_bits(seed, shape)
    assert got.dtype == np.uint32
    assert np.array_equal(got, expected)


def test_words_do_not_depend_on_where_the_array_begins():
    whole = nf.random_bits(3, 200_000)
    assert np.array_equal(nf.random_bits(3, 1000, offset=123_456), whole[123_456:124_456])
    across = nf.random_bits(3, 4, offset=2**32 - 2)
    assert np.array_equal(across[:2], nf.random_bits(3, 2, offset=2**32 - 2))
    assert np.array_equal(across[2:], nf.random_bits(3, 2, offset=2**32))


def test_out_is_filled_and_checked():
    out = np.empty((2, 3), np.uint32)
    assert nf.random_bits(0, (2, 3), out=out) is out
    with pytest.raises(ValueError, match="out has"):
        nf.random_bits(0, (3, 2), out=out)


@pytest.mark.parametrize("seed", [-1, 2**32, (), (0, -3)])
def test_seeds_outside_32_bits_are_refused(seed):
    with pytest.raises(ValueError, match="seed"):
        nf.random_bits(seed, 3)


@pytest.mark.parametrize("seed", [1.5, "a", None])
def test_seeds_that_are_no_integers_are_type_errors(seed):
    with pytest.raises(TypeError):
        nf.random_bits(seed, 3)


def test_an_element_takes_the_word_of_its_own_index():
    x = np.full(100_000, 1.03, np.float32)
    words = nf.random_bits(5, x.size)
    for count in (32, 8):
        rounding = "stochastic_a"
        drawn = nf.encode(x, "e4m3fn", rounding=rounding, seed=5, random_bit_count=count)
        given = nf.encode(
            x, "e4m3fn", rounding=rounding, random_bits=words >> np.uint32(32 - count), random_bit_count=count
        )
        assert np.array_equal(drawn, given)
    assert np.array_equal(
        nf.encode(x.reshape(10, -1).T, "e4m3fn", rounding="stochastic", seed=5).reshape(-1),
        nf.encode(x, "e4m3fn", rounding="stochastic", seed=5),
    )


def test_the_mean_of_draws_is_the_operand():
    n = 1 << 20
    away = nf.encode(np.full(n, 1.03, np.float32), "e4m3fn", rounding="stochastic", seed=1) == 0x39
    p = (float(np.float32(1.03)) - 1) * 8
    # A statistic of random draws: five standard deviations of the mean of n Bernoulli trials.
    assert abs(away.mean() - p) < 5 * (p * (1 - p) / n) ** 0.5
