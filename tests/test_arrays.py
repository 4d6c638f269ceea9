"""encode, decode, quantize, convert over arrays as users have them."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import numfmt as nf
from tests.support import assert_same_bits, stratified_float32

X = np.random.default_rng(0).standard_normal((6, 5, 4)).astype(np.float32) * 10
DTYPES = [
    np.float16,
    np.float32,
    np.float64,
    ml_dtypes.bfloat16,
    ml_dtypes.float8_e5m2,
    np.int8,
    np.uint8,
    np.int32,
    np.int64,
    np.uint64,
]


@pytest.mark.parametrize("view", [
    lambda a: a.T, lambda a: a[::2, ::-1], lambda a: np.asfortranarray(a), lambda a: a[:, :0], lambda a: a[0, 0, 0:1],
    lambda a: np.broadcast_to(a[:1], (3, 5, 4)), lambda a: a.astype(">f4"), lambda a: a.astype(">f8"), lambda a: a[1, 2, 3][()],
])  # fmt: skip
def test_any_stride_shape_and_byte_order_gives_the_elements_own_codes(view):
    x = np.asarray(view(X))
    expected = np.array([int(nf.encode(float(v), "e4m3fn")) for v in x.reshape(-1)], np.uint8).reshape(x.shape)
    assert_same_bits(nf.encode(x, "e4m3fn"), expected)
    assert_same_bits(
        np.asarray(nf.quantize(x, "e4m3fn"), np.float64), np.asarray(nf.decode(expected, "e4m3fn"), np.float64)
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["e4m3fn", "bfloat16", "q3.4", "nf4", "int8", "e8m0"])
def test_every_dtype_is_its_exact_values(dtype, name):
    with np.errstate(invalid="ignore"):
        x = np.abs(X.reshape(-1)).astype(dtype)
    assert_same_bits(nf.encode(x, name), nf.encode(x.astype(np.float64), name))


def test_small_integer_types_of_ml_dtypes_are_taken():
    x = np.arange(-8, 8).astype(ml_dtypes.int4)
    assert nf.quantize(x, "e4m3fn").tolist() == list(range(-8, 8))
    assert nf.quantize(x, "e4m3fn").dtype == np.float32


def test_scalars_give_scalars():
    assert isinstance(nf.encode(1.5, "e4m3fn"), np.uint8)
    assert isinstance(nf.quantize(np.float32(1.5), "e4m3fn"), np.float32)
    assert isinstance(nf.quantize(3, "e4m3fn"), np.float64)
    assert isinstance(nf.decode(0x38, "e4m3fn"), np.float32)
    assert nf.encode(np.array(1.5), "e4m3fn").shape == ()
    assert nf.encode([1, 2.5], "e4m3fn").tolist() == [0x38, 0x42]


@pytest.mark.parametrize(("dtype", "name", "result"), [
    (np.float32, "e4m3fn", np.float32), (np.float16, "e4m3fn", np.float16), (np.float64, "e4m3fn", np.float64),
    (ml_dtypes.bfloat16, "e4m3fn", ml_dtypes.bfloat16), (np.float16, "bfloat16", np.float32), (ml_dtypes.bfloat16, "float16", np.float32),
    (np.float16, "float32", np.float32), (np.float32, "float64", np.float64), (np.float32, "int32", np.float64),
    (np.float16, "int16", np.float32), (np.float16, "e8m0", np.float32), (np.float32, "e8m0", np.float32), (np.int8, "e4m3fn", np.float32),
    (np.int32, "float32", np.float32), (np.int64, "float64", np.float64), (np.float32, "binary128", np.float64), (np.float32, "nf4", np.float32),
    (np.float16, "nf4", np.float32), (ml_dtypes.float8_e4m3fn, "e5m2", ml_dtypes.float8_e4m3fn), (ml_dtypes.float8_e4m3fn, "e4m3", ml_dtypes.float8_e4m3fn),
    (ml_dtypes.float8_e4m3fn, "float8_e4m3", np.float32), (ml_dtypes.bfloat16, "e2m1", ml_dtypes.bfloat16),
])  # fmt: skip
def test_quantize_keeps_the_dtype_where_every_result_is_exact_in_it(dtype, name, result):
    with np.errstate(invalid="ignore"):
        x = np.abs(X.reshape(-1)).astype(dtype)
    got = nf.quantize(x, name)
    assert got.dtype == result
    if nf.get_format(name).bits <= 64:
        wide = nf.decode(nf.encode(x, name), name, dtype=np.float64)
        assert_same_bits(got.astype(np.float64), wide)


@given(hnp.arrays(np.uint32, st.integers(0, 300)), st.sampled_from(["e4m3fn", "bfloat16", "float16", "q3.4", "nf4", "binary8p3se", "dlfloat16"]),
       st.sampled_from(["ties_to_even", "toward_negative", "to_odd", "ties_to_away"]))  # fmt: skip
def test_rounding_is_idempotent_and_monotone(codes, name, rounding):
    x = np.sort(codes.view(np.float32))
    x = x[~np.isnan(x)]
    q = nf.quantize(x, name, rounding=rounding, overflow="saturate")
    assert (np.diff(q.astype(np.float64)) >= 0).all()
    assert_same_bits(nf.quantize(q, name, rounding=rounding, overflow="saturate"), q)


@given(
    hnp.arrays(np.uint32, st.integers(0, 300)),
    st.sampled_from(["e4m3fn", "bfloat16", "float16", "binary8p3se", "e2m1"]),
)
def test_rounding_is_sign_symmetric_and_directed_modes_enclose(codes, name):
    x = codes.view(np.float32)
    x = x[np.isfinite(x)]
    assert_same_bits(nf.quantize(-x, name) + 0.0, -nf.quantize(x, name) + 0.0)
    down = nf.quantize(x, name, rounding="toward_negative", overflow="infinity")
    up = nf.quantize(x, name, rounding="toward_positive", overflow="infinity")
    inside = np.abs(x) <= float(nf.get_format(name).max)
    assert (down <= up).all()
    assert ((down <= x) | ~inside).all()
    assert ((up >= x) | ~inside).all()


@pytest.mark.parametrize(
    "name",
    [
        "e4m3fn",
        "e5m2",
        "e2m1",
        "e8m0",
        "e4m3fnuz",
        "binary8p3se",
        "bf16",
        "float16",
        "int8",
        "q3.4",
        "nf4",
        "dlfloat16",
    ],
)
def test_decoded_codes_encode_to_themselves_where_decoding_is_injective(name):
    fmt = nf.get_format(name)
    codes = np.arange(2**fmt.bits).astype(nf.encode(0.0, name).dtype)
    values = nf.decode(codes, name)
    chosen = ~np.isnan(values)
    if name == "dlfloat16":  # two codes for zero
        codes, values, chosen = codes[chosen], values[chosen], codes[chosen] != 0x8000
    assert_same_bits(nf.encode(values[chosen], name), codes[chosen])


def test_bits_above_the_format_are_ignored_and_negative_codes_are_twos_complement():
    assert nf.decode(np.uint8([0x17, 0xF7]), "e2m1").tolist() == [6.0, 6.0]
    assert nf.decode(np.int8([-1, -9]), "e2m1").tolist() == [-6.0, 6.0]
    assert nf.decode(np.int64([-1]), "int8").tolist() == [-1.0]
    assert nf.decode(-128, "e4m3fn") == 0
    assert nf.decode([300], "uint8").tolist() == [44.0]


def test_decode_rounds_once_to_a_narrower_dtype():
    assert nf.decode(np.uint8([0x7E]), "e4m3fn", dtype=np.float16).dtype == np.float16
    # 1 + 2^-8 + 2^-40 lies just above the midpoint of 1 and 1 + 2^-7.
    code = int(np.float64(1 + 2**-8 + 2**-40).view(np.uint64))
    assert float(nf.decode(np.uint64([code]), "float64", dtype=ml_dtypes.bfloat16)[0]) == 1.0078125
    with pytest.raises(ValueError, match="dtype="):
        nf.decode([1], "binary128")
    one = 0x3FFF << 112
    assert nf.decode([one, one + 1], "binary128", dtype=np.float64).tolist() == [1.0, 1.0]
    assert nf.exact(one + 1, "binary128") == 1 + Fraction(1, 2**112)


def test_wide_codes_are_python_integers():
    codes = nf.encode(np.array([1.0, -2.5]), "binary128")
    assert codes.dtype == object
    assert [nf.exact(c, "binary128") for c in codes] == [1, Fraction(-5, 2)]
    assert nf.encode(1.0, "x87_extended") == 0x3FFF8000000000000000


def test_convert_rounds_once_between_any_formats():
    codes = np.arange(256, dtype=np.uint8)
    assert_same_bits(nf.convert(codes, "e4m3fn", "e5m2"), nf.encode(nf.decode(codes, "e4m3fn"), "e5m2"))
    assert nf.convert(nf.encode(0.1, "binary128"), "binary128", "float64") == np.float64(0.1).view(np.uint64)
    assert isinstance(nf.convert(0x38, "e4m3fn", "bf16"), np.uint16)
    x = stratified_float32()
    assert_same_bits(nf.convert(x.view(np.uint32), "f32", "e4m3fn"), nf.encode(x, "e4m3fn"))


def test_out_is_filled_and_checked():
    out = np.empty(X.shape, np.float32)
    assert nf.quantize(X, "e4m3fn", out=out) is out
    assert_same_bits(out, nf.quantize(X, "e4m3fn"))
    strided = np.empty((6, 5, 8), np.float32)[..., ::2]
    nf.quantize(X, "e4m3fn", out=strided)
    assert_same_bits(np.ascontiguousarray(strided), out)
    same = X.copy()
    nf.quantize(same, "e4m3fn", out=same)
    assert_same_bits(same, out)
    for bad in (np.empty(3, np.float32), np.empty(X.shape, np.float64), [1.0]):
        with pytest.raises(ValueError, match="out has"):
            nf.quantize(X, "e4m3fn", out=bad)
    frozen = np.empty(X.shape, np.uint8)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        nf.encode(X, "e4m3fn", out=frozen)


@pytest.mark.parametrize(
    "bad",
    [
        np.array([True]),
        np.array([1j]),
        np.array(["a"]),
        np.array([None]),
        np.array([1], np.longdouble),
        "text",
        1j,
        2**70,
    ],
)
def test_what_is_not_a_real_number_is_a_type_error(bad):
    with pytest.raises(TypeError, match="dtype"):
        nf.encode(bad, "e4m3fn")


@pytest.mark.parametrize(("options", "message"), [
    ({"rounding": "nearest"}, "unknown rounding mode 'nearest'"),
    ({"rounding": "ties_to_evn"}, "ties_to_even"),
    ({"overflow": "clamp"}, "unknown overflow mode"),
    ({"platform": "nvida"}, "nvidia"),
    ({"rounding": "stochastic"}, "needs random bits"),
    ({"rounding": "stochastic", "seed": -1}, "must be an integer in"),
    ({"rounding": "stochastic", "seed": 0, "random_bits": 3}, "one of seed= and random_bits="),
    ({"seed": 3}, "takes no random bits"),
    ({"random_bit_count": 3}, "takes no random bits"),
    ({"rounding": "stochastic_a", "seed": 0, "random_bit_count": 33}, "must be 1 to 32"),
    ({"rounding": "stochastic", "seed": 0, "random_bit_count": 8}, "stochastic_a"),
    ({"overflow": "wrap"}, "only fixed-point"),
    ({"wrap_bits": 2}, "only 'wrap' takes it"),
    ({"return_flags": True, "tininess": "never"}, "'after' or 'before'"),
    ({"threads": 0}, "at least 1"),
])  # fmt: skip
def test_wrong_options_say_what_is_allowed(options, message):
    with pytest.raises(ValueError, match=message):
        nf.encode(X, "e4m3fn", **options)


@pytest.mark.parametrize(("name", "overflow"), [("e2m1", "nan"), ("int8", "nan"), ("uint8", "symmetric"), ("nf4", "wrap"), ("nf4", "nan"),
                                                ("fixed(bits=8, sign_magnitude=yes)", "wrap"), ("uq0.8", "wrap_sign_magnitude")])  # fmt: skip
def test_a_mode_that_the_format_cannot_express_is_refused_whatever_the_data(name, overflow):
    with pytest.raises(ValueError, match="overflow"):
        nf.encode(np.zeros(0), name, overflow=overflow)


def test_random_bits_broadcast_and_only_the_low_bits_count():
    x = np.full((2, 3), 1.03125)
    a = nf.encode(x, "e4m3fn", rounding="stochastic_a", random_bits=[0, 7, 15], random_bit_count=4)
    b = nf.encode(x, "e4m3fn", rounding="stochastic_a", random_bits=np.int64([16, 23, -1]), random_bit_count=4)
    assert a.tolist() == b.tolist() == [[0x38, 0x38, 0x39]] * 2
    with pytest.raises(ValueError, match="broadcast"):
        nf.encode(x, "e4m3fn", rounding="stochastic_a", random_bits=[0, 1], random_bit_count=4)
    with pytest.raises(TypeError, match="integers"):
        nf.encode(x, "e4m3fn", rounding="stochastic_a", random_bits=[0.5, 1, 2])


def test_tiny_values_round_away_for_two_words_of_all():
    """2**-40 is 2**-31 quanta of e4m3fn: away for the words 2**32 - 2 and 2**32 - 1 alone."""
    words = np.uint32([0, 1, 2**31, 2**32 - 3, 2**32 - 2, 2**32 - 1])
    x = np.full(6, 2.0**-40, np.float32)
    assert nf.encode(x, "e4m3fn", rounding="stochastic_a", random_bits=words).tolist() == [0, 0, 0, 0, 1, 1]


def test_no_temporary_exceeds_a_mebibyte_a_thread():
    import tracemalloc

    x = np.random.default_rng(0).standard_normal(1 << 19).astype(np.float32)
    out = np.empty_like(x)
    for options in ({}, {"rounding": "stochastic", "seed": 0}):
        nf.quantize(x, "float16", out=out, **options)
        tracemalloc.start()
        nf.quantize(x, "float16", out=out, threads=1, **options)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 20
