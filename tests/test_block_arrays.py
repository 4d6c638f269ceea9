"""BlockArray, and what encode, decode and quantize promise of arrays: axes, dtypes, strides, slices, out=."""

import ml_dtypes
import numpy as np
import pytest

import numfmt as nf
from numfmt.named_blocks import NAMED_BLOCKS
from tests.support import assert_same_bits, without_twins

f32 = np.float32
TILES = [name for name, entry in NAMED_BLOCKS.items() if len(entry.format.block) == 2]
WHOLE = [name for name, entry in NAMED_BLOCKS.items() if entry.format.block == ()]
FLAT = [name for name, entry in NAMED_BLOCKS.items() if entry.format.flat]
LINES = [name for name in NAMED_BLOCKS if name not in (*TILES, *WHOLE, *FLAT)]
SOME = ["mxfp4", "mxint8", "mxfp8_te", "nvfp4", "nvfp4_16x16", "nvfp4_4over6", "deepseek_fp8", "int8_tensor", "int8_axis", "int4_affine_group32",
        "mx6", "hif4", "q4_1", "nf4_block", "nf4_double"]  # fmt: skip


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(f32)


def parts(q):
    """Everything that a BlockArray stores, by name."""
    found = {"codes": q.codes, "scales": q.scales, "zero_points": q.zero_points, "tensor_scale": q.tensor_scale, "tensor_amax": q.tensor_amax}
    found |= {f"micro{i}": level for i, level in enumerate(q.micro)}
    if q.nested is not None:
        found |= {f"nested.{name}": value for name, value in parts(q.nested).items()}
    return {name: value for name, value in found.items() if value is not None}


def assert_same(p, q):
    assert (p.format, p.axis, p.shape) == (q.format, q.axis, q.shape)
    assert parts(p).keys() == parts(q).keys()
    for name, value in parts(p).items():
        assert_same_bits(np.asarray(value), np.asarray(parts(q)[name]), f"{p.format} {name}")


# ---- attributes ------------------------------------------------------------------------------------------------


def test_repr_names_format_shape_axis_and_bytes():
    x = np.zeros((4, 70), f32)
    assert repr(nf.encode(x, "mxfp4")) == "BlockArray(mxfp4, shape (4, 70), axis 1, 152 bytes: 140 of codes, 12 of scales)"
    assert repr(nf.encode(x, "nvfp4", axis=0)) == (
        "BlockArray(nvfp4, shape (4, 70), axis 0, 214 bytes: 140 of codes, 70 of scales, 4 of tensor scale)"
    )
    assert repr(nf.encode(x, "q8_0")) == "BlockArray(q8_0, shape (4, 70), flat blocks, 298 bytes: 280 of codes, 18 of scales)"
    assert repr(nf.encode(x, "int8_tensor")) == "BlockArray(int8_tensor, shape (4, 70), one block, 284 bytes: 280 of codes, 4 of scales)"


@pytest.mark.parametrize("name", without_twins(NAMED_BLOCKS))
def test_nbytes_of_whole_blocks_is_bits_per_element(name):
    """But for what belongs to an axis or to the array."""
    fmt = nf.get_format(name)
    q = nf.encode(normal(384, 384), name)  # 24 × 24 and 128 × 128 tiles fit
    own = 4 if q.tensor_scale is not None else 0
    if fmt.elements_per_block is None:
        scale_bits = fmt.scale.bits + fmt.scale_rule.zero_point_bits(fmt)
        assert q.nbytes == 384 * 384 * fmt.element.bits // 8 + -(-q.scales.size * scale_bits // 8)
    else:
        assert q.nbytes == 384 * 384 * fmt.bits_per_element / 8 + own


def test_bits_per_element_are_those_of_the_papers():
    bits = {"mxfp8_e4m3": 8.25, "mxfp6_e2m3": 6.25, "mxfp4": 4.25, "mxint8": 8.25, "nvfp4": 4.5, "mx9": 9, "mx6": 6, "mx4": 4, "hif4": 4.5,
            "q8_0": 8.5, "q4_0": 4.5, "q4_1": 5, "q5_0": 5.5, "q5_1": 6, "nf4_block": 4.5, "msfp12": 4.5}  # fmt: skip
    assert {name: float(nf.get_format(name).bits_per_element) for name in bits} == bits


def test_sizes_and_lengths():
    q = nf.encode(normal(4, 70), "mxfp4")
    assert (len(q), q.ndim, q.size, q.shape) == (4, 2, 280, (4, 70))
    assert (q.codes.dtype, q.scales.dtype) == (np.uint8, np.uint8)
    assert nf.encode(normal(4), "int8_axis").scales.dtype == f32
    assert nf.encode(normal(4), "q8_0").scales.dtype == np.float16


@pytest.mark.parametrize("name", NAMED_BLOCKS)
def test_scales_have_one_entry_a_block(name):
    fmt, shape = nf.get_format(name), (3, 130, 70)
    q = nf.encode(normal(*shape), name)
    if fmt.flat:
        assert q.scales.shape == (-(-3 * 130 * 70 // fmt.block[0]),)
    elif fmt.block == ():
        assert q.scales.shape == (1, 1, 1)
    else:
        sizes = [s if s > 0 else 70 for s in fmt.block]
        tail = [-(-n // s) for n, s in zip(shape[-len(sizes) :], sizes, strict=True)]
        assert q.scales.shape == (*shape[: 3 - len(sizes)], *tail)


def test_a_block_array_checks_its_shapes():
    codes = np.zeros((2, 40), np.uint8)
    with pytest.raises(ValueError, match=r"scales has shape \(2, 1\); mxfp4 has \(2, 2\)"):
        nf.BlockArray(codes, np.zeros((2, 1), np.uint8), None, nf.get_format("mxfp4"), 1, (2, 40))
    with pytest.raises(ValueError, match=r"codes has shape \(2, 40\); the array has shape \(40, 2\)"):
        nf.BlockArray(codes, np.zeros((2, 2), np.uint8), None, nf.get_format("mxfp4"), 1, (40, 2))


# ---- values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMED_BLOCKS)
def test_quantize_is_decode_of_encode(name):
    x = normal(5, 140)
    x[0, :3] = 0, -0.0, 1e-30
    q = nf.encode(x, name)
    assert_same_bits(nf.quantize(x, name), nf.decode(q))
    assert_same_bits(q.decode(), nf.decode(q))
    assert_same_bits(np.asarray(q), nf.decode(q))
    assert_same_bits(nf.quantize(x.astype(np.float64), name), nf.decode(nf.encode(x.astype(np.float64), name), dtype=np.float64))


def test_arrays_are_made_of_block_arrays_on_request():
    q = nf.encode(normal(4, 70), "mxfp4")
    values = nf.decode(q)
    assert_same_bits(np.asarray(q, np.float64), values.astype(np.float64))
    assert_same_bits(np.asarray(q, np.float16), values.astype(np.float16))
    assert_same_bits(np.asarray(q, ml_dtypes.bfloat16).view(np.uint16), values.astype(ml_dtypes.bfloat16).view(np.uint16))
    assert_same_bits(np.array(q, copy=True), values)
    assert_same_bits(np.ones((4, 70), f32) * np.asarray(q), values)
    with pytest.raises(ValueError, match="copy=False is given"):
        np.array(q, copy=False)
    with pytest.raises(TypeError, match="dtype int64 is given; float16, float32, float64 and ml_dtypes floats are taken"):
        np.asarray(q, np.int64)


def test_decoding_to_a_narrower_dtype_rounds_the_float32_value():
    q = nf.encode(normal(8, 64) * f32(1e4), "int8_axis")
    for dtype in (np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2):
        with np.errstate(over="ignore"):
            expected = nf.decode(q).astype(dtype)
        bits = f"u{expected.dtype.itemsize}"
        assert_same_bits(nf.decode(q, dtype=dtype).view(bits), expected.view(bits))


def test_decode_takes_no_other_format():
    q = nf.encode(normal(4, 70), "mxfp4")
    assert_same_bits(nf.decode(q, "mxfp4"), nf.decode(q))
    with pytest.raises(ValueError, match="mxfp8 is given for a BlockArray of mxfp4; leave the format out"):
        nf.decode(q, "mxfp8")


DTYPES = ["float16", "bfloat16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64", "uint64", "float8_e4m3fn", "float4_e2m1fn"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SOME)
def test_operands_of_every_dtype_are_taken_for_their_values(name, dtype):
    x = np.arange(-40, 56).reshape(3, 32) % 100
    given = x.astype(getattr(ml_dtypes, dtype, dtype))
    wide = given.astype(np.float64)
    assert_same(nf.encode(given, name), nf.encode(wide, name))


@pytest.mark.parametrize(("name", "dtype", "result"), [
    ("mxfp4", "bfloat16", "bfloat16"), ("mxfp8_e4m3", "bfloat16", "bfloat16"), ("mxint8", "bfloat16", "bfloat16"),
    ("mxfp4", "float16", "float32"), ("nvfp4", "bfloat16", "float32"), ("int8_axis", "bfloat16", "float32"),
    ("mxfp4", "float32", "float32"), ("mxfp4", "float64", "float64"), ("nvfp4", "float64", "float64"),
    ("mxfp4", "int8", "float32"), ("mxfp4", "int64", "float32"), ("mxfp4", "float8_e4m3fn", "float32"), ("int8_tensor", "float16", "float32"),
])  # fmt: skip
def test_quantize_keeps_a_dtype_that_holds_every_result(name, dtype, result):
    x = np.ones((2, 32)).astype(getattr(ml_dtypes, dtype, dtype))
    assert nf.quantize(x, name).dtype == np.dtype(getattr(ml_dtypes, result, result))


@pytest.mark.parametrize("dtype", ["bool", "complex64", "longdouble", "object", "str"])
def test_what_is_no_number_is_refused(dtype):
    with pytest.raises(TypeError, match="x has dtype"):
        nf.encode(np.ones((2, 32), dtype), "mxfp4")


def test_integers_beyond_binary64_are_refused():
    assert nf.quantize(np.full(32, 2**53), "mxfp4").tolist() == [2.0**53] * 32
    with pytest.raises(ValueError, match="integers beyond"):
        nf.quantize(np.full(32, 2**53 + 1), "mxfp4")


@pytest.mark.parametrize("name", SOME)
def test_strides_and_byte_order_do_not_matter(name):
    x = normal(48, 96)
    expected = nf.encode(x, name)
    wide = np.zeros((96, 192), f32)
    wide[::2, ::2] = x
    for given in (wide[::2, ::2], np.asfortranarray(x), x.astype(">f4"), np.ascontiguousarray(x[::-1])[::-1], np.ascontiguousarray(x.T).T):
        assert_same(nf.encode(given, name), expected)
        assert_same_bits(nf.quantize(given, name), nf.decode(expected))
    x.flags.writeable = False
    assert_same(nf.encode(x, name), expected)
    assert_same(nf.encode(x.tolist(), name), nf.encode(x.astype(np.float64), name))


@pytest.mark.parametrize("name", NAMED_BLOCKS)
def test_the_operand_is_left_alone(name):
    x = normal(3, 70)
    x[0, 0], x[1, 1], x[2, 2] = np.nan, -0.0, np.inf
    before = x.view(np.uint32).copy()
    nf.encode(x, name)
    assert_same_bits(x.view(np.uint32), before)


@pytest.mark.parametrize("name", LINES)
def test_a_scalar_has_no_axis_for_blocks(name):
    with pytest.raises(ValueError, match=r"an array of shape \(\) is given"):
        nf.encode(f32(1.5), name)
    with pytest.raises(ValueError, match=r"an array of shape \(\) is given"):
        nf.quantize(1.5, name)


@pytest.mark.parametrize("name", [*WHOLE, *FLAT])
def test_a_scalar_is_one_block_of_the_whole_array(name):
    q = nf.encode(np.array(1.5, f32), name)
    assert q.codes.shape == q.shape == ()
    assert q.scales.size == 1
    assert float(nf.decode(q)) == float(nf.decode(nf.encode(np.array([1.5], f32), name))[0])


def test_a_python_scalar_gives_a_numpy_scalar():
    assert isinstance(nf.quantize(1.5, "int8_tensor"), np.float64)


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (2, 0, 3), (0, 0)])
@pytest.mark.parametrize("name", [
    *[n for n in SOME if n != "nf4_double"],
    pytest.param("nf4_double"),
])  # fmt: skip
def test_empty_arrays_stay_empty(name, shape):
    if len(shape) < len(nf.get_format(name).block):
        with pytest.raises(ValueError, match="needs 2 axes or more"):
            nf.encode(np.zeros(shape, f32), name)
        return
    q = nf.encode(np.zeros(shape, f32), name)
    assert q.codes.shape == nf.decode(q).shape == nf.quantize(np.zeros(shape, f32), name).shape == shape
    assert q.codes.size == 0
    assert repr(q).startswith("BlockArray(")


# ---- axes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LINES)
def test_blocks_along_an_axis_are_those_of_the_array_with_that_axis_last(name):
    x = normal(6, 40, 5)
    for axis in (0, 1, 2, -1, -2, -3):
        q = nf.encode(x, name, axis=axis)
        last = nf.encode(np.moveaxis(x, axis, -1), name)
        assert q.axis == axis % 3
        assert_same_bits(q.codes, np.moveaxis(last.codes, -1, axis), name)
        assert_same_bits(q.scales, np.moveaxis(last.scales, -1, axis), name)
        assert_same_bits(nf.decode(q), np.moveaxis(nf.decode(last), -1, axis), name)


@pytest.mark.parametrize("name", TILES)
def test_tiles_along_two_axes_are_those_of_the_array_with_those_axes_last(name):
    x = normal(40, 3, 30)
    assert_same(nf.encode(x, name), nf.encode(x, name, axis=(-2, -1)))
    for axes in ((0, 2), (2, 0), (0, 1), (-3, -1)):
        q, last = nf.encode(x, name, axis=axes), nf.encode(np.moveaxis(x, axes, (-2, -1)), name)
        assert q.axis == tuple(a % 3 for a in axes)
        assert_same_bits(nf.decode(q), np.moveaxis(nf.decode(last), (-2, -1), axes), name)
        assert_same_bits(q.scales, np.moveaxis(last.scales, (-2, -1), axes), name)


@pytest.mark.parametrize(("name", "axis", "message"), [
    ("mxfp4", 2, r"axis 2 is given; an array of shape \(4, 70\) has axes -2 to 1"),
    ("mxfp4", -3, r"axis -3 is given; an array of shape \(4, 70\) has axes -2 to 1"),
    ("mxfp4", (0, 1), r"axis=\(0, 1\) is given; mxfp4 has blocks along one axis, an int"),
    ("mxfp4", None, "axis=None is given; mxfp4 has blocks along one axis, an int"),
    ("mxfp4", 1.0, r"axis=1\.0 is given; mxfp4 has blocks along one axis, an int"),
    ("mxfp4", "x", "axis='x' is given; mxfp4 has blocks along one axis, an int"),
    ("nvfp4_16x16", 1, "axis=1 is given; nvfp4_16x16 has blocks along two axes, a pair of ints"),
    ("nvfp4_16x16", (0, 0), r"axis=\(0, 0\) is given; the two axes of a tile differ"),
    ("nvfp4_16x16", (0, -2), r"axis=\(0, -2\) is given; the two axes of a tile differ"),
    ("nvfp4_16x16", (0, 2), "axis 2 is given"),
    ("q8_0", 0, "axis=0 is given; q8_0 has blocks over the flattened array"),
    ("int8_tensor", 1, "axis=1 is given; int8_tensor has blocks over the whole array"),
])  # fmt: skip
def test_a_wrong_axis_is_refused_in_one_sentence(name, axis, message):
    for function in (nf.encode, nf.quantize):
        with pytest.raises(ValueError, match=message) as caught:
            function(normal(4, 70), name, axis=axis)
        assert "\n" not in str(caught.value)


def test_scalar_options_are_refused():
    for option in ({"return_flags": True}, {"wrap_bits": 1}):
        with pytest.raises(ValueError, match="is given for mxfp4; it is for scalar formats"):
            nf.encode(normal(4, 70), "mxfp4", **option)


# ---- slicing ---------------------------------------------------------------------------------------------------

SLICES = [
    (), 0, -1, slice(1, 3), slice(None, None, 2), slice(None, None, -1), ..., (slice(None), slice(None), slice(32, 64)),
    (slice(None), slice(None), slice(64, None)), (slice(None), slice(None), slice(-6, None)), (..., slice(0, 70)), (..., slice(32, 1000)),
    (1, slice(0, 2), slice(0, 32)), (slice(1, 2), 2, ...), (0, 0), (..., slice(32, 32)), (slice(0, 0),),
]  # fmt: skip


@pytest.mark.parametrize("name", ["mxfp4", "nvfp4", "mx9", "hif4", "int4_affine_group32", "int4_group32"])
def test_slices_on_block_borders_decode_to_slices_of_the_values(name):
    q = nf.encode(normal(4, 3, 70) * f32(3), name)
    k = q.format.block[0]
    for key in SLICES:
        if k == 64 and isinstance(key, tuple) and any(isinstance(s, slice) and 32 in (s.start, s.stop) for s in key):
            continue
        part = q[key]
        assert_same_bits(nf.decode(part), nf.decode(q)[key], str(key))
        assert part.shape == nf.decode(q)[key].shape
        assert part.format == q.format


def test_slices_along_other_axes_and_of_tiles():
    x = normal(40, 6, 50)
    q = nf.encode(x, "mxfp4", axis=0)
    for key in (slice(0, 32), (slice(32, 40), 3), (..., 7), (slice(None), slice(None, None, 2), slice(4, 9))):
        assert_same_bits(nf.decode(q[key]), nf.decode(q)[key])
    assert q[:, 2].axis == 0
    tiles = nf.encode(x, "nvfp4_16x16", axis=(0, 2))
    for key in ((slice(16, 32), 1, slice(0, 48)), (slice(32, None), slice(1, 3), slice(48, 50)), ...):
        assert_same_bits(nf.decode(tiles[key]), nf.decode(tiles)[key])
    assert tiles[:, 1].axis == (0, 1)


@pytest.mark.parametrize(("key", "error", "message"), [
    ((..., slice(0, 40)), ValueError, "the slice 0:40:1 is given along block axis 1; it must take whole blocks of 32"),
    ((..., slice(1, None)), ValueError, "the slice 1:70:1 is given along block axis 1; it must take whole blocks of 32"),
    ((..., slice(None, None, 2)), ValueError, "the slice 0:70:2 is given along block axis 1; it must take whole blocks of 32"),
    ((..., slice(None, None, -1)), ValueError, "it must take whole blocks of 32"),
    ((..., 3), ValueError, "an integer is given along block axis 1; a slice of whole blocks of 32 fits"),
    (4, IndexError, "out of bounds"),
    ((0, 0, 0), IndexError, "3 indices are given for 2 axes"),
    (None, IndexError, r"a BlockArray takes integers, slices and one \.\.\. as indices"),
    ([0, 1], IndexError, r"a BlockArray takes integers, slices and one \.\.\. as indices"),
    (np.array([True] * 4), IndexError, r"a BlockArray takes integers, slices and one \.\.\. as indices"),
    ("a", IndexError, r"a BlockArray takes integers, slices and one \.\.\. as indices"),
    pytest.param(True, IndexError, "as indices"),
    pytest.param((..., ...), IndexError, "one ellipsis|as indices|ellips"),
])  # fmt: skip
def test_slices_off_block_borders_are_refused_in_one_sentence(key, error, message):
    q = nf.encode(normal(4, 70), "mxfp4")
    with pytest.raises(error, match=message):
        q[key]


@pytest.mark.parametrize("name", ["q8_0", "nf4_block", "nf4_double", "int8_tensor"])
def test_blocks_over_the_whole_array_are_not_sliced(name):
    with pytest.raises(ValueError, match=f"{name} has blocks over the whole array; slice the decoded values instead"):
        nf.encode(normal(4, 70), name)[0]


def test_a_block_that_spans_an_axis_is_sliced_along_the_others_alone():
    q = nf.encode(normal(4, 70), "int8_axis")
    assert_same_bits(nf.decode(q[1:3]), nf.decode(q)[1:3])
    with pytest.raises(ValueError, match="whole blocks of 70"):
        q[:, :32]


# ---- transpose and requantize ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*LINES, *TILES, *WHOLE])
def test_a_transposed_block_array_decodes_to_the_transposed_values(name):
    q = nf.encode(normal(4, 33, 70), name)
    for axes in ((), (0, 2, 1), (2, 0, 1), (-1, 0, 1), (0, 1, 2)):
        t = q.transpose(*axes)
        assert_same_bits(nf.decode(t), nf.decode(q).transpose(*axes), f"{name} {axes}")
        assert t.shape == nf.decode(t).shape
        assert_same(t.transpose(*np.argsort([a % 3 for a in axes] or [2, 1, 0])), q)
    assert_same(q.T, q.transpose())
    assert_same(q.transpose((2, 0, 1)), q.transpose(2, 0, 1))


@pytest.mark.parametrize("name", FLAT)
def test_flat_blocks_are_not_transposed(name):
    with pytest.raises(ValueError, match="blocks over the flattened array, which no transpose keeps"):
        nf.encode(normal(4, 64), name).transpose()


@pytest.mark.parametrize("axes", [(0,), (1, 1), (2, 0), (0, 1, 2)])
def test_axes_of_a_transpose_are_a_permutation(axes):
    with pytest.raises(ValueError, match="are given; they must be a permutation of 0 to 1"):
        nf.encode(normal(4, 64), "mxfp4").transpose(*axes)


@pytest.mark.parametrize("name", LINES)
def test_requantizing_along_another_axis_encodes_the_decoded_values(name):
    q = nf.encode(normal(40, 70), name)
    assert_same(q.requantize(axis=0), nf.encode(nf.decode(q), name, axis=0))
    assert_same(q.requantize(), nf.encode(nf.decode(q), name, axis=1))
    assert_same(q.requantize(axis=-2, format="mxfp8_te"), nf.encode(nf.decode(q), "mxfp8_te", axis=0))


def test_requantizing_into_other_formats():
    q = nf.encode(normal(40, 70), "mxfp8_e4m3", axis=0)
    assert_same(q.requantize(format="mxfp4"), nf.encode(nf.decode(q), "mxfp4", axis=0))
    assert_same(q.requantize(format="q8_0"), nf.encode(nf.decode(q), "q8_0"))
    assert_same(q.requantize(format="int8_tensor"), nf.encode(nf.decode(q), "int8_tensor"))
    assert_same(q.requantize(format="mxfp4", rounding="toward_zero"), nf.encode(nf.decode(q), "mxfp4", axis=0, rounding="toward_zero"))
    with pytest.raises(ValueError, match="requantize\\(\\) takes block formats"):
        q.requantize(format="e4m3fn")
    with pytest.raises(ValueError, match="axis 5 is given"):
        q.requantize(axis=5)


@pytest.mark.parametrize(("name", "target"), [("q8_0", "mxfp4"), ("int8_tensor", "mxfp4"), ("nvfp4_16x16", "mxfp4"), ("mxfp4", "nvfp4_16x16")])
def test_requantizing_between_lines_tiles_and_whole_arrays_takes_the_default_axis(name, target):
    q = nf.encode(normal(40, 70), name)
    assert_same(q.requantize(format=target), nf.encode(nf.decode(q), target))


# ---- out -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "axis"), [*((name, -1) for name in SOME), *((name, 0) for name in SOME if name in LINES)])
def test_quantize_fills_an_array_that_is_given(name, axis):
    x = normal(48, 80)
    expected = nf.quantize(x, name, axis=axis)
    for out in (np.empty((48, 80), f32), np.empty((48, 80), f32, order="F"), np.empty((48, 160), f32)[:, ::2]):
        assert nf.quantize(x, name, axis=axis, out=out) is out
        assert_same_bits(np.ascontiguousarray(out), expected)
        assert nf.decode(nf.encode(x, name, axis=axis), out=out) is out
        assert_same_bits(np.ascontiguousarray(out), expected)
    own = x.copy()
    nf.quantize(own, name, axis=axis, out=own)
    assert_same_bits(own, expected, "in place")


def test_an_array_that_does_not_fit_is_refused():
    x = normal(4, 64)
    for out in (np.empty((4, 64)), np.empty((4, 63), f32), [1]):
        with pytest.raises(ValueError, match=r"out has .*the result has shape"):
            nf.quantize(x, "mxfp4", out=out)
    frozen = np.empty((4, 64), f32)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        nf.quantize(x, "mxfp4", out=frozen)
    for out in (np.empty((4, 64), f32), nf.encode(x, "mxfp8"), nf.encode(x[:3], "mxfp4"), nf.encode(x, "mxfp4", axis=0)):
        with pytest.raises(ValueError, match=r"it must be a BlockArray of mxfp4, shape \(4, 64\), axis 1"):
            nf.encode(x, "mxfp4", out=out)


@pytest.mark.parametrize("name", SOME)
def test_encode_into_a_block_array_gives_what_encode_gives(name):
    x, y = normal(48, 80), normal(48, 80, seed=1) * f32(100)
    out = nf.encode(y, name)
    made = nf.encode(x, name, out=out)
    assert_same(made, nf.encode(x, name))
    assert np.shares_memory(made.codes, out.codes)
    assert_same_bits(out.codes, made.codes)
    assert_same_bits(out.scales, made.scales)


@pytest.mark.parametrize("name", [
    "mxfp4", "int8_axis", "nf4_block",
    *(pytest.param(n)
      for n in ("nvfp4", "int4_affine_group32", "q4_1", "mx6", "hif4", "nf4_double")),
])  # fmt: skip
def test_out_holds_the_result_after_the_call(name):
    out = nf.encode(normal(48, 80, seed=1) * f32(100), name)
    nf.encode(normal(48, 80), name, out=out)
    assert_same(out, nf.encode(normal(48, 80), name))


# ---- packed codes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mxfp4", "nvfp4", "mxfp6_e2m3", "mxfp8_e4m3", "int4_group32", "q4_0", "nf4_block", "mx6", "int4_axis", "nvfp4_16x16"])
@pytest.mark.parametrize("shape", [(64, 2048), (3, 36), (7, 5, 32), (1, 40_000 * 8), (0, 32)])
def test_packed_codes_decode_as_they_are(name, shape):
    q = nf.encode(normal(*shape), name)
    for layout in ("low_first", "high_first"):
        p = q.pack(layout)
        assert p.codes.nbytes == -(-shape[-1] * q.format.element.bits // 8) * q.size // max(shape[-1], 1)
        assert_same_bits(np.asarray(p), np.asarray(q))
        assert np.array_equal(p.unpack().codes, q.codes)
    if q.format.element.bits == 4 and shape[-1] % 32 == 0:
        assert_same_bits(np.asarray(q.pack("split_halves")), np.asarray(q))


def test_packed_bytes_of_elsewhere_make_a_block_array():
    q = nf.encode(normal(4, 64), "mxfp4")
    data = q.codes[:, ::2] | q.codes[:, 1::2] << 4
    made = nf.BlockArray(nf.PackedCodes(data, 4, (4, 64), "gpt_oss"), q.scales, None, q.format, 1, (4, 64))
    assert_same_bits(np.asarray(made), np.asarray(q))
    assert np.array_equal(made[:, 32:].codes, q.codes[:, 32:])
    assert np.array_equal(made.T.codes, q.codes.T)
    with pytest.raises(ValueError, match=r"packed codes of 4 bits and shape \(4, 64\) are uint8 of shape \(4, 32\)"):
        nf.PackedCodes(data[:, 1:], 4, (4, 64))
    frozen = data.copy()
    frozen.flags.writeable = False
    made = nf.BlockArray(nf.PackedCodes(frozen, 4, (4, 64)), q.scales, None, q.format, 1, (4, 64))
    with pytest.raises(ValueError, match="axis 1, and writable"):
        nf.encode(normal(4, 64), "mxfp4", out=made)


@pytest.mark.parametrize("layout", ["low_first", "high_first", "gpt_oss", "split_halves"])
@pytest.mark.parametrize("name", ["mxfp4", "nvfp4", "mxfp6_e2m3", "mxfp8_e4m3", "int4_group32", "q4_0", "nf4_block", "mx6", "int4_axis", "nvfp4_16x16"])
@pytest.mark.parametrize("shape", [(64, 2048), (64, 288), (3, 36), (7, 5, 32), (0, 32)])
def test_out_may_hold_packed_codes(name, shape, layout):
    x, fmt = normal(*shape), nf.get_format(name)
    if (fmt.element.bits != 4 and layout in ("gpt_oss", "split_halves")) or (shape[-1] % 32 and layout == "split_halves"):
        return
    x.reshape(-1)[5:600:97] = 1e-42
    x.reshape(-1)[32:64] = 0
    q = nf.encode(x, name)
    out = nf.encode(x[::-1] * f32(3), name).pack(layout)
    data = out.codes.data
    assert nf.encode(x, name, out=out) is out
    assert out.codes.data is data
    assert_same(out.unpack(), q)
    assert np.array_equal(data, q.pack(layout).codes.data)


def test_empty_arrays_fill_out_too():
    out = nf.encode(np.zeros((0, 32), f32), "int4_axis", axis=0)
    before = out.scales
    before[...] = 7
    assert nf.encode(np.zeros((0, 32), f32), "int4_axis", axis=0, out=out) is out
    assert out.scales is before
    assert_same(out, nf.encode(np.zeros((0, 32), f32), "int4_axis", axis=0))


class Counted:
    """Something that becomes an array each time that it is looked at."""

    looks = 0

    def __array__(self, dtype=None, copy=None):
        self.looks += 1
        return normal(4, 64)


def test_an_operand_is_looked_at_once():
    for function in (nf.encode, nf.quantize):
        x = Counted()
        function(x, "mxfp4")
        assert x.looks == 1
