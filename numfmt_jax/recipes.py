"""Every named recipe: its six operands, and the paper or program that defines it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from numfmt.kernels import unknown

from .recipe import Gemm, Hadamard, Operand, Recipe

STOCHASTIC = "stochastic"
NVIDIA_SIGNS = (1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1)
RHT16 = Hadamard(16, signs=NVIDIA_SIGNS)
RHT32, RHT64 = Hadamard(32, signs="random"), Hadamard(64, signs="random")
AS_FORWARD = Operand(None, source="forward")


def everywhere(operand: Operand, **fields: Any) -> Recipe:
    """The same rounding in all six slots."""
    gemm = Gemm(operand, operand)
    return Recipe(gemm, gemm, gemm, **fields)


def by_tensor(
    x: Operand | None, w: Operand | None, g: Operand | None, *, wx: Operand | None, gw: Operand | None,
    wd: Operand | None = None, **fields: Any,
) -> Recipe:  # fmt: skip
    """A recipe by tensors: activation and weight forward, gradient in dgrad, and what wgrad takes instead.

    Args:
        x, w, g: X_f, W_f (and W_d unless `wd` is given) and G_d.
        wx, gw: X_w and G_w.
        wd: W_d.
    """
    return Recipe(Gemm(x, w), Gemm(g, w if wd is None else wd), Gemm(wx, gw), **fields)


def _mx(element: str, rule: str = "rceil") -> Operand:
    return Operand(f"block({element}, scale=e8m0, size=32, rule={rule})", rounding="ties_to_even")


def _recipes() -> list[Recipe]:
    bf16 = Operand("bfloat16")
    e4m3, e5m2 = (Operand(f"block({e}, scale=float32, size=tensor, rule=current_scaling)") for e in ("e4m3", "e5m2"))
    mxfp4 = _mx("e2m1", "floor")
    tseng = Operand("mxfp4", rounding=STOCHASTIC, transform=RHT64, scale="3/4")
    nvfp4, nvfp4_sr = Operand("nvfp4"), Operand("nvfp4", rounding=STOCHASTIC)
    nvfp4_weight = Operand("nvfp4_16x16")
    four_over_six = Operand("nvfp4_4over6")
    nvfp4_rht, nvfp4_rht_sr = (Operand("nvfp4", rounding=r, transform=RHT16) for r in (None, STOCHASTIC))
    v3, v3_weight = Operand("deepseek_fp8"), Operand("deepseek_fp8_128x128")
    int8_row, int8_tensor, int8_tile = (
        Operand(n) for n in ("int8_axis", "int8_tensor", "block(fixed(bits=8), scale=float16, size=32x32)")
    )
    return [
        everywhere(bf16, name="bf16", source="mixed precision with bfloat16 operands and float32 sums, arXiv 1905.12322"),
        by_tensor(e4m3, e4m3, e5m2, wd=AS_FORWARD, wx=AS_FORWARD, gw=e5m2, name="fp8_current",
                  source="TransformerEngine Float8CurrentScaling, Format.HYBRID"),
        everywhere(_mx("e4m3"), name="mxfp8", source="TransformerEngine MXFP8BlockScaling: E4M3, RCEIL"),
        by_tensor(_mx("e4m3"), _mx("e4m3"), _mx("e5m2"), wx=_mx("e4m3"), gw=_mx("e5m2"), name="mxfp8_hybrid",
                  source="TransformerEngine MXFP8BlockScaling, Format.HYBRID: E5M2 gradients"),
        everywhere(_mx("e4m3", "floor"), name="mxfp8_ocp", source="OCP MX v1.0 §6.3: E4M3, floor rule"),
        everywhere(_mx("e2m3", "floor"), name="mxfp6", source="OCP MX v1.0 §6.3: E2M3, floor rule"),
        everywhere(_mx("e3m2", "floor"), name="mxfp6_e3m2", source="OCP MX v1.0 §6.3: E3M2, floor rule"),
        everywhere(mxfp4, name="mxfp4", source="OCP MX v1.0 §6.3: E2M1, floor rule"),
        everywhere(Operand("mxfp4", axis="last_contracting", rounding="ties_to_away", source="bf16"), name="mxfp4_microxcaling",
                   source="microxcaling mx/linear.py defaults: ties away, of bf16, blocks inside each sequence"),
        Recipe(Gemm(bf16, bf16), Gemm(tseng, tseng), Gemm(tseng, tseng), name="mxfp4_sr",
               source="Tseng et al., arXiv 2502.20586: bf16 forward, MXFP4 backward with 3/4, RHT 64, stochastic"),
        by_tensor(nvfp4, nvfp4_weight, nvfp4_sr, wd=AS_FORWARD, wx=nvfp4_rht, gw=nvfp4_rht_sr, name="nvfp4", source="NVIDIA, arXiv 2509.25149; TransformerEngine NVFP4BlockScaling"),
        by_tensor(four_over_six, nvfp4_weight, nvfp4_sr, wd=AS_FORWARD, wx=nvfp4_rht, gw=nvfp4_rht_sr,
                  name="nvfp4_4over6",
                  source="Cook et al., arXiv 2512.02010, on activations", unverified="which operands choose between 4 and 6"),
        by_tensor(nvfp4, nvfp4, nvfp4_sr, wx=nvfp4_sr, gw=nvfp4_sr, name="fp4_all_the_way",
                  source="Chmiel et al., arXiv 2505.19115", unverified="scales: NVFP4's, where the paper rounds reciprocals"),
        by_tensor(v3, v3_weight, v3, wd=AS_FORWARD, wx=v3, gw=v3, name="deepseek_fp8", source="DeepSeek-V3, arXiv 2412.19437 §3.3; DeepGEMM"),
        by_tensor(v3, v3_weight, v3, wd=AS_FORWARD, wx=Operand("deepseek_fp8", source="forward"), gw=v3, name="deepseek_fp8_requantized",
                  source="DeepSeek-V3, arXiv 2412.19437 §3.3", unverified="that wgrad re-quantizes what forward used"),
        everywhere(int8_row, name="int8", source="absmax per row along the contraction, all products",
                   unverified="no one paper: AQT and qwix call this int8"),
        by_tensor(int8_row, int8_tensor, int8_row, wx=None, gw=None, name="switchback",
                  source="Wortsman et al., arXiv 2304.13013", unverified="division by 127 and the absmax"),
        by_tensor(int8_tile, int8_tile, Operand("block(fixed(bits=8), scale=float16, size=32x32)", rounding=STOCHASTIC),
                  wd=AS_FORWARD, wx=AS_FORWARD, gw=int8_tile, name="jetfire", source="Xi et al., arXiv 2403.12422: 32x32 tiles",
                  unverified="the rounding of each slot"),
    ]  # fmt: skip


@lru_cache(maxsize=1)
def _by_name() -> dict[str, Recipe]:
    return {recipe.name: recipe for recipe in _recipes()}


def list_recipes() -> list[str]:
    """Names of all recipes.

    >>> "nvfp4" in list_recipes()
    True
    """
    return list(_by_name())


def get_recipe(name: Recipe | str) -> Recipe:
    """The recipe called `name`; a recipe is returned as it is.

    Raises:
        ValueError: an unknown name; the message gives the nearest ones.

    >>> print(get_recipe("mxfp8").slots()["fprop.lhs"])
    mxfp8_te 32 rceil ties_to_even
    """
    if isinstance(name, Recipe):
        return name
    if not isinstance(name, str):
        raise TypeError(f"a {type(name).__name__} is given as a recipe; it must be a Recipe or one of its names")
    found = _by_name().get(name.strip().lower().replace("-", "_"))
    if found is None:
        raise ValueError(unknown("recipe", name, list_recipes()))
    return found
