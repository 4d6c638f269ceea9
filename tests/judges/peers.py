"""The conversions of other libraries, each behind one signature: operands in, codes out.

A peer that is not installed skips the test that asks for it, with a message that says how to get it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import version
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest

from tests.judges.operands import Array, bits

Cast = Callable[[Array, str, str, str], Array]

FNUZ = ("float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e4m3b11fnuz")
FP8 = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3", "float8_e3m4", *FNUZ, "float8_e8m0fnu")
FP6 = ("float6_e2m3fn", "float6_e3m2fn")
FP4 = ("float4_e2m1fn",)
ML_DTYPES = (*FP8, *FP6, *FP4, "bfloat16")
NARROW = ("float32", "float16", "bfloat16")


class Peer(NamedTuple):
    """A library's conversion.

    `cast(x, format, rounding, overflow)` gives codes; both modes are "" where the library's own default is meant.
    `platform` is the numfmt platform that reproduces it, "" if there is none.
    """

    package: str
    module: str
    platform: str
    sources: tuple[str, ...]
    formats: tuple[str, ...]
    cast: Cast
    advice: str = ""

    def pairs(self) -> list[tuple[str, str]]:
        """(source, format) of every conversion; a format to itself is none."""
        return [(s, f) for s in self.sources for f in self.formats if s != f]

    @property
    def version(self) -> str:
        return version(self.package)


def dtype(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name, name))


def by_ml_dtypes(x: Array, fmt: str, rounding: str = "", overflow: str = "") -> Array:
    with np.errstate(all="ignore"):
        return bits(x.astype(dtype(fmt)))


@lru_cache
def _jitted(fmt: str) -> Any:
    import jax

    return jax.jit(lambda x: x.astype(dtype(fmt)))


def by_xla(x: Array, fmt: str, rounding: str = "", overflow: str = "") -> Array:
    import jax.numpy as jnp

    return bits(np.asarray(_jitted(fmt)(jnp.asarray(x))))


def by_torch(x: Array, fmt: str, rounding: str = "", overflow: str = "") -> Array:
    import torch

    operand = torch.from_numpy(bits(x).copy()).view(getattr(torch, x.dtype.name))
    pattern = torch.uint16 if fmt in ("bfloat16", "float16") else torch.uint8
    return operand.to(getattr(torch, fmt)).view(pattern).numpy()


ONNX_TYPES = {
    "float8_e4m3fn": "FLOAT8E4M3FN", "float8_e5m2": "FLOAT8E5M2", "float8_e4m3fnuz": "FLOAT8E4M3FNUZ",
    "float8_e5m2fnuz": "FLOAT8E5M2FNUZ", "float8_e8m0fnu": "FLOAT8E8M0", "float6_e2m3fn": "FLOAT6E2M3",
    "float6_e3m2fn": "FLOAT6E3M2", "float4_e2m1fn": "FLOAT4E2M1", "bfloat16": "BFLOAT16", "float16": "FLOAT16",
    "float32": "FLOAT", "float64": "DOUBLE",
}  # fmt: skip


@lru_cache
def _onnx_model(source: str, fmt: str, saturate: int) -> Any:
    """A model of one Cast node, in the reference implementation."""
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    given, wanted = (getattr(TensorProto, ONNX_TYPES[name]) for name in (source, fmt))
    node = helper.make_node("Cast", ["x"], ["y"], to=wanted, saturate=saturate)
    graph = helper.make_graph(
        [node],
        "cast",
        [helper.make_tensor_value_info("x", given, [None])],
        [helper.make_tensor_value_info("y", wanted, [None])],
    )
    return ReferenceEvaluator(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)]))


def by_onnx(x: Array, fmt: str, rounding: str = "", overflow: str = "") -> Array:
    with np.errstate(all="ignore"):
        return bits(_onnx_model(x.dtype.name, fmt, int(not overflow)).run(None, {"x": x})[0])


GFLOAT_MODES = {
    "ties_to_even": "TiesToEven", "ties_to_away": "TiesToAway", "toward_zero": "TowardZero",
    "toward_positive": "TowardPositive", "toward_negative": "TowardNegative", "stochastic_a": "StochasticFastest",
    "stochastic_b": "StochasticFast", "stochastic_c": "Stochastic",
}  # fmt: skip
IEEE_MODES = ("ties_to_even", "ties_to_away", "toward_zero", "toward_positive", "toward_negative")
GFLOAT_OCP = {
    "float8_e4m3fn": "ocp_e4m3", "float8_e5m2": "ocp_e5m2", "float6_e2m3fn": "ocp_e2m3", "float6_e3m2fn": "ocp_e3m2",
    "float4_e2m1fn": "ocp_e2m1", "float8_e8m0fnu": "ocp_e8m0", "float16": "binary16", "bfloat16": "bfloat16",
    "s2f6": "ocp_int8",
}  # fmt: skip
P3109 = tuple(
    f"binary{k}p{p}{sign}{domain}"
    for k in range(3, 9)
    for sign in "su"
    for p in range(1, k + (sign == "u"))
    for domain in "ef"
)


def gfloat_format(name: str) -> Any:
    """gfloat's description of a format."""
    from gfloat import formats
    from gfloat.types import Domain, Signedness

    if name in GFLOAT_OCP:
        return getattr(formats, f"format_info_{GFLOAT_OCP[name]}")
    k, _, rest = name.removeprefix("binary").partition("p")
    signedness = Signedness.Signed if rest[-2] == "s" else Signedness.Unsigned
    domain = Domain.Extended if rest[-1] == "e" else Domain.Finite
    return formats.format_info_p3109(int(k), int(rest[:-2]), signedness, domain)


def by_gfloat(x: Array, fmt: str, rounding: str = "", overflow: str = "", random: Any = None, count: int = 0) -> Array:
    """Only overflow="saturate" saturates: else infinity, or NaN where the format has no infinity.

    Raises:
        ValueError: gfloat raises it, or gives an integer that is no code of the format.
    """
    import gfloat

    info = gfloat_format(fmt)
    mode = gfloat.RoundMode[GFLOAT_MODES[rounding or "ties_to_even"]]
    with np.errstate(all="ignore"):
        rounded = gfloat.round_ndarray(info, x, mode, overflow in ("", "saturate"), random, count)
        codes = gfloat.encode_ndarray(info, rounded)
    if codes.size and codes.max() >= 2**info.k:
        raise ValueError(f"gfloat gives {codes.max():#x}, which is no code of {fmt}")
    return codes.astype(np.uint16 if info.k > 8 else np.uint8)


VERIFLOAT_MODES = dict(zip(IEEE_MODES, ("RNE", "RNA", "RTZ", "RUP", "RDN"), strict=True))
VERIFLOAT_FORMATS = {
    "float8_e4m3fn": "E4M3", "float8_e5m2": "E5M2", "float6_e2m3fn": "E2M3", "float6_e3m2fn": "E3M2",
    "float4_e2m1fn": "E2M1", "float8_e8m0fnu": "UE8M0", "ue4m3": "UE4M3", "float16": "FP16", "bfloat16": "BF16",
}  # fmt: skip


def verifloat_values(x: Array, fmt: str, rounding: str = "", overflow: str = "", tininess: str = "after") -> list[Any]:
    """verifloat's numbers, which carry code and flags."""
    import warnings

    import verifloat

    base = getattr(verifloat, VERIFLOAT_FORMATS[fmt])
    mode = verifloat.Rounding[VERIFLOAT_MODES[rounding or "ties_to_even"]]
    convert = base.replace(rounding=mode, saturate=overflow in ("", "saturate"), tininess=tininess)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it reports each overflow and underflow
        return [convert(value) for value in x.astype(np.float64).tolist()]


def by_verifloat(x: Array, fmt: str, rounding: str = "", overflow: str = "") -> Array:
    codes = [number.raw for number in verifloat_values(x, fmt, rounding, overflow)]
    return np.array(codes, np.uint16 if fmt in ("float16", "bfloat16") else np.uint8)


PEERS = {
    "ml_dtypes": Peer(
        "ml_dtypes", "ml_dtypes", "ml_dtypes", (*NARROW, "float64", "int64", "uint64"), ML_DTYPES, by_ml_dtypes
    ),
    "numpy": Peer("numpy", "numpy", "", ("float32", "float64"), ("float16",), by_ml_dtypes),
    "xla": Peer(
        "jax", "jax", "xla", NARROW, (*FP8, *FP6, *FP4, "bfloat16", "float16"), by_xla, "pip install jax"
    ),
    "torch": Peer(
        "torch", "torch", "torch", (*NARROW, "float64"),
        ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu", "bfloat16", "float16"),
        by_torch, "pip install torch==2.13.0",
    ),
    "onnx": Peer(
        "onnx", "onnx", "onnx", (*NARROW, "float64"), tuple(f for f in ONNX_TYPES if f not in ("float32", "float64")),
        by_onnx, "pip install onnx==1.23.2",
    ),
    "gfloat": Peer("gfloat", "gfloat", "", ("float64",), (*GFLOAT_OCP, *P3109), by_gfloat, "pip install gfloat==0.5.2"),
    "verifloat": Peer(
        "verifloat", "verifloat", "", ("float64",), tuple(VERIFLOAT_FORMATS), by_verifloat,
        "Python 3.12 and pip install verifloat==0.2.0",
    ),
}  # fmt: skip


def need(name: str) -> Peer:
    """The peer called `name`; skips the test, or the module that asks, where it is not installed."""
    peer = PEERS[name]
    if importlib.util.find_spec(peer.module) is None:
        pytest.skip(f"{peer.package} is not installed ({peer.advice})", allow_module_level=True)
    return peer


@lru_cache
def xla_has(fmt: str) -> bool:
    """Whether XLA can hold a format: FP6 it cannot in jax 0.10.2, it can in 0.12."""
    import jax.numpy as jnp
    from jax.errors import JaxRuntimeError

    try:
        jnp.zeros(1, dtype(fmt)).block_until_ready()
    except (TypeError, JaxRuntimeError):
        return False
    return True


def need_format(name: str, fmt: str) -> Peer:
    """The peer called `name`, as `need`; skips the test where its installed version has no such format."""
    peer = need(name)
    if name == "xla" and not xla_has(fmt):
        pytest.skip(f"jax {peer.version} has no {fmt}")
    return peer
