"""reveal: units from their answers alone; what it says where nothing shows a parameter, or nothing fits."""

import re
from dataclasses import fields, replace

import numpy as np
import pytest

import numfmt as nf
from numfmt import hardware, hardware_dots
from numfmt.reveal_operands import Scene, directed, exponents
from numfmt.reveal_search import question, same
from numfmt.units import DotUnit, Kind
from tests.support import mostly_nightly

KINDS = (Kind.CHAIN, Kind.TREE, Kind.ALIGNED)
NAMES = [name for name in nf.list_units() if nf.get_unit(name).kind in KINDS]
NOT_PROBED = {"inputs", "evidence", "scales", "scale_blocks", "input_rounding"}
EVERY_DAY = {"a100.bf16", "mi250.bf16", "x86.vdpbf16ps", "fp16"}
COMPLETE = 7  # seed of operands that reveal itself does not draw


def as_function(unit, fmt):
    """A unit as an unknown function; scales are ones, and whole blocks of them are made by zeros at the end."""

    def fn(a, b, c):
        scales = None
        if unit.scales:
            size = unit.scale_blocks[0]
            a, b = (np.pad(x, ((0, 0), (0, -x.shape[1] % size))) for x in (a, b))
            one = nf.encode(np.ones((len(a), a.shape[1] // size)), unit.scales[0])
            scales = (one, one)
        return nf.dot(a, b, c, unit=unit, formats=fmt, scales=scales)

    return fn


def start_format(unit):
    return unit.promoted if unit.promote_every else unit.c_format


def fresh(unit, seed=COMPLETE, rows=16):
    """Operands about a unit's limits, of which reveal has seen none."""
    low, top = exponents(unit.accumulator)
    scene = Scene(unit.inputs[0], start_format(unit), unit.accumulator.precision, low, top, max(unit.fraction or 0, 24))
    step = unit.length or 7
    return directed(scene, sorted({1, 2, step, step + 1, 2 * step + 2}), rows, seed)


def differences(fn, unit, rows):
    found = 0
    for r in rows:
        a, b = (np.asarray(nf.encode(x, unit.inputs[0])) for x in (r.a, r.b))
        c = r.c if start_format(unit).precision > 24 else r.c.astype(np.float32)
        dtype = np.float64 if unit.inputs[0].precision > 24 else np.float32
        wanted = fn(r.a.astype(dtype), r.b.astype(dtype), c)
        found += np.count_nonzero(~same(nf.dot(a, b, c, unit=unit, formats=unit.inputs[0]), np.asarray(wanted)))
    return found


def assert_revealed(unit, **options):
    """The same function, and the same parameters but for those that make no difference."""
    fmt = str(unit.inputs[0])
    fn = as_function(unit, fmt)
    found = nf.reveal(fn, inputs=fmt, addend=str(start_format(unit)), **options)
    assert found.unit is not None, str(found)
    assert found.mismatches == 0
    rows = fresh(replace(unit, inputs=unit.inputs[:1]))
    assert differences(fn, found.unit, rows) == 0, str(found)
    for each in fields(DotUnit):
        value, got = getattr(unit, each.name), getattr(found.unit, each.name)
        if each.name in NOT_PROBED or str(value) == str(got):
            continue
        assert differences(fn, with_parameter(found.unit, unit, each.name), rows) == 0, (
            f"{each.name}: {value}, found {got}\n{found}"
        )
    return found


def with_parameter(found, unit, name):
    """The found unit with a parameter of the true one, and those that are read with it."""
    together = [("kind", "product", "product_rounding", "length", "order", "addend", "late_rounding", "late_fraction", "late_reach",
                 "fraction", "alignment", "zero_exponent", "group"), ("late_rounding", "rounding"), ("zero_exponent", "fraction")]  # fmt: skip
    names = {name}.union(*(group for group in together[:1] if name in group and unit.kind is not found.kind)) | {name}
    return replace(found, **{n: getattr(unit, n) for n in names})


@pytest.mark.parametrize("name", mostly_nightly(NAMES, EVERY_DAY))
def test_named_units_are_revealed_from_their_answers(name):
    unit = nf.get_unit(name)
    found = assert_revealed(unit)
    assert found.name is not None
    assert name in found.names
    if unit.scales:
        assert any("scales: not probed" in sentence for sentence in found.evidence)


BASE = nf.get_unit("ada.e4m3")
PLANTED = {
    "a bit more": replace(BASE, fraction=14),
    "a bit less": replace(BASE, fraction=12),
    "twice as long": replace(BASE, length=32),
    "an odd length": replace(BASE, length=6),
    "to nearest": replace(BASE, rounding="ties_to_even"),
    "to odd": replace(BASE, rounding="to_odd"),
    "floored terms": replace(BASE, alignment="toward_negative"),
    "other zeros": replace(BASE, zero="ieee"),
    "late": replace(BASE, addend="late", late_rounding="ties_to_even"),
    "promoted": replace(BASE, promote_every=96),
    "another zero exponent": replace(BASE, zero_exponent=-3),
    "products rounded": DotUnit(inputs="float16", product="float16", product_rounding="toward_zero"),
    "a chain truncated": DotUnit(inputs="bfloat16", rounding="toward_zero", flush_results=True),
    "a tree of 8": replace(nf.get_unit("mi250.bf16"), length=8, flush_inputs=None),
    "a step exactly": DotUnit(inputs="float16", kind="exact", length=8),
}  # fmt: skip


@pytest.mark.parametrize("what", mostly_nightly(list(PLANTED), {"a bit more"}))
def test_planted_deviations_are_revealed(what):
    found = assert_revealed(PLANTED[what])
    changed = {f.name for f in fields(DotUnit)} & {"fraction", "length", "promote_every"}
    for name in changed:
        if getattr(PLANTED[what], name) != getattr(BASE, name) and PLANTED[what].kind is Kind.ALIGNED:
            assert getattr(found.unit, name) == getattr(PLANTED[what], name)


# Functions that are no unit of ours


def test_noise_is_no_unit():
    rng = np.random.default_rng(0)

    def noisy(a, b, c):
        d = nf.dot(a, b, c, unit="a100.bf16", formats="bf16")
        return np.nextafter(d, np.where(rng.random(d.shape) < 0.2, np.inf, d), dtype=np.float32)

    found = nf.reveal(noisy, inputs="bf16", length=4, rows=2)
    assert found.unit is None
    assert found.name is None
    assert found.mismatches > 0
    assert str(found).startswith("no unit fits: the nearest differs in ")
    assert re.search("nothing that was tried gives every answer; the nearest unit fails first at", str(found))


def dots(a, b):
    return np.array([np.dot(x, y) for x, y in zip(a, b, strict=True)])


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_numpy_s_dot_is_verified_or_none():
    found = nf.reveal(dots, inputs="float32", addend=None, length=64, rows=4)
    assert any(sentence.startswith("order: ") for sentence in found.evidence), str(found)
    assert (found.unit is None) == (found.mismatches > 0)


@pytest.mark.nightly
def test_jax_s_dot_is_verified_or_none():
    jnp = pytest.importorskip("jax.numpy")
    found = nf.reveal(
        lambda a, b: np.asarray(jnp.sum(jnp.asarray(a) * jnp.asarray(b), axis=-1)),
        inputs="bf16",
        addend=None,
        length=16,
        rows=4,
    )
    assert (found.unit is None) == (found.mismatches > 0)
    found = nf.reveal(
        lambda a, b: np.asarray(jnp.einsum("nk,nk->n", a, b)), inputs="float32", addend=None, length=16, rows=4
    )
    assert (found.unit is None) == (found.mismatches > 0)


def test_the_processor_s_instruction_is_revealed():
    try:
        cpu = hardware.machine()
    except hardware.Unavailable as reason:
        pytest.skip(str(reason))
    instruction = next(i for i in hardware.INSTRUCTIONS if i.name == "VDPBF16PS")
    if not cpu.has(instruction):
        pytest.skip(f"this processor has no VDPBF16PS: it needs {instruction.needs}")

    def fn(a, b, c):
        a, b = (
            np.pad(x, ((0, 0), (0, x.shape[1] % 2)), constant_values=zero)
            for x, zero in ((a, np.float32(-0.0)), (b, 0))
        )
        a, b = (x.view(np.uint32) >> 16 for x in (a, b))
        codes = hardware_dots.dot(cpu, instruction, a.astype(np.uint16), b.astype(np.uint16), c.view(np.uint32))
        return codes.view(np.float32)

    found = nf.reveal(fn, inputs="bf16")
    assert found.name == "x86.vdpbf16ps", str(found)
    assert found.unit.order.value == "odd_first"
    assert found.unit.flush_inputs == "signed"
    assert found.unit.flush_results == "tiny"


# What is said


def test_findings_are_sentences():
    found = nf.reveal(as_function(nf.get_unit("v100.fp16"), "fp16"), inputs="fp16", length=12)
    said = str(found)
    assert said.startswith("v100.fp16: all of ")
    assert "order: masks 2^30 and -2^30 among 8 products: ((0+1+2+3)+4+5+6+7)" in said
    assert "fraction: beside 2^14 and -2^14, a product 2^-9 is kept and 2^-10 is lost" in said
    assert any(sentence.startswith("rounding=toward_zero: ") for sentence in found.evidence)
    assert "zero_exponent" in found.undetermined  # products of binary16 do not come near 2^-131
    assert found.unit.zero_exponent is None
    assert found.unit.evidence.source.startswith("numfmt.reveal: ")


def test_what_cannot_be_probed_is_refused():
    with pytest.raises(ValueError, match="int8 is given; reveal takes functions of signed float formats"):
        nf.reveal(dots, inputs="int8")
    with pytest.raises(ValueError, match="length=0 is given"):
        nf.reveal(dots, inputs="fp16", addend=None, length=0)
    with pytest.raises(ValueError, match="it gives one float a row"):
        nf.reveal(lambda a, b: a * b, inputs="fp16", addend=None)


def test_order_is_read_from_masks():
    from numfmt.reveal_probes import Subject, tree_text

    fmt = nf.get_format("bf16")
    for unit, text in (
        ("fp32", "(((0+1)+2)+3)"), ("pairwise.fp32", "((0+1)+(2+3))"), ("a100.bf16", "(0+1+2+3)"), ("x86.vdpbf16ps", "((0+1)+(2+3))"),
    ):  # fmt: skip
        subject = Subject(as_function(nf.get_unit(unit), "bf16"), fmt, nf.get_format("float32"), 8)
        if unit != "x86.vdpbf16ps":
            assert tree_text(subject, 4, (64, 0)) == text
    assert question(subject, directed(Scene(fmt, None, 24, -126, 127, 24), [2], 2, 0)[0]).answers.shape == (26,)
