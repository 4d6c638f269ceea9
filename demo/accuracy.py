"""What the network answers about real files, with each format's weights in the place of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from blocks import BlockCase, matrix
from blocks import encode as encode_blocks
from measure import Case, encode, scale_of, scaled_by
from weights import Data, Tensor, Weights

import numfmt as nf

WIDEST = 16  # bits: wider formats change no answer
# fmt: off
DEFINITIONS = {
    "top-1": "share of the files whose most likely type is the one that the float32 weights give",
    "mean KL": "mean of the Kullback-Leibler divergence of the types' probabilities from those of the float32 weights, in nats. "
               "The kernels are quantized, which hold 99.8 % of the weights; biases and norms stay float32",
}
# fmt: on


@dataclass(frozen=True)
class Agreement:
    """How far answers agree: share of equal first choices, and mean Kullback-Leibler divergence."""

    top1: float
    mean_kl: float


@dataclass(frozen=True)
class Answers:
    """What was asked, and how far each format's answers agree with those of float32."""

    files: int
    types: int
    rows: dict[str, Agreement]

    def as_json(self) -> dict[str, Any]:
        """The answers as JSON holds them."""
        return asdict(self)


def ask(data: Data, cases: Sequence[Case | BlockCase], count: int) -> Answers | None:
    """The answers about `count` files for the first case of every format; None for data that is no such network."""
    if data.sha256 is None or count < 1:
        return None
    from files import sample
    from network import answers

    features, _ = sample(count)
    if not len(features):
        return None
    reference = answers({tensor.name: tensor.array for tensor in data.tensors}, features)
    rows = {}
    for case in cases:
        if case.name not in rows and float(_bits(case)) <= WIDEST:
            rows[case.name] = compare(reference, answers(quantized(data.tensors, case), features))
    return Answers(len(features), len(np.unique(reference.argmax(axis=1))), rows)


def _bits(case: Case | BlockCase) -> Any:
    return case.format.bits if isinstance(case, Case) else case.format.bits_per_element


def quantized(tensors: Sequence[Tensor], case: Case | BlockCase) -> dict[str, Weights]:
    """Weights by name, the kernels as a case leaves them."""
    return {
        tensor.name: _quantized(tensor, case, index) if tensor.name.endswith(".kernel") else tensor.array
        for index, tensor in enumerate(tensors)
    }


def _quantized(tensor: Tensor, case: Case | BlockCase, index: int) -> Weights:
    if isinstance(case, BlockCase):
        values = nf.decode(encode_blocks(tensor, case, index))
        assert values.shape == matrix(tensor, case.format).shape
        return np.asarray(values.reshape(tensor.shape), np.float32)
    scale = scale_of(tensor.values, case.format, case.scale)
    values = nf.decode(encode(scaled_by(tensor.values, scale), case, index), case.format)
    return (values.astype(np.float64) * scale).astype(np.float32).reshape(tensor.shape)


def compare(reference: npt.NDArray[Any], other: npt.NDArray[Any]) -> Agreement:
    """How far `other` agrees with the reference: KL(reference ‖ other), in float64."""
    p, q = (np.maximum(a.astype(np.float64), 1e-30) for a in (reference, other))
    divergence = np.sum(p * np.log(p / q), axis=1)
    same = reference.argmax(axis=1) == other.argmax(axis=1)
    return Agreement(round(float(same.mean()), 6), float(f"{divergence.mean():.4g}"))
