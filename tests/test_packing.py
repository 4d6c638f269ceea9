"""Packed bytes are what the sum of shifted Python integers says, on every engine and in every shape."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from numfmt import compiled, packing, packing_loops
from numfmt.gguf_blocks import TYPES, pack_gguf, unpack_gguf
from numfmt.packing import ALIASES, LAYOUTS, pack, pack_chunk, swizzle_scales, unpack, unpack_chunk, unswizzle_scales
from tests.support import assert_same_bits

WIDTHS = range(1, 33)
LENGTHS = (0, 1, 2, 3, 7, 8, 9, 63, 64, 65, 200)

numba = pytest.mark.skipif(compiled._module() is None, reason="Numba is not installed for this interpreter")


@pytest.fixture(params=[pytest.param(True, marks=numba, id="numba"), pytest.param(False, id="numpy")])
def engine(request, monkeypatch):
    """Every size with Numba, or none."""
    monkeypatch.setattr(compiled, "SMALL", 0)
    if not request.param:
        monkeypatch.setattr(packing, "_loops", {})
        monkeypatch.setattr(compiled, "_module", lambda: None)
    return request.param


def some_codes(shape, bits, seed=0):
    dtype = np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32
    return np.random.default_rng(seed).integers(0, 2**bits, shape, np.uint64).astype(dtype)


def little(row, bits):
    """The little-endian stream, as one Python integer."""
    total = sum((int(code) % 2**bits) << (i * bits) for i, code in enumerate(row))
    return list(total.to_bytes(-(-len(row) * bits // 8), "little"))


def big(row, bits):
    """The big-endian stream: the digits of base 2**bits, then zeros to the end of the byte."""
    digits = "".join(f"{int(code) % 2**bits:0{bits}b}" for code in row)
    digits += "0" * (-len(digits) % 8)
    return [int(digits[i : i + 8], 2) for i in range(0, len(digits), 8)]


def halves(row, group=32):
    row = [int(code) % 16 for code in row] + [0] * (-len(row) % group)
    return [
        row[start + j] + 16 * row[start + group // 2 + j]
        for start in range(0, len(row), group)
        for j in range(group // 2)
    ]


EXPECTED = {"low_first": little, "high_first": big}


# One row


@pytest.mark.parametrize("layout", EXPECTED)
@pytest.mark.parametrize("bits", WIDTHS)
def test_streams_of_every_width_go_both_ways(bits, layout, engine):
    if engine and bits > 8 and bits not in (11, 16, 17, 24):
        pytest.skip("compiles for a second; as the others")
    for length in LENGTHS:
        codes = some_codes(length, bits, length)
        packed = pack(codes, bits, layout=layout)
        assert packed.dtype == np.uint8
        assert packed.tolist() == EXPECTED[layout](codes, bits), length
        assert_same_bits(unpack(packed, bits, layout=layout, count=length), codes, f"{length}")


@pytest.mark.parametrize("group", [32, 16, 2, 6, 48])
def test_split_halves_go_both_ways(group, engine):
    for length in (0, 1, 16, 31, 32, 96, 1000):
        codes = some_codes(length, 4, length)
        packed = pack(codes, 4, layout="split_halves", group=group)
        assert packed.tolist() == halves(codes, group)
        assert_same_bits(unpack(packed, 4, layout="split_halves", group=group, count=length), codes)


def test_long_rows_are_packed_in_pieces_without_a_seam(engine, monkeypatch):
    monkeypatch.setattr(packing, "LONG_CHUNK", 1 << 10)
    monkeypatch.setattr(packing, "NUMPY_CHUNK", 1 << 10)
    for bits, layout in ((4, "low_first"), (6, "low_first"), (3, "high_first"), (12, "high_first"), (5, "low_first")):
        codes = some_codes(5001, bits)
        packed = pack(codes, bits, layout=layout)
        assert packed.tolist() == EXPECTED[layout](codes, bits)
        assert_same_bits(unpack(packed, bits, layout=layout, count=5001), codes)
    codes = some_codes(5001, 4)
    assert pack(codes, 4, layout="split_halves").tolist() == halves(codes)


def test_named_widths_are_those_of_checkpoints():
    assert pack([0x1, 0x2], 4, layout="gpt_oss").tolist() == [0x21]
    assert pack([0x1, 0x2], 4, layout="bitsandbytes").tolist() == [0x12]
    assert pack([0b000001, 0b000010, 0b000011, 0b100000], 6, layout="compressed_tensors").tolist() == [
        0b10000001,
        0b00110000,
        0b10000000,
    ]
    assert pack([1, 0, 0, 0, 0, 0, 0, 7], 3).tolist() == [1, 0, 0b11100000]
    codes = np.arange(32) % 16
    assert pack(codes, 4, layout="gguf").tolist() == [0x11 * i for i in range(16)]
    for name, (meaning, widths) in ALIASES.items():
        for bits in widths:
            assert (pack(codes, bits, layout=name.upper()) == pack(codes, bits, layout=meaning)).all()


def test_bits_above_the_width_are_ignored(engine):
    codes = np.arange(-70, 70, dtype=np.int64)
    for bits in (3, 4, 6, 12, 20):
        assert pack(codes, bits).tolist() == little(codes, bits)
        assert pack(codes.astype(np.int8), bits).tolist() == little(codes.astype(np.int8), bits)
        assert pack(codes.astype(">i4"), bits).tolist() == little(codes, bits)


def test_negative_codes_of_a_narrower_type_keep_their_sign():
    """-1 as int8 is all ones at any width."""
    assert pack(np.int8([-1, 1]), 12).tolist() == little([-1, 1], 12)


# Shapes


@pytest.mark.parametrize("layout", [*EXPECTED, "split_halves"])
@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 8, 32), (4, 1, 33), (3, 0, 2), (0, 4, 8), (2, 64, 0)])
def test_rows_along_any_axis_are_padded_each(shape, axis, layout, engine):
    for bits in (4,) if layout == "split_halves" else (3, 4, 6, 13):
        expected = EXPECTED.get(layout, lambda row, _: halves(row))
        codes = some_codes(shape, bits)
        moved = np.moveaxis(codes, axis, -1)
        packed = pack(codes, bits, layout=layout, axis=axis)
        assert packed.flags.c_contiguous
        got = np.moveaxis(packed, axis, -1)
        assert got.shape[:-1] == moved.shape[:-1]
        for index in np.ndindex(*moved.shape[:-1]):
            assert got[index].tolist() == expected(moved[index], bits)
        assert_same_bits(unpack(packed, bits, layout=layout, axis=axis, count=shape[axis]), codes)


def test_strided_arrays_of_any_alignment_pack_as_their_copies(engine):
    base = some_codes((70, 131), 8)
    raw = np.zeros(4 * 1000 + 1, np.uint8)
    raw[1:] = some_codes(4000, 8)
    frozen = base.copy()
    frozen.flags.writeable = False
    for bits in (4, 6, 8, 11):
        for codes in (base[::2, ::-3], base.T, base[:, 1:], base[1:, 5], raw[1:], raw[1:].view(np.uint32), frozen):
            packed = pack(codes, bits)
            assert_same_bits(packed, pack(np.array(codes, order="C"), bits))
            odd = np.zeros(packed.size * 3 + 1, np.uint8)[1:].reshape(*packed.shape, 3)[..., 1]
            odd[...] = packed
            assert_same_bits(unpack(odd, bits), unpack(packed, bits))
            moved = np.zeros(packed.size + 1, np.uint8)[1:].reshape(packed.shape)
            moved[...] = packed
            assert_same_bits(unpack(moved, bits), unpack(packed, bits))


def test_out_of_any_strides_is_filled_and_returned(engine):
    for bits, axis in ((4, 1), (6, 0), (12, 1), (3, 0), (8, 1)):
        codes = some_codes((24, 40), bits)
        packed = pack(codes, bits, axis=axis)
        for out in (np.ones_like(packed), np.ones_like(packed.T).T, np.ones((*packed.shape, 2), np.uint8)[..., 1]):
            assert pack(codes, bits, axis=axis, out=out) is out
            assert_same_bits(out, packed)
        for out in (np.ones_like(codes), np.ones_like(codes.T).T, np.ones((*codes.shape, 2), codes.dtype)[..., 0]):
            assert unpack(packed, bits, axis=axis, out=out) is out
            assert_same_bits(out, codes)
    codes = some_codes((2, 3, 8, 5), 4)
    out = np.ones((2, 3, 4, 5), np.uint8).transpose(0, 1, 2, 3)[::-1]
    assert_same_bits(pack(codes, 4, axis=2, out=out), pack(codes, 4, axis=2))


def test_out_may_share_memory_with_the_operand():
    memory = some_codes(1000, 4)
    expected = pack(memory, 4)
    assert_same_bits(pack(memory, 4, out=memory[300:800]), expected)
    memory[:500] = expected
    assert_same_bits(unpack(memory[:500], 4, out=memory), unpack(expected, 4))


def test_unpack_takes_all_that_fit_unless_told():
    packed = pack([1, 2, 3], 3)
    assert unpack(packed, 3).tolist() == [1, 2, 3, 0, 0]
    assert unpack(packed, 3, count=3).tolist() == [1, 2, 3]
    assert unpack(packed, 3, count=0).tolist() == []
    assert unpack(np.zeros(32, np.uint8), 4, layout="gguf", count=40).shape == (40,)


@pytest.mark.parametrize(("bits", "dtype"), [(1, "u1"), (8, "u1"), (9, "u2"), (16, "u2"), (17, "u4"), (32, "u4")])
def test_unpacked_codes_have_the_smallest_unsigned_dtype(bits, dtype):
    assert unpack(np.zeros(64, np.uint8), bits).dtype == np.dtype(dtype)


# Engines


@numba
def test_results_do_not_depend_on_threads(monkeypatch):
    for shape in ((700_001,), (1001, 701), (5, 200_003)):
        for bits, layout in (
            (4, "low_first"),
            (4, "split_halves"),
            (6, "low_first"),
            (5, "high_first"),
            (8, "low_first"),
        ):
            codes = some_codes(shape, bits)
            packed = pack(codes, bits, layout=layout, threads=1)
            assert_same_bits(pack(codes, bits, layout=layout, threads=3), packed)
            for threads in (1, 3):
                assert_same_bits(unpack(packed, bits, layout=layout, count=shape[-1], threads=threads), codes)
            with monkeypatch.context() as patch:
                patch.setattr(packing, "_loops", {})
                patch.setattr(compiled, "_module", lambda: None)
                assert_same_bits(pack(codes, bits, layout=layout, threads=2), packed)
                assert_same_bits(unpack(packed, bits, layout=layout, count=shape[-1], threads=2), codes)


def test_chunks_are_packed_as_the_whole(engine):
    for bits, layout in ((4, "low_first"), (4, "high_first"), (4, "split_halves"), (6, "low_first"), (12, "low_first")):
        codes = some_codes(1 << 13, bits)
        packed, back = np.empty(codes.size * bits // 8, np.uint8), np.empty_like(codes)
        for start in range(0, codes.size, 1 << 11):
            part, data = slice(start, start + (1 << 11)), slice(start * bits // 8, (start + (1 << 11)) * bits // 8)
            pack_chunk(codes[part], packed[data], bits, layout, codes.size)
            unpack_chunk(packed[data], back[part], bits, layout, codes.size)
        assert_same_bits(packed, pack(codes, bits, layout=layout))
        assert_same_bits(back, codes)


def loaded(size):
    code = f"""
import sys, numpy as np
from numfmt.packing import pack, unpack
unpack(pack(np.zeros({size}, np.uint8), 4), 4)
print("numba" in sys.modules)
"""
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip() == "True"


@numba
def test_numba_is_loaded_for_large_arrays_only():
    assert not loaded(compiled.SMALL - 2)
    assert loaded(compiled.SMALL)


@numba
def test_every_loop_has_its_own_name_in_the_cache():
    names = [("pack", 4, False), ("pack", 4, True), ("unpack", 4, False), ("pack", 6, False), ("pack_halves", 16)]
    made = {packing_loops.make(*name).py_func.__qualname__ for name in names}
    assert len(made) == len(names)


ORDERS = """
import sys, numpy as np
from numfmt import compiled, packing
compiled.SMALL = 0
for bits in map(int, sys.argv[1:]):
    codes = np.arange(200, dtype=np.uint8) % 2**bits
    packed = packing.pack(codes, bits)
    total = sum(int(code) << (i * bits) for i, code in enumerate(codes))
    assert int.from_bytes(packed.tobytes(), "little") == total, bits
    assert (packing.unpack(packed, bits) == codes).all(), bits
"""


@numba
@pytest.mark.nightly
def test_cached_loops_do_not_depend_on_what_else_was_compiled(tmp_path):
    """A loop brings the functions that it calls into the cache; those of another loop must not stand in for them."""
    for widths in (("6",), ("3", "6"), ("5", "6", "3")):
        run = subprocess.run(
            [sys.executable, "-c", ORDERS, *widths],
            env=os.environ | {"NUMFMT_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent.parent)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr


# Refusals


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: pack([1], 0), ValueError, "bits=0 is given; codes have 1 to 32, and 1 is the nearest"),
        (lambda: pack([1], 33), ValueError, "bits=33 .* 32 is the nearest"),
        (lambda: pack([1], 4.0), TypeError, "bits=4.0 .* integers"),
        (lambda: pack([1], True), TypeError, "bits=True"),
        (lambda: pack([1.5], 4), TypeError, "float64; they must be integers, uint8 for choice"),
        (lambda: pack([True], 4), TypeError, "bool"),
        (lambda: pack([2**70], 4), TypeError, "object"),
        (lambda: pack([1], 4, layout="low"), ValueError, "unknown layout 'low'; nearest: low_first"),
        (lambda: pack([1], 4, layout=3), TypeError, "layout=3"),
        (lambda: pack([1], 6, layout="split_halves"), ValueError, "bits=6 .* 4 bits, 'low_first' any width"),
        (lambda: pack([1], 6, layout="bitsandbytes"), ValueError, "4 bits, 'high_first' any width"),
        (lambda: pack([1], 3, layout="compressed_tensors"), ValueError, "4 or 6 bits, 'low_first' any width"),
        (lambda: pack([1], 4, group=16), ValueError, "group=16 .* no groups"),
        (lambda: pack([1], 4, layout="gguf", group=15), ValueError, "group=15 .* even and positive, and 16"),
        (lambda: pack([1], 4, layout="gguf", group=0), ValueError, "group=0 .* 2 is the nearest"),
        (lambda: pack([1], 4, layout="gguf", group=2.0), TypeError, "integers"),
        (lambda: pack([1], 4, axis=1), ValueError, "axis=1 is given; codes has shape .1,., and -1 to 0"),
        (lambda: pack(3, 4), ValueError, "a scalar has none"),
        (lambda: pack([1], 4, out=np.empty(2, np.uint8)), ValueError, r"out has shape \(2,\)"),
        (lambda: pack([1], 4, out=np.empty(1, np.int8)), ValueError, "dtype int8; the result .* uint8"),
        (lambda: unpack([1], 4), TypeError, r"dtype int64; it must be uint8, as packed.view\(np.uint8\)"),
        (lambda: unpack(np.uint8([1]), 4, out=np.empty(2, np.uint16)), ValueError, "dtype uint16"),
        (lambda: unpack(np.uint8([1]), 3, count=3), ValueError, "count=3 is given; 1 bytes hold at most 2 codes"),
        (lambda: unpack(np.uint8([1]), 3, count=-1), ValueError, "count=-1"),
        (lambda: unpack(np.uint8([1]), 3, count=1.0), TypeError, "count=1.0"),
        (lambda: unpack(np.zeros(17, np.uint8), 4, layout="gguf"), ValueError, "17 bytes .* 32 codes takes 16"),
        (lambda: pack([1], 4, threads=0), ValueError, "threads=0"),
        (lambda: pack_gguf(np.zeros(32, int), np.float16([1]), "q4_2"), ValueError, "unknown GGUF type 'q4_2'; nearest"),
        (lambda: pack_gguf(np.zeros(31, int), np.float16([1]), "q4_0"), ValueError, "multiple of 32 codes"),
        (lambda: pack_gguf(np.zeros(32), np.float16([1]), "q4_0"), TypeError, "float64"),
        (lambda: pack_gguf(np.zeros(32, int), np.float32([1]), "q4_0"), TypeError, "as float16 or uint16"),
        (lambda: pack_gguf(np.zeros(32, int), np.float16([1, 2]), "q4_0"), ValueError, r"need shape \(1,\)"),
        (lambda: pack_gguf(np.zeros(32, int), np.float16([1]), "q4_1"), ValueError, "not given; q4_1 is a type with"),
        (
            lambda: pack_gguf(np.zeros(32, int), np.float16([1]), "q4_0", minimums=np.float16([1])),
            ValueError,
            "minimums are given; q4_0 is a type without",
        ),
        (lambda: unpack_gguf(np.zeros(19, np.uint8), "Q4_0"), ValueError, "multiple of 18 bytes"),
        (lambda: unpack_gguf(np.zeros(18, np.int8), "Q4_0"), TypeError, "int8"),
        (lambda: swizzle_scales(np.zeros(4, np.uint8)), ValueError, "rows and columns"),
        (lambda: unswizzle_scales(np.zeros(512, np.uint8), 129, 1), ValueError, r"take 1024 elements, .* \(256, 4\)"),
        (lambda: unswizzle_scales(np.zeros(512, np.uint8), -1, 1), ValueError, "neither may be negative"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


# GGUF


SIZES = {"q8_0": 34, "q4_0": 18, "q4_1": 20, "q5_0": 22, "q5_1": 24, "mxfp4": 17, "nvfp4": 36}


@pytest.mark.parametrize("name", TYPES)
def test_gguf_blocks_go_both_ways(name, engine):
    size, elements = SIZES[name], 64 if name == "nvfp4" else 32
    data = np.random.default_rng(3).integers(0, 256, (3, 5, 4 * size), dtype=np.uint8)
    blocks = unpack_gguf(data, name)
    assert blocks.codes.shape == (3, 5, 4 * elements)
    assert blocks.scales.shape == (3, 5, 16 if name == "nvfp4" else 4)
    assert (blocks.minimums is None) == (not name.endswith("_1"))
    assert_same_bits(pack_gguf(*blocks[:2], name, minimums=blocks.minimums), data)
    flat = None if blocks.minimums is None else blocks.minimums.reshape(-1).view(np.uint16)
    scales = blocks.scales.reshape(-1)
    scales = scales.view(np.uint16) if scales.dtype == np.float16 else scales
    assert_same_bits(pack_gguf(blocks.codes, scales, name.upper(), minimums=flat), data)
    strided = np.repeat(data, 2, axis=-1)[..., ::2]
    assert_same_bits(unpack_gguf(strided, name).codes, blocks.codes)


@pytest.mark.parametrize("name", TYPES)
def test_gguf_takes_no_blocks_too(name):
    for shape in ((0,), (3, 0), (0, SIZES[name])):
        data = np.zeros(shape, np.uint8)
        codes, scales, minimums = unpack_gguf(data, name)
        assert codes.size == 0
        assert pack_gguf(codes, scales, name, minimums=minimums).shape == shape


def test_gguf_bytes_are_where_ggml_has_them():
    """Written out from the structures of ggml-common.h."""
    codes = np.arange(32, dtype=np.uint8)
    scale, least = np.float16([1.0]), np.float16([-2.0])  # 0x3C00, 0xC000
    nibbles = [(j & 15) | ((j + 16) & 15) << 4 for j in range(16)]
    assert pack_gguf(codes - 5, scale, "q8_0").tolist() == [0x00, 0x3C, *((j - 5) % 256 for j in range(32))]
    assert pack_gguf(codes, scale, "q4_0").tolist() == [0x00, 0x3C, *nibbles]
    assert pack_gguf(codes, scale, "q4_1", minimums=least).tolist() == [0x00, 0x3C, 0x00, 0xC0, *nibbles]
    assert pack_gguf(codes, scale, "q5_0").tolist() == [0x00, 0x3C, 0, 0, 0xFF, 0xFF, *nibbles]
    assert pack_gguf(codes, scale, "q5_1", minimums=least).tolist() == [
        *(0x00, 0x3C, 0x00, 0xC0),
        *(0, 0, 0xFF, 0xFF),
        *nibbles,
    ]
    assert pack_gguf(codes, np.uint8([127]), "mxfp4").tolist() == [127, *nibbles]
    sixteens = [(i % 16) for i in range(64)]
    assert pack_gguf(np.array(sixteens), np.uint8([1, 2, 3, 4]), "nvfp4").tolist() == [
        *(1, 2, 3, 4),
        *([j | (j + 8) << 4 for j in range(8)] * 4),
    ]


E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def decoded(name, data):
    """Values of random blocks by the layout alone, with gguf's order of binary32 operations."""
    codes, scales, minimums = unpack_gguf(data, name)
    spread = np.repeat(scales, codes.shape[-1] // scales.shape[-1], axis=-1)
    if name == "mxfp4":
        return E2M1[codes] * np.exp2(spread.astype(np.float64) - 127).astype(np.float32)
    if name == "nvfp4":
        exponent, fraction = (spread >> 3 & 15).astype(int), (spread & 7).astype(np.float64)
        value = np.where(exponent == 0, fraction / 512, (8 + fraction) / 8 * np.exp2(exponent - 7.0))
        return (E2M1[codes] * value).astype(np.float32)
    q = codes.view(np.int8).astype(np.float32) - np.float32({"q4_0": 8, "q5_0": 16}.get(name, 0))
    values = spread.astype(np.float32) * q
    return values if minimums is None else values + np.repeat(minimums.astype(np.float32), 32, axis=-1)


@pytest.mark.filterwarnings("ignore:(invalid|overflow).*:RuntimeWarning")
@pytest.mark.parametrize("name", TYPES)
def test_gguf_blocks_decode_as_by_the_gguf_package(name):
    gguf = pytest.importorskip("gguf", reason="gguf is not installed")
    data = np.random.default_rng(7).integers(0, 256, (200, 3 * SIZES[name]), dtype=np.uint8)
    if name == "mxfp4":
        data[data == 255] = 254  # scale 255 is NaN in e8m0; ggml reads it as 2**128
    if name == "nvfp4":
        data[data % 128 == 127] = 126  # ggml reads 0x7F as 0
    expected = gguf.quants.dequantize(data, getattr(gguf.GGMLQuantizationType, name.upper()))
    assert_same_bits(decoded(name, data) + np.float32(0), expected + np.float32(0))


@pytest.mark.parametrize("name", ["q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "mxfp4"])
def test_gguf_blocks_of_the_gguf_package_pack_to_its_bytes(name):
    gguf = pytest.importorskip("gguf", reason="gguf is not installed")
    x = np.random.default_rng(8).standard_normal((50, 96)).astype(np.float32)
    data = gguf.quants.quantize(x, getattr(gguf.GGMLQuantizationType, name.upper()))
    codes, scales, minimums = unpack_gguf(data, name)
    assert_same_bits(pack_gguf(codes, scales, name, minimums=minimums), data)
    assert np.abs(decoded(name, data) - x).max() < 1


# Scales of matrix units


def test_swizzled_scales_are_where_the_formula_says():
    for rows, columns in ((128, 4), (1, 1), (130, 5), (256, 12), (100, 9)):
        scales = some_codes((rows, columns), 16, rows) | np.uint16(1)
        data = swizzle_scales(scales)
        across, down = -(-columns // 4), -(-rows // 128)
        assert data.shape == (512 * across * down,)
        used = set()
        for r in range(rows):
            for c in range(columns):
                tile = r // 128 * across + c // 4
                offset = 512 * tile + r % 128 % 32 * 16 + r % 128 // 32 * 4 + c % 4
                used.add(offset)
                assert data[offset] == scales[r, c]
        assert np.count_nonzero(data) == len(used) == rows * columns
        assert_same_bits(unswizzle_scales(data, rows, columns), scales)
        assert_same_bits(unswizzle_scales(data.reshape(128 * down, 4 * across), rows, columns), scales)


def test_swizzled_scales_are_where_nvidia_says():
    """The documentation of nvmath-python's get_block_scale_offset: a of 128 × 128, NVFP4: (5, 2) → 82, (5, 5) → 593."""
    scales = np.zeros((128, 8), np.uint16)
    scales[5, 2], scales[5, 5] = 1, 2
    data = swizzle_scales(scales)
    assert (data[82], data[593]) == (1, 2)


def test_scales_are_swizzled_matrix_by_matrix():
    scales = some_codes((2, 3, 130, 6), 8)
    data = swizzle_scales(scales)
    assert data.shape == (2, 3, 512 * 4)
    for i in range(2):
        for j in range(3):
            assert_same_bits(data[i, j], swizzle_scales(scales[i, j]))
    assert_same_bits(unswizzle_scales(data, 130, 6), scales)
    assert_same_bits(unswizzle_scales(data.reshape(2, 3, 256, 8), 130, 6), scales)
    assert swizzle_scales(np.zeros((0, 4), np.uint8)).shape == (0,)
    assert unswizzle_scales(np.zeros(0, np.uint8), 0, 4).shape == (0, 4)


def test_every_layout_is_tested():
    assert {*EXPECTED, "split_halves"} == set(LAYOUTS)
