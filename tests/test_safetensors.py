"""safetensors: what is refused and how, every dtype both ways, the safetensors package as a peer, files whole or not at all."""

import gc
import json
import os
import random
import struct
from math import prod

import ml_dtypes
import numpy as np
import pytest

from numfmt.safetensors_files import DTYPES, SafetensorsFile, dtype_name, layout, save_safetensors, write_safetensors
from numfmt.tensor_files import Spec, TensorFileError, replacing

ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def file_of(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype="U8", shape=(2,), begin=0, end=2, **others):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]} | others


@pytest.fixture
def path(tmp_path):
    return tmp_path / "m.safetensors"


def refusal(path, content):
    """The one line that reading a file of this content gives."""
    path.write_bytes(content)
    with pytest.raises(TensorFileError) as caught:
        SafetensorsFile(path).close()
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert text.isprintable()
    return text.removeprefix(f"{path}: ")


# Refusals

BAD = {
    "empty": (b"", "has 0 bytes"),
    "cut in the length": (b"\x02\0\0\0", "has 4 bytes"),
    "cut in the header": (file_of({"a": ENTRY}, length=1000), "header ends at byte 1008"),
    "header larger than the file": (file_of({}, length=99_999_999), "header ends at byte 100000007"),
    "huge header": (file_of({}, length=100_000_001), "100000000 are allowed"),
    "header of 2**64 - 1 bytes": (b"\xff" * 8 + b"{}", "100000000 are allowed"),
    "no header": (file_of(b""), "does not begin with {"),
    "a list": (file_of(b"[]"), "does not begin with {"),
    "leading blank": (file_of(b" {}"), "does not begin with {"),
    "pickle": (b"\x80\x04\x95\x0b\0\0\0\0\0\0\0}q\0.", "are allowed"),
    "no JSON": (file_of(b"{'a': 1}"), "not JSON"),
    "two values": (file_of(b"{}{}"), "not JSON"),
    "NaN": (file_of(b'{"a": NaN}'), "not JSON: NaN"),
    "deep": (file_of(b'{"a": ' + b"[" * 100_000), "not JSON"),
    "long integer": (file_of(b'{"a": ' + b"9" * 5000 + b"}"), "not JSON"),
    "name not UTF-8": (file_of(b'{"\xff\xfe": {}}'), "not UTF-8"),
    "name of half a surrogate pair": (file_of({"\ud800": entry()}, b"12"), "no Unicode"),
    "entry is no object": (file_of({"a": [1]}), "a: must be an object"),
    "entry is null": (file_of({"a": None}), "a: must be an object"),
    "no dtype": (file_of({"a": {"shape": [], "data_offsets": [0, 0]}}), "a: must be an object of dtype, shape"),
    "unknown dtype": (file_of({"a": entry("F24")}, b"12"), 'a: dtype "F24" is unknown; known are BOOL'),
    "dtype is no string": (file_of({"a": entry(["U8"])}, b"12"), "a: dtype"),
    "negative shape": (file_of({"a": entry(shape=(-1, -2))}, b"12"), "a: shape [-1, -2] must be"),
    "fractional shape": (file_of({"a": entry(shape=(2.0,))}, b"12"), "a: shape [2.0] must be"),
    "boolean shape": (file_of({"a": entry(shape=(True, 2))}, b"12"), "a: shape [true, 2] must be"),
    "shape is no list": (file_of({"a": entry() | {"shape": 2}}, b"12"), "a: shape 2 must be"),
    "too many dimensions": (file_of({"a": entry(shape=[1] * 65, end=1)}, b"1"), "a: has 65 dimensions"),
    "overflowing shape": (file_of({"a": entry(shape=(2**62, 4, 0), end=0)}), "too large"),
    "shape of 4000 digits": (file_of({"a": entry(shape=(int("9" * 4000),), end=0)}), "too large"),
    "offsets of 4000 digits": (file_of({"a": entry(end=int("9" * 4000))}), "too large"),
    "size and shape differ": (file_of({"a": entry("F32")}, b"12"), "a: F32 of shape [2] takes 8 bytes"),
    "half a byte": (file_of({"a": entry("F4", [3])}, b"12"), "a: 3 elements of F4 are 12 bits"),
    "6-bit half byte": (file_of({"a": entry("F6_E2M3", [3])}, b"123"), "a: 3 elements of F6_E2M3 are 18 bits"),
    "three offsets": (file_of({"a": entry() | {"data_offsets": [0, 2, 2]}}, b"12"), "a: data_offsets"),
    "offsets reversed": (file_of({"a": entry(begin=2, end=0)}, b"12"), "a: data_offsets [2, 0] must be"),
    "negative offset": (file_of({"a": entry(begin=-2, end=0)}, b"12"), "a: data_offsets [-2, 0] must be"),
    "offset is null": (file_of({"a": entry(begin=None)}, b"12"), "a: data_offsets"),
    "truncated data": (file_of({"a": ENTRY}, b"1234567"), "a: ends at byte"),
    "tensor beyond the file": (file_of({"a": entry(), "b": entry(begin=2, end=4)}, b"12"), "b: ends at byte"),
    "overlap": (file_of({"a": entry(), "b": entry(begin=1, end=3)}, b"123"), "b: overlaps a;"),
    "same bytes": (file_of({"a": entry(), "b": entry()}, b"12"), "b: overlaps a;"),
    "empty tensor inside another": (file_of({"a": entry(), "b": entry(shape=[0], begin=1, end=1)}, b"12"), "b: overlaps a;"),
    "hole": (file_of({"a": entry(), "b": entry(begin=3, end=5)}, b"12345"), "b: follows 1 bytes of no tensor;"),
    "hole at the start": (file_of({"a": entry(begin=1, end=3)}, b"123"), "a: follows 1 bytes"),
    "bytes after the end": (file_of({"a": entry()}, b"123"), "1 bytes after the last tensor"),
    "bytes and no tensor": (file_of({}, b"123"), "3 bytes after the last tensor"),
    "duplicate name": (file_of(b'{"a":%b,"a":%b}' % ((json.dumps(entry()).encode(),) * 2), b"12"), "a: is twice"),
    "duplicate field": (file_of(b'{"a":{"dtype":"U8","dtype":"U8","shape":[2],"data_offsets":[0,2]}}', b"12"), "dtype: is twice"),
    "metadata is a list": (file_of({"__metadata__": []}), "__metadata__: must be an object of strings"),
    "metadata of numbers": (file_of({"__metadata__": {"a": 1}}), "__metadata__: must be an object of strings"),
    "metadata is a tensor": (file_of({"__metadata__": entry()}, b"12"), "__metadata__: must be"),
    "name with a newline": (file_of({"a\nb\x1b[31m": entry("F24")}, b"12"), "dtype"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "says"), BAD.values(), ids=BAD)
def test_a_bad_file_is_refused_in_one_line_that_names_file_and_tensor(path, content, says):
    assert says in refusal(path, content)


def test_a_directory_or_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        SafetensorsFile(tmp_path / "nowhere")
    with pytest.raises(OSError, match="irectory"):
        SafetensorsFile(tmp_path)


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    keep = os.open(tmp_path / "pipe", os.O_RDWR)  # opening the reading end would wait for a writer
    try:
        with pytest.raises(TensorFileError, match="no regular file"):
            SafetensorsFile(tmp_path / "pipe")
    finally:
        os.close(keep)


def test_an_unknown_name_and_a_wrong_bool_are_errors_of_the_tensor(path):
    path.write_bytes(file_of({"a": entry("BOOL")}, b"\1\2"))
    with SafetensorsFile(path) as file:
        with pytest.raises(TensorFileError, match="a: byte 2 is no BOOL"):
            file.tensor("a")
        with pytest.raises(TensorFileError, match="b: there is no tensor"):
            file.tensor("b")


def test_a_file_that_shrinks_is_an_error_and_no_signal(path):
    save_safetensors(path, {"a": np.zeros(1 << 16, np.uint8)})
    with SafetensorsFile(path) as file:
        os.truncate(path, 4096)
        with pytest.raises(TensorFileError, match="a: the file has become shorter"):
            file.tensor("a")


# What is allowed


def test_what_the_format_allows_is_read(path):
    header = {
        "": entry(shape=[], end=1), "b": entry("I16", [0, 5], 1, 1), "c": entry("F32", [], 1, 5, note="kept out"),
        "__metadata__": {"é": "…"}, "ü": entry("U8", [1] * 64, 5, 6),
    }  # fmt: skip
    path.write_bytes(file_of(json.dumps(header).encode() + b"  \n", b"\x07" + struct.pack("<f", 1.5) + b"\x09"))
    with SafetensorsFile(path) as file:
        assert list(file.infos) == ["", "b", "c", "ü"]
        assert file.metadata == {"é": "…"}
        assert (file.tensor("").shape, file.tensor("").item()) == ((), 7)
        assert (file.tensor("b").shape, file.tensor("b").dtype) == ((0, 5), np.int16)
        assert file.tensor("c").item() == 1.5  # not aligned in the file
        assert file.tensor("c").flags.aligned
        assert file.tensor("ü").ndim == 64
    path.write_bytes(file_of({}))
    with SafetensorsFile(path) as file:
        assert (file.infos, file.metadata) == ({}, {})


def example(name, rng):
    """An array of a dtype with every kind of bit, or packed bytes."""
    dtype = DTYPES[name]
    data = rng.integers(0, 2 if name == "BOOL" else 256, 6 * 4 * dtype.bits // 8, np.uint8)
    return data if dtype.numpy is None else data.view(dtype.numpy).reshape(6, 4)


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_comes_back_bit_for_bit(path, name):
    x = example(name, np.random.default_rng(0))
    with write_safetensors(path, [Spec("x", name, (6, 4))], {"a": "b"}) as writer:
        writer.write("x", x[:1])
        writer.write("x", x[1:])
    with SafetensorsFile(path) as file:
        y = file.tensor("x")
        assert (y.dtype, y.shape, file.infos["x"].shape, file.metadata) == (x.dtype, x.shape, (6, 4), {"a": "b"})
        assert y.tobytes() == x.tobytes()
        assert not y.flags.writeable
        if DTYPES[name].numpy is not None:
            assert file.rows("x", 2, 5).tobytes() == x[2:5].tobytes()
            assert dtype_name(x.dtype) == name


def test_arrays_of_any_order_are_saved(path):
    x = np.arange(6, dtype=">f4").reshape(2, 3)
    save_safetensors(path, {"x": x, "y": x.T, "z": np.float64(2), "w": ml_dtypes.bfloat16(3)})
    with SafetensorsFile(path) as file:
        assert file.tensor("x").tolist() == x.tolist()
        assert file.tensor("y").tolist() == x.T.tolist()
        assert (file.tensor("z").item(), file.tensor("w").item()) == (2, 3)


@pytest.mark.parametrize("dtype", ["longdouble", "U4", "M8[s]", "O", ml_dtypes.int4, ml_dtypes.float8_e3m4])
def test_dtypes_without_a_place_are_refused(path, dtype):
    with pytest.raises(TypeError, match="no place in safetensors"):
        save_safetensors(path, {"x": np.zeros(2, dtype)})
    assert not path.exists()


def test_elements_are_aligned_whatever_the_order_of_the_tensors(path):
    specs = [Spec(n, d, (3,)) for n, d in [("a", "U8"), ("b", "F64"), ("c", "BF16"), ("d", "F32"), ("e", "BOOL")]]
    _, infos = layout(specs)
    assert [info.start % (DTYPES[info.dtype].bits // 8) for info in infos] == [0] * 5
    assert [info.name for info in infos] == list("bdcae")


def test_memory_is_given_back_with_the_array(path):
    save_safetensors(path, {"a": np.ones(1 << 24, np.uint8), "b": np.ones(1 << 24, np.uint8)})

    def mapped():
        with open("/proc/self/maps") as maps:
            return sum(str(path) in line for line in maps)

    with SafetensorsFile(path) as file:
        assert mapped() == 0
        a = file.tensor("a")
        a.sum()
        assert mapped() == 1
        del a
        gc.collect()
        assert mapped() == 0


# Whole or not at all


def names(path):
    return sorted(p.name for p in path.parent.iterdir())


@pytest.mark.parametrize("before", [None, b"older"])
def test_a_failure_while_writing_leaves_what_was_there(path, before):
    if before is not None:
        path.write_bytes(before)
    kept = names(path)

    def fail_halfway():
        with write_safetensors(path, [Spec("x", "U8", (4,))]) as writer:
            writer.write("x", b"12")
            assert len(names(path)) == len(kept) + 1
            raise RuntimeError("by design")

    with pytest.raises(RuntimeError, match="by design"):
        fail_halfway()
    assert names(path) == kept
    assert before is None or path.read_bytes() == before


def test_an_incomplete_tensor_is_no_file(path):
    with pytest.raises(ValueError, match=r"x: 2 bytes are written, 4 were announced"):
        with write_safetensors(path, [Spec("x", "U8", (4,))]) as writer:
            writer.write("x", b"12")
    with pytest.raises(ValueError, match=r"x: 5 bytes are written, 4 were announced"):
        with write_safetensors(path, [Spec("x", "U8", (4,))]) as writer:
            writer.write("x", b"12345")
    assert names(path) == []


@pytest.mark.parametrize(
    ("specs", "metadata", "says"),
    [
        ([Spec("x", "F24", (4,))], None, "F24"),
        ([Spec("x", "F4", (3,))], None, "12 bits"),
        ([Spec("x", "U8", (-1,))], None, "no shape"),
        ([Spec("x", "U8", (1,))] * 2, None, "taken"),
        ([Spec("__metadata__", "U8", (1,))], None, "taken"),
        ([Spec("\ud800", "U8", (1,))], None, "surrogates"),
        ([], {"a": 1}, "strings"),
    ],
)
def test_what_the_format_cannot_hold_is_refused_before_anything_is_written(path, specs, metadata, says):
    with pytest.raises(ValueError, match=says), write_safetensors(path, specs, metadata):
        raise AssertionError("nothing is to be written")
    assert names(path) == []


def test_replacing_keeps_permissions_and_follows_links(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"old")
    real.chmod(0o640)
    link.symlink_to(real)
    with replacing(link) as stream:
        stream.write(b"new")
    assert (real.read_bytes(), real.stat().st_mode & 0o777, link.is_symlink()) == (b"new", 0o640, True)
    with replacing(tmp_path / "fresh") as stream:
        stream.write(b"")
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "fresh").stat().st_mode & 0o777 == 0o666 & ~mask


def test_devices_directories_and_missing_folders_are_not_replaced(tmp_path):
    for target in (os.devnull, tmp_path, tmp_path / "none" / "x"):
        with pytest.raises(OSError, match="cannot write"), replacing(target):
            raise AssertionError("nothing is to be written")
    assert list(tmp_path.iterdir()) == []


# Mutations


def tiles(file):
    """Whether the tensors fill the data, one after the other, each as large as its shape says."""
    end = min((info.start for info in file.infos.values()), default=file.nbytes)
    for info in file.infos.values():
        if info.start != end or info.nbytes * 8 != prod(info.shape) * DTYPES[info.dtype].bits:
            return False
        end += info.nbytes
    return end == file.nbytes


def mutated(content, rng):
    """A file with some bytes changed, added or taken away, mostly in its header."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
        place = rng.randrange(min(len(data), rng.choice([8, 250, 250, 250, len(data)]))) if data else 0
        match rng.randrange(6):
            case 0:
                data[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                data[place : place + 1] = rng.choice(b'0123456789-.,:[]{}" eE').to_bytes()
            case 2:
                data[place:place] = rng.choice([b"9", b"0", b"-", b",", b'"', b"[", b"{", b"\xff", b"null", b"1e3"])
            case 3:
                del data[place : place + rng.randrange(1, 9)]
            case 4:
                data[0] = (data[0] + rng.choice([-1, 1, 8, -8])) % 256 if data else 0
            case _:
                other = rng.randrange(len(data)) if data else 0
                data[place : place + 4] = data[other : other + 4]
    return bytes(data)


def test_mutated_files_are_refused_or_read_as_the_safetensors_package_reads_them(path):
    """No mutation gives another exception, tensors that overlap, or anything that the peer refuses or reads otherwise."""
    try:
        from safetensors import deserialize
    except ImportError:
        deserialize = None
    x = {
        "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.arange(5, dtype=np.uint8),
        "c": np.float16([]),
    }
    save_safetensors(path, x, {"format": "pt"})
    whole = path.read_bytes()
    rng = random.Random(3)
    read = 0
    for _ in range(3000):
        content = mutated(whole, rng)
        path.write_bytes(content)
        try:
            file = SafetensorsFile(path)
        except TensorFileError:
            continue
        with file:
            read += 1
            assert tiles(file), content
            if deserialize is not None:
                peer = {name: (v["dtype"], tuple(v["shape"]), bytes(v["data"])) for name, v in deserialize(content)}
                ours = {n: (i.dtype, i.shape, file.raw(n).tobytes()) for n, i in file.infos.items()}
                assert ours == peer, content
    assert read > 60  # bytes of data, of names and of metadata may change


# The peer


def test_the_safetensors_package_reads_what_we_write(path):
    peer = pytest.importorskip("safetensors", reason="the safetensors package is a peer; pip install safetensors")
    rng = np.random.default_rng(1)
    arrays = {name: example(name, rng) for name in DTYPES}
    with write_safetensors(path, [Spec(n, n, (6, 4)) for n in DTYPES], {"format": "pt"}) as writer:
        for name, x in arrays.items():
            writer.write(name, x)
    found = dict(peer.deserialize(path.read_bytes()))
    assert {n: (v["dtype"], v["shape"], bytes(v["data"])) for n, v in found.items()} == {
        n: (n, [6, 4], x.tobytes()) for n, x in arrays.items()
    }
    with peer.safe_open(path, "np") as file:
        assert file.metadata() == {"format": "pt"}
        assert file.get_tensor("F64").tobytes() == arrays["F64"].tobytes()


def test_we_read_what_the_safetensors_package_writes(path):
    peer = pytest.importorskip("safetensors.numpy", reason="the safetensors package is a peer; pip install safetensors")
    rng = np.random.default_rng(2)
    taken = [n for n in DTYPES if DTYPES[n].numpy is not None and n not in ("F8_E4M3FNUZ", "F8_E5M2FNUZ")]
    arrays = {name: example(name, rng) for name in taken}
    peer.save_file(arrays, path, {"a": "b"})
    with SafetensorsFile(path) as file:
        assert file.metadata == {"a": "b"}
        assert file.infos.keys() == arrays.keys()
        for name, x in arrays.items():
            assert (file.tensor(name).dtype, file.tensor(name).tobytes()) == (x.dtype, x.tobytes())
