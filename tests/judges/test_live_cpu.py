"""The processor at hand: its conversions and fused multiply-add against the platforms that describe them, its dot products
against the units.

`numfmt/hardware.c` is compiled here; without x86-64, gcc or the instruction a test is skipped and says so. What the
instructions do is also stated below in NumPy, so that platforms and units are judged on other machines too.
"""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import numfmt as nf
from numfmt import arithmetic, hardware, hardware_dots
from numfmt.cli import main
from tests.support import assert_same_bits

BF16, HALF, WIDEN, FMA32, FMA64, *DOTS = hardware.INSTRUCTIONS
DOT_BF16, DOT_INT8, DOT_INT8_SATURATING = DOTS
MODES = [(i, mode) for i in hardware.INSTRUCTIONS for mode in i.roundings]
COUNT, CHUNK = 10**6, 1 << 22


def named(value):
    return value.name if isinstance(value, hardware.Instruction) else value.value


@pytest.fixture(scope="module")
def cpu():
    try:
        return hardware.machine()
    except hardware.Unavailable as reason:
        pytest.skip(str(reason))


def need(cpu, instruction):
    if not cpu.has(instruction):
        pytest.skip(f"this processor has no {instruction.name}: it needs {instruction.needs}")


# The processor against the platforms


@pytest.mark.parametrize(("instruction", "rounding"), MODES, ids=named)
def test_instruction_is_its_platform(cpu, instruction, rounding):
    """Bits of 10^6 results, NaNs included, and the exceptions of each where the instruction reports them."""
    need(cpu, instruction)
    found = hardware.compare(instruction, rounding, hardware.operands(instruction, COUNT))
    assert found.differences == 0, f"{found.differences} of {found.vectors} differ; {found.first}"
    assert found.vectors >= (COUNT if instruction is not WIDEN else 2**16)


@pytest.mark.parametrize("instruction", [BF16, HALF], ids=named)
def test_encode_takes_the_platform_as_convert_does(cpu, instruction):
    need(cpu, instruction)
    (codes,) = hardware.operands(instruction, COUNT // 10)
    got, _ = cpu.run(instruction, [codes])
    assert_same_bits(nf.encode(codes.view(np.float32), instruction.to, platform=instruction.platform), got)


@pytest.mark.parametrize("control", [hardware.DENORMALS_ARE_ZERO, hardware.FLUSH_TO_ZERO, 0x6000], ids=hex)
def test_vcvtneps2bf16_does_not_read_mxcsr(cpu, control):
    need(cpu, BF16)
    operands = hardware.operands(BF16, COUNT // 10)
    flagged, flags = cpu.run(BF16, operands, control=control, return_flags=True)
    assert_same_bits(flagged, cpu.run(BF16, operands)[0])
    assert not flags.any()


@pytest.mark.parametrize("rounding", HALF.roundings, ids=named)
def test_vcvtps2ph_gives_subnormals_although_mxcsr_flushes(cpu, rounding):
    need(cpu, HALF)
    operands = hardware.operands(HALF, COUNT // 10)
    plain, raised = cpu.run(HALF, operands, rounding, return_flags=True)
    codes, flags = cpu.run(HALF, operands, rounding, control=hardware.FLUSH_TO_ZERO, return_flags=True)
    assert_same_bits(codes, plain)
    assert_same_bits(flags, raised)


def test_vcvtph2ps_reads_subnormals_although_mxcsr_takes_them_for_zeros(cpu):
    need(cpu, WIDEN)
    operands = hardware.operands(WIDEN, 2**16)
    got, _ = cpu.run(WIDEN, operands, control=hardware.DENORMALS_ARE_ZERO)
    assert_same_bits(got, cpu.run(WIDEN, operands)[0])


@pytest.mark.parametrize("instruction", hardware.INSTRUCTIONS, ids=named)
def test_results_one_by_one_are_those_in_vectors(cpu, instruction):
    """With flags each element is computed alone; without, eight at a time."""
    need(cpu, instruction)
    operands = hardware.operands(instruction, 10_003)
    for rounding in instruction.roundings:
        alone, _ = cpu.run(instruction, operands, rounding, return_flags=True)
        together, none = cpu.run(instruction, operands, rounding)
        assert none is None
        assert_same_bits(together, alone)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("instruction", "rounding"), [case for case in MODES if case[0] in (BF16, HALF)], ids=named
)  # fmt: skip
def test_instruction_is_its_platform_for_all_patterns(cpu, instruction, rounding):
    need(cpu, instruction)

    def differences(start):
        codes = np.arange(start, start + CHUNK, dtype=np.uint32)
        got, _ = cpu.run(instruction, [codes], rounding)
        ours = arithmetic.convert(
            codes, "float32", instruction.to, rounding=rounding, platform=instruction.platform, threads=1
        )
        return [hex(start + i) for i in np.flatnonzero(got != ours)[:3]]

    with ThreadPoolExecutor(2) as pool:
        found = [codes for codes in pool.map(differences, range(0, 2**32, CHUNK)) if codes]
    assert found == []


# Dot products


@pytest.mark.parametrize("instruction", DOTS, ids=named)
@pytest.mark.parametrize(
    "control", [hardware.DENORMALS_ARE_ZERO | hardware.FLUSH_TO_ZERO, 0x2000, 0x4000, 0x6000], ids=hex
)
def test_dot_neither_reads_nor_writes_mxcsr(cpu, instruction, control):
    need(cpu, instruction)
    operands = hardware.operands(instruction, COUNT // 10)
    flagged, flags = cpu.run(instruction, operands, control=control, return_flags=True)
    assert_same_bits(flagged, cpu.run(instruction, operands)[0])
    assert not flags.any()


def longer(instruction, k, count):
    """Codes of `count` rows of K elements, of words as `operands` has them, and addends."""
    size = 4 // hardware_dots.element_dtype(instruction).itemsize
    a, b, c = hardware.operands(instruction, count * k // size)
    a, b = (np.ascontiguousarray(x).view(hardware_dots.element_dtype(instruction)).reshape(count, k) for x in (a, b))
    return a, b, c[:count]


@pytest.mark.parametrize(
    ("instruction", "k"), [(i, k) for i in DOTS[1:] for k in (4, 8, 36)] + [(DOT_BF16, 4)] + [(DOT_BF16, 8), (DOT_BF16, 36)],
    ids=lambda x: named(x) if isinstance(x, hardware.Instruction) else x,
)  # fmt: skip
def test_instructions_in_a_row_are_the_unit_with_a_longer_k(cpu, instruction, k):
    need(cpu, instruction)
    a, b, c = longer(instruction, k, COUNT // 20)
    if instruction is DOT_BF16 and k == 36:  # fewer NaNs, or hardly anything else is left
        keep = (a & 0x7F80 != 0x7F80) & (b & 0x7F80 != 0x7F80) | (np.arange(a.size).reshape(a.shape) % 97 == 0)
        a, b = a * keep, b * keep
    assert_same_bits(hardware_dots.dot(cpu, instruction, a, b, c), hardware_dots.unit_codes(instruction, a, b, c))


def test_dot_flushes_as_if_exponents_had_no_end():
    """-(2^-126 - 2^-150) has 24 digits: not normal, though the nearest multiple of 2^-149 is -2^-126."""
    operands = [np.array([x], np.uint32) for x in (0x80801920, 0xB3808080, 0x80800000)]
    ours, _ = hardware.expected(DOT_BF16, operands, DOT_BF16.roundings[0])
    assert_same_bits(ours, np.array([0x80000000], np.uint32))


# Platforms and units against what the manual says


def vcvtneps2bf16(x):
    """To nearest even; a subnormal is a zero of its sign; a NaN keeps its sign and high bits and is quieted."""
    magnitude = x & 0x7FFFFFFF
    rounded = (x + 0x7FFF + (x >> 16 & 1)) >> 16
    rounded = np.where(magnitude < 0x00800000, x >> 16 & 0x8000, rounded)
    return np.where(magnitude > 0x7F800000, x >> 16 | 0x0040, rounded).astype(np.uint16)


def vcvtps2ph(x, rounding):
    """Rounded once, subnormals included; a NaN keeps its sign and high bits and is quieted."""
    sign, magnitude = x >> 16 & 0x8000, x & 0x7FFFFFFF
    field = np.maximum(magnitude >> 23, 1).astype(np.int64)
    significand = np.where(magnitude >> 23 > 0, 0x800000, 0) + (magnitude & 0x7FFFFF).astype(np.int64)
    drop = np.minimum(13 + np.maximum(113 - field, 0), 25)
    kept, rest, half = significand >> drop, significand & (1 << drop) - 1, 1 << drop - 1
    away = {
        "ties_to_even": (rest > half) | (rest == half) & (kept & 1 == 1),
        "toward_negative": (rest > 0) & (sign != 0),
        "toward_positive": (rest > 0) & (sign == 0),
        "toward_zero": rest < 0,
    }[rounding]
    outward = {"ties_to_even": sign >= 0, "toward_zero": sign < 0}.get(
        rounding, (sign != 0) == (rounding == "toward_negative")
    )
    code = (np.maximum(field - 113, 0) << 10) + kept + away
    code = np.where(code >= 0x7C00, np.where(outward, 0x7C00, 0x7BFF), code)
    code = np.where(magnitude == 0x7F800000, 0x7C00, code)
    code = np.where(magnitude > 0x7F800000, 0x7E00 | magnitude >> 13 & 0x1FF, code)
    return (sign | code).astype(np.uint16)


def vcvtph2ps(x):
    """Exact; a NaN keeps its sign and payload and is quieted."""
    wide = x.view(np.float16).astype(np.float32).view(np.uint32)
    nan = (x.astype(np.uint32) & 0x8000) << 16 | 0x7FC00000 | (x.astype(np.uint32) & 0x1FF) << 13
    return np.where(x & 0x7FFF > 0x7C00, nan, wide).astype(np.uint32)


def vdpbf16ps(a, b, c):
    """The odd product, then the even one; subnormal operands and sums are zeros of their sign; the even NaN, then the odd one."""
    a, b = (np.ascontiguousarray(x).view(np.uint16).reshape(-1, 2).T.astype(np.uint32) << 16 for x in (a, b))
    total = read(c)
    with np.errstate(all="ignore"):
        for i in (1, 0):
            total = fused(read(a[i]) * read(b[i]), total)
    code = np.array(total, np.float32).view(np.uint32)
    chosen = np.full_like(code, 0xFFC00000)
    for x in (c, b[1], a[1], b[0], a[0]):
        chosen = np.where(x & 0x7FFFFFFF > 0x7F800000, x | 0x00400000, chosen)
    return np.where(np.isnan(total), chosen, code)


def read(code):
    """Float32 as float64; subnormals as zeros."""
    with np.errstate(invalid="ignore"):  # signalling NaNs
        return np.where(code & 0x7F800000 == 0, code & 0x80000000, code).view(np.float32).astype(np.float64)


def fused(product, total):
    """product + total rounded once to 24 digits; float64 takes both, and their sum rounded to odd."""
    s = product + total
    back = s - product
    error = (product - (s - back)) + (total - back)
    even = s.view(np.uint64) & np.uint64(1) == 0
    toward = np.where(error > 0, np.inf, -np.inf)
    s = np.where(np.isfinite(s) & (error != 0) & even, np.nextafter(s, toward), s)
    # 2^-126 - 2^-151 lies halfway between the greatest number of 24 digits below 2^-126 and that.
    return np.where(np.abs(s) < 2.0**-126 - 2.0**-151, np.copysign(0, s), s).astype(np.float32).astype(np.float64)


def vpdpbusd(a, b, c, saturates):
    """Four products and the addend without error, then modulo 2^32 or saturated."""
    a, b = np.ascontiguousarray(a).view(np.uint8), np.ascontiguousarray(b).view(np.int8)
    total = c.view(np.int32) + (a.astype(np.int64) * b).reshape(-1, 4).sum(axis=1)
    return (np.clip(total, -(2**31), 2**31 - 1) if saturates else total).astype(np.uint32)


STATEMENTS = {
    BF16: lambda x, _: vcvtneps2bf16(x), HALF: vcvtps2ph, WIDEN: lambda x, _: vcvtph2ps(x),
    DOT_BF16: lambda a, b, c, _: vdpbf16ps(a, b, c),
    DOT_INT8: lambda a, b, c, _: vpdpbusd(a, b, c, False),
    DOT_INT8_SATURATING: lambda a, b, c, _: vpdpbusd(a, b, c, True),
}  # fmt: skip
STATED = [case for case in MODES if case[0] in STATEMENTS]


@pytest.mark.parametrize(("instruction", "rounding"), STATED, ids=named)
def test_platform_is_what_the_manual_says(instruction, rounding):
    columns = hardware.operands(instruction, COUNT // 5 if instruction in DOTS else COUNT)
    ours, _ = hardware.expected(instruction, columns, rounding)
    assert_same_bits(ours, STATEMENTS[instruction](*columns, rounding.value))


@pytest.mark.parametrize(("instruction", "rounding"), STATED, ids=named)
def test_processor_does_what_the_manual_says(cpu, instruction, rounding):
    need(cpu, instruction)
    columns = hardware.operands(instruction, COUNT)
    assert_same_bits(cpu.run(instruction, columns, rounding)[0], STATEMENTS[instruction](*columns, rounding.value))


# numfmt.hardware


def test_operands_reach_the_corners():
    codes = set(hardware.operands(HALF, COUNT)[0].tolist())
    assert {0, 1, 0x80000001, 0x33000000, 0x33000001, 0x7F800001, 0xFFFFFFFF, 0x38800000, 0x7F7FFFFF} <= codes
    assert len({code >> 23 for code in codes}) == 512
    a, b, c = hardware.operands(DOT_BF16, COUNT // 10)
    corners = {0, 0x80000000, 1, 0x7F800000, 0x7F800001, 0x7FC00001, 0xFF800001}
    assert corners <= set(c.tolist())
    for x in (a, b):
        assert {0, 0x8000, 1, 0x7F80, 0x7F81, 0x7FC1, 0xFFA5} <= set(x.view(np.uint16).tolist())
    assert hardware.operands(DOT_BF16, 10)[0].shape == (10,)
    words = hardware.operands(DOT_INT8, COUNT // 10)
    assert (vpdpbusd(*words, False) != vpdpbusd(*words, True)).mean() > 0.05
    for a, b, c in (hardware.operands(FMA32, COUNT), hardware.operands(FMA64, 10)):
        assert a.shape == b.shape == c.shape
    a, b, c = hardware.operands(FMA32, COUNT)
    zero_times_infinity = (a & 0x7FFFFFFF == 0) & (b & 0x7FFFFFFF == 0x7F800000)
    assert set((c[zero_times_infinity] & 0x7FFFFFFF).tolist()) >= {0, 0x7F800000, 0x7FC00001, 0x7F800002}


def test_run_refuses_what_an_instruction_has_not(cpu):
    with pytest.raises(ValueError, match="ties_to_even"):
        cpu.run(BF16, [np.zeros(1, np.uint32)], "toward_zero")


def test_shapes_are_kept(cpu):
    need(cpu, HALF)
    codes = np.full((3, 5), 0x3F800000, np.uint32)
    for shaped in (codes, codes[:, ::2], codes[:0]):
        got, flags = cpu.run(HALF, [shaped], return_flags=True)
        assert got.shape == flags.shape == shaped.shape
        assert (got == 0x3C00).all()


def test_compiler_has_nothing_to_warn_of(monkeypatch, cpu):
    compiler = next(filter(shutil.which, ("cc", "gcc", "clang")))
    monkeypatch.setenv("CC", f"{compiler} -Wall -Wextra -Werror")
    assert hardware.machine.__wrapped__().has(HALF) == cpu.has(HALF)


def test_another_processor_or_no_compiler_is_said(monkeypatch):
    hidden = hardware.machine.__wrapped__  # without the cache
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(hardware.Unavailable, match="no-such-compiler"):
        hidden()
    monkeypatch.setattr(hardware.platform, "machine", lambda: "riscv64")
    with pytest.raises(hardware.Unavailable, match="riscv64"):
        hidden()


# nfmt selftest --hardware


def test_command_says_what_the_processor_does(cpu, capsys):
    assert main(["selftest", "--hardware"]) == 0
    said = capsys.readouterr().out
    for instruction, rounding in MODES:
        (line,) = [
            words for words in map(str.split, said.splitlines()) if words[:2] == [instruction.name, rounding.value]
        ]
        assert line[2] == ("equal" if cpu.has(instruction) else "absent:")
    assert said.splitlines()[-1] == "PASS"


def test_command_says_it_in_json(cpu, capsys):
    assert main(["selftest", "--hardware", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1
    assert found["passed"] is True
    assert [(row["instruction"], row["rounding"]) for row in found["instructions"]] == [
        (instruction.name, rounding.value) for instruction, rounding in MODES
    ]
    assert all(row["present"] == (row["vectors"] > 0) and row["differences"] == 0 for row in found["instructions"])


def test_command_explains_a_difference_and_exits_1(cpu, capsys, monkeypatch):
    need(cpu, HALF)
    right = hardware.expected

    def wrong(instruction, columns, rounding):
        codes, flags = right(instruction, columns, rounding)
        return codes ^ (columns[0] == 0x33000000), flags

    monkeypatch.setattr(hardware, "expected", wrong)
    assert main(["selftest", "--hardware"]) == 1
    said = capsys.readouterr().out
    assert "differs from platform x86.vcvtps2ph in 1 of" in said
    assert "first: 0x33000000 gives 0x0000, x86.vcvtps2ph says 0x0001; flags 03 and 03" in said
    assert said.splitlines()[-1] == "FAIL"


def test_command_says_which_instructions_are_absent(cpu, capsys, monkeypatch):
    monkeypatch.setattr(hardware.Machine, "has", lambda self, instruction: False)
    assert main(["selftest", "--hardware"]) == 0
    said = capsys.readouterr().out
    assert said.count("absent: it needs") == len(MODES)
    assert "avx512_bf16 or avx_ne_convert" in said


def test_command_without_a_compiler_is_an_error_of_one_line(capsys, monkeypatch):
    def missing():
        raise hardware.Unavailable("no C compiler is found")

    monkeypatch.setattr(hardware, "machine", missing)
    assert main(["selftest", "--hardware"]) == 2
    assert capsys.readouterr().err == "nfmt: no C compiler is found\n"
