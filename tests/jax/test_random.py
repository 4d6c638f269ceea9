"""Random words: those of jax.random.bits and of numfmt, whole, in parts, and under transformations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numfmt as nf
from numfmt_jax.random import fold, key_words, numbers_of, random_bits

KEY = jax.random.key(7)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (5,), (3, 4, 5), (7, 1, 2), (2, 0, 3), 11])
def test_words_are_those_of_jax_and_of_numfmt(shape):
    ours = random_bits(KEY, shape)
    assert ours.dtype == jnp.uint32
    assert np.array_equal(ours, jax.random.bits(KEY, shape if isinstance(shape, tuple) else (shape,), "uint32"))
    assert np.array_equal(ours, nf.random_bits(7, shape))


def test_raw_keys_are_keys_too():
    assert np.array_equal(random_bits(jax.random.PRNGKey(7), 4), random_bits(KEY, 4))


def test_a_part_has_the_words_of_the_whole():
    whole = jax.random.bits(KEY, (8, 5), "uint32")
    assert np.array_equal(random_bits(KEY, (4, 3), offset=(2, 1), global_shape=(8, 5)), whole[2:6, 1:4])
    traced = jax.jit(lambda at: random_bits(KEY, (4, 3), offset=(at, 1), global_shape=(8, 5)))
    assert np.array_equal(traced(2), whole[2:6, 1:4])


@pytest.mark.parametrize("offset", [2**32 - 2, 2**33 + 5])
def test_indices_beyond_32_bits(offset):
    part = random_bits(KEY, (1, 4), offset=(0, offset), global_shape=(1, 2**34))
    assert np.array_equal(part[0], nf.random_bits(7, 4, offset=offset))
    rows = random_bits(KEY, (3, 2), offset=(3, offset), global_shape=(2**3, 2**34))
    for i in range(3):
        assert np.array_equal(rows[i], nf.random_bits(7, 2, offset=(3 + i) * 2**34 + offset))


def test_traced_offsets_carry_into_the_high_word():
    part = jax.jit(lambda at: random_bits(KEY, (2, 3), offset=(at, 2**20 - 1), global_shape=(2**14, 2**20)))
    for at in (4095, 4096, 9000):
        expected = np.stack([nf.random_bits(7, 3, offset=(at + i) * 2**20 + 2**20 - 1) for i in range(2)])
        assert np.array_equal(part(jnp.int32(at)), expected)


def test_vmap_over_keys_is_the_loop():
    keys = jax.random.split(KEY, 3)
    mapped = jax.vmap(lambda key: random_bits(key, (4,)))(keys)
    assert np.array_equal(mapped, np.stack([random_bits(key, (4,)) for key in keys]))


@pytest.mark.parametrize("number", [0, 5, 2**32 - 1])
def test_fold_is_fold_in(number):
    assert np.array_equal(fold(KEY, number), jax.random.key_data(jax.random.fold_in(KEY, np.uint32(number))))
    assert np.array_equal(jax.jit(fold)(KEY, jnp.uint32(number)), fold(KEY, number))


def test_names_fold_as_their_crc():
    import zlib

    assert np.array_equal(fold(KEY, "wgrad"), fold(KEY, zlib.crc32(b"wgrad")))


def test_numbers_are_the_top_bits():
    words = random_bits(KEY, 3)
    assert np.array_equal(numbers_of(words, 8), np.asarray(words) >> 24)
    assert numbers_of(words, 32).dtype == jnp.int32


def test_other_generators_are_refused():
    with pytest.raises(ValueError, match="threefry2x32"):
        key_words(jax.random.key(0, impl="rbg"))
    with pytest.raises(ValueError, match="two words"):
        key_words(jnp.zeros(4, jnp.uint32))
    with pytest.raises(TypeError, match=r"jax\.random\.key"):
        key_words(3)
    with pytest.raises(ValueError, match="vmap"):
        random_bits(jax.random.split(KEY, 3), 2)
    with pytest.raises(ValueError, match="of shape"):
        random_bits(KEY, (4,), offset=(0,), global_shape=(3,))
