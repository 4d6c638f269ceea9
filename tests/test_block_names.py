"""Names of block formats: the grammar, its round trip, and errors that say what was given and what is allowed."""

import pytest

import numfmt as nf
from numfmt.named_blocks import NAMED_BLOCKS
from numfmt.named_rules import rules
from tests.test_block_arrays import normal

CUSTOM = [
    "block(e2m1, scale=e8m0, size=32, rule=ceil)", "block(e2m1, scale=e4m3, size=16)", "block(int4, scale=float16, size=128, flat=yes)",
    "block(e4m3fn, scale=float32, size=128x128)", "block(e5m2, scale=e8m0, size=tensor, rule=even)", "block(nf4, scale=float32, size=7, rule=absmax)",
    "block(q3.4, scale=bfloat16, size=2x3)", "block(e3m0, scale=e8m0, size=1, rule=floor)", "block(e2m1, scale=ue5m3, size=16)",
    "block(e2m1, scale=e8m0, size=32, rule=floor, nonfinite=propagate_elements)", "block(int8, scale=float32, size=64, rule=affine)",
    "block(fixed(bits=5, fraction=3, sign_magnitude=yes), scale=e8m0, size=16, rule=micro, micro=2:1)", "bfp(m=4, size=16)", "bfp(m=7, size=24x24)",
    "block(float(e=4, m=3, specials=fn), scale=e8m0, size=32)", "block(codebook(-1, 0, 1), scale=float32, size=32)",
    "block(e2m1, scale=block(int8, scale=float32, size=256, flat=yes), size=64, flat=yes)", "block(e2m1, scale=e8m0, size=32, rule=bump)",
    "block(e2m1, scale=e8m0, size=axis, rule=floor)", "block(int4, scale=float32, size=axis)", "block(e4m3fn, scale=float32, size=16xaxis)",
    "block(e4m3fn, scale=float32, size=axisx16)",
]  # fmt: skip


@pytest.mark.parametrize("name", [*NAMED_BLOCKS, *CUSTOM])
def test_str_parses_back_to_an_equal_format(name):
    fmt = nf.get_format(name)
    assert isinstance(fmt, nf.BlockFormat)
    assert nf.get_format(str(fmt)) == fmt
    assert hash(nf.get_format(str(fmt))) == hash(fmt)
    assert nf.get_format(fmt) is fmt


@pytest.mark.parametrize("name", NAMED_BLOCKS)
def test_named_formats_are_called_by_their_name(name):
    """One of its names, where several are equal."""
    entry = NAMED_BLOCKS[name]
    assert str(entry.format) == name or NAMED_BLOCKS[str(entry.format)].format == entry.format
    for alias in (*entry.aliases, name.upper(), name.replace("_", "-")):
        assert nf.get_format(alias) == entry.format
    assert name in nf.list_formats(entry.family)
    assert entry.source


@pytest.mark.parametrize(("written", "name"), [
    ("block(e2m1, scale=e8m0, size=32, rule=floor)", "mxfp4"), ("BLOCK( E2M1 ,SCALE=E8M0,SIZE=32,RULE=FLOOR )", "mxfp4"), ("bfp(m=3)", "msfp12"),
    ("block(e4m3, rule=rceil)", "mxfp8_te"), ("MXFP8", "mxfp8_e4m3"), ("mx_fp4", "mxfp4"), ("block(e2m1, rule=4over6, scale=e4m3fn, size=16)", "nvfp4_4over6"),
    ("block(e2m1, scale=e4m3fn, size=16×16, rule=te)", "nvfp4_16x16"),
])  # fmt: skip
def test_other_spellings_give_the_named_format(written, name):
    assert nf.get_format(written) == nf.get_format(name)
    assert str(nf.get_format(written)) == name


SIZE = "it is a positive number, two of them \\(16x16\\), axis or tensor"


@pytest.mark.parametrize(("name", "message"), [
    ("block(e2m1, scale=e8m0, size=0)", "size=0 is given; " + SIZE),
    ("block(e2m1, scale=e8m0, size=-3)", "size=-3 is given; " + SIZE),
    ("block(e2m1, size=1.5)", r"size=1\.5 is given; " + SIZE),
    ("block(e2m1, size=abc)", "size=abc is given; " + SIZE),
    ("block(e2m1, size=)", "size= is given; " + SIZE),
    ("block(e2m1, size=16x0)", "size=16x0 is given; " + SIZE),
    ("block(e2m1, size=2x2x2)", "size=2x2x2 is given; " + SIZE + "|a block has one axis, two, or"),
    ("block(e2m1, rule=flor)", "unknown scale rule 'flor'; nearest: floor"),
    ("block(e2m1, rule=recil)", "unknown scale rule 'recil'; nearest: rceil"),
    ("block(e2m1, scale=e9m99)", "e9m99"),
    ("block(e2m1, scale=nonsense)", "unknown format 'nonsense'"),
    ("block(e2m1, scale=float64)", "float64 is given as the scale format; a scale must be exact in binary32"),
    ("block(e2m1, scale=nf4)", "nf4 is given as the scale format"),
    ("block(e2m1, scale=int8, rule=floor)", "rule 'floor' is given with scale int8; it needs a float, such as e8m0"),
    ("block(e2m1, scale=e4m3, rule=deepseek)", "rule 'deepseek' is given with scale float8_e4m3fn; it is for float32"),
    ("block(nf4, scale=e8m0, rule=even)", "rule 'even' is given with nf4.*codebooks"),
    ("block(float64)", "float64 is given as the element format; elements must be exact in binary32"),
    ("block(mxfp4)", "mxfp4"),
    ("block(nonsense)", "unknown format 'nonsense'"),
    ("block()", "has one element format"),
    ("block(e2m1, e8m0)", "has one element format"),
    ("block(e2m1, colour=red)", r"has an argument 'colour' that block\(…\) does not take"),
    ("block(e2m1, flat=maybe)", "flat=maybe is given; it is yes or no"),
    ("block(e2m1, size=16x16, flat=yes)", "its blocks have one size"),
    ("block(e2m1, micro=3:1)", "micro="),
    ("block(e2m1, micro=two)", "micro=two is given; it is elements:bits"),
    ("block(e2m1, nonfinite=ignore)", "unknown nonfinite rule 'ignore'"),
    ("bfp(16)", r"bfp\(m=…, size=…\) has m"),
    ("bfp(m=0)", r"bfp\(m=0\) is given; m is 1 to 23 magnitude bits"),
    ("bfp(m=x)", "'x' is given; it must be an integer"),
    ("mxfp5", "unknown format 'mxfp5'; nearest: mxfp"),
    ("nvfp", "unknown format 'nvfp'; nearest: nvfp4"),
    ("q9_0", "unknown format 'q9_0'; nearest: .*q._0"),
    ("block(e2m1", r"unknown format 'block\(e2m1'"),
    pytest.param("block(e2m1, scale=e8m0, scale=e4m3)", "scale"),
])  # fmt: skip
def test_a_wrong_name_is_refused_in_one_sentence(name, message):
    for function in (nf.get_format, lambda n: nf.encode(normal(2, 32), n)):
        with pytest.raises(ValueError, match=message) as caught:
            function(name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("options", "message"), [
    ({"block": (0,)}, r"block \(0,\) is given; sizes are positive, or -1 for a whole axis"),
    ({"block": (-2,)}, r"block \(-2,\) is given; sizes are positive"),
    ({"rule": "flor"}, "unknown scale rule 'flor'; nearest: floor"),
    ({"scale": "float64"}, "float64 is given as the scale format"),
    ({"nonfinite": "x"}, "unknown nonfinite rule 'x'"),
])  # fmt: skip
def test_the_constructor_refuses_the_same(options, message):
    with pytest.raises(ValueError, match=message):
        nf.BlockFormat(**{"element": "e2m1", "scale": "e8m0", **options})


def test_the_constructor_takes_names_formats_and_one_size():
    assert nf.BlockFormat("e2m1", "e8m0", 32, "floor") == nf.BlockFormat(nf.get_format("e2m1"), nf.get_format("e8m0"), (32,), "FLOOR")


def test_a_block_format_cannot_be_changed():
    with pytest.raises(AttributeError):
        nf.get_format("mxfp4").rule = "ceil"


@pytest.mark.parametrize("rule", list(rules()))
def test_every_rule_says_where_it_comes_from(rule):
    assert rules()[rule].source
    assert rules()[rule].name == rule


UNFIT = [
    "block(e2m1, scale=float32, rule=affine)", "block(e2m1, scale=e8m0, rule=micro)", "block(e2m1, scale=e8m0, rule=micro, micro=8:1+4:1)",
    "block(int4, scale=float32, rule=affine, micro=2:1)", "block(e2m1, scale=hif4_scale_e6m2, rule=hif4)", "block(e1m2, scale=hif4_scale_e6m2, size=5, rule=hif4)",
    "block(e2m1, scale=e4m3fn, size=tensor, rule=4over6)", "block(e2m1, scale=float16, rule=q8_0, micro=2:1)", "block(e2m1, scale=mxfp4)",
    "block(float32, scale=float32, rule=deepseek)",
]  # fmt: skip
WRONG = ["block(e2m1, scale=float16, rule=q4_0)", "block(int4, scale=e4m3fn, size=16, rule=transformer_engine)", "block(int8, scale=float16, size=32, rule=q4_1)"]


@pytest.mark.parametrize("name", UNFIT)
def test_a_format_that_can_be_constructed_can_be_used(name):
    """Refusing it early, in a ValueError of the constructor, is as good."""
    try:
        fmt = nf.get_format(name)
    except ValueError:
        return
    nf.decode(nf.encode(normal(3, 40), fmt))


@pytest.mark.parametrize("name", WRONG)
def test_rules_with_one_element_format_refuse_others(name):
    """Codes of Q4_0 are integers + 8, TransformerEngine's rule has the 6 and 448 of E2M1 and E4M3 in it."""
    with pytest.raises(ValueError, match="rule"):
        nf.get_format(name)
