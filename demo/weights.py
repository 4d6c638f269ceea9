"""Where the demo's numbers come from: a trained network, a small one trained on the spot, or a file of yours."""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

MODEL = Path("models", "standard_v3_3", "model.onnx")  # in the package magika 1.0.3
MODEL_SHA256 = "fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c"

Weights = npt.NDArray[np.float32]


class Unavailable(Exception):
    """Data cannot be had; the message says why in one line."""


# magika's float initializers by the ends of their names: what they are, and the axis that products sum over.
LAYERS = {
    "LayerNorm_1/Reshape_3:0": ("LayerNorm_1.bias", -1),
    "LayerNorm_1/Reshape_2:0": ("LayerNorm_1.scale", -1),
    "LayerNorm_0/Reshape_3:0": ("LayerNorm_0.bias", 1),
    "LayerNorm_0/Reshape_2:0": ("LayerNorm_0.scale", 1),
    "Dense_1/Reshape:0": ("Dense_1.bias", -1),
    "Dense_0/Reshape:0": ("Dense_0.bias", -1),
    "Conv_0/transpose_3:0": ("Conv_0.kernel", 1),  # types of patterns × channels × positions × 1
    "/Const_24:0": ("Dense_1.kernel", 0),
    "/Const:0": ("Dense_0.kernel", -1),  # a table: one row for every byte value
    "const_fold_opt__209": ("Conv_0.bias", 1),
}


@dataclass(frozen=True)
class Tensor:
    """One weight tensor, as a flat float32 array in C order; its shape, and the axis that blocks lie along."""

    name: str
    values: Weights
    shape: tuple[int, ...] = (-1,)
    axis: int = -1

    @property
    def array(self) -> Weights:
        """The values in their shape."""
        return self.values.reshape(self.shape)


@dataclass(frozen=True)
class Data:
    """The tensors, what they are, and the SHA-256 of the file that they were read from, where bits are compared."""

    name: str
    title: str
    tensors: tuple[Tensor, ...]
    sha256: str | None = None

    @property
    def size(self) -> int:
        """Number of weights in all tensors."""
        return sum(tensor.values.size for tensor in self.tensors)

    @property
    def largest(self) -> Tensor:
        """The tensor with the most weights."""
        return max(self.tensors, key=lambda tensor: tensor.values.size)


def load(choice: str) -> tuple[Data, list[str]]:
    """The data called `choice` ("auto", "digits" or a path), and one line for each source that was not to be had.

    Raises:
        Unavailable: nothing can be read.
    """
    if choice == "digits":
        return digits_classifier(), []
    if choice != "auto":
        return array_file(Path(choice)), []
    try:
        return magika_network(), []
    except Unavailable as reason:
        note = f"The network of magika is left out: {reason}. A small classifier takes its place."
        return digits_classifier(), [note]


def magika_network() -> Data:
    """The fp32 weights of the file-type detector that the package magika ships; the package is not imported."""
    spec = importlib.util.find_spec("magika")
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable("it is not installed (pip install --no-deps magika==1.0.3)")
    path = Path(next(iter(spec.submodule_search_locations))) / MODEL
    if not path.is_file():
        raise Unavailable(f"this version has no {MODEL.as_posix()} (1.0.3 has)")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != MODEL_SHA256:
        raise Unavailable(f"its model has SHA-256 {digest[:12]}…, not {MODEL_SHA256[:12]}… (1.0.3 has)")
    if importlib.util.find_spec("onnx") is None:
        raise Unavailable("the package onnx, which reads it, is not installed (pip install onnx)")

    arrays = _float_initializers(content)
    tensors = tuple(_tensor(name, array) for name, array in arrays if array.size > 1)
    total = sum(array.size for _, array in arrays)
    size = sum(tensor.values.size for tensor in tensors)
    title = (
        f"the file-type detector of magika 1.0.3: {size:,} weights in {len(tensors)} tensors"
        f" (its other {total - size} fp32 parameters are single constants)"
    )
    return Data("The network of magika", title, tensors, digest)


def _float_initializers(content: bytes) -> list[tuple[str, npt.NDArray[Any]]]:
    """Names and float32 arrays of an ONNX model, in the order of the file."""
    import onnx
    from onnx import numpy_helper

    initializers = onnx.load_from_string(content).graph.initializer
    wanted = [tensor for tensor in initializers if tensor.data_type == onnx.TensorProto.FLOAT]
    return [(tensor.name, numpy_helper.to_array(tensor)) for tensor in wanted]


def _tensor(name: str, array: npt.NDArray[Any]) -> Tensor:
    """An initializer of magika's model."""
    known, axis = next(layer for end, layer in LAYERS.items() if name.endswith(end))
    return Tensor(known, array.reshape(-1), array.shape, axis)


def digits_classifier() -> Data:
    """The weights of a small classifier, trained here for a second on scikit-learn's 8 × 8 images of digits."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier
        from threadpoolctl import threadpool_limits  # scikit-learn needs it
    except ModuleNotFoundError:
        raise Unavailable('neither magika nor scikit-learn is here; run: pip install -e ".[demo]"') from None
    images, labels = load_digits(return_X_y=True)
    network = MLPClassifier(hidden_layer_sizes=(128, 64), max_iter=20, random_state=0)
    with warnings.catch_warnings(), threadpool_limits(1):  # threads cost such small matrices fifty times the time
        warnings.simplefilter("ignore", ConvergenceWarning)  # twenty epochs are enough for a demo
        network.fit(images.astype(np.float32) / np.float32(16), labels)
    layers = enumerate(zip(network.coefs_, network.intercepts_, strict=True))
    named = [(f"{kind}_{i}", array) for i, pair in layers for kind, array in zip(("Dense", "Bias"), pair, strict=True)]
    tensors = tuple(
        Tensor(name, np.ascontiguousarray(array, np.float32).reshape(-1), array.shape, 0) for name, array in named
    )
    size = sum(tensor.values.size for tensor in tensors)
    title = f"a classifier of scikit-learn's digits, trained just now: {size:,} weights in {len(tensors)} tensors"
    return Data("A classifier of digits", title, tensors)


def array_file(path: Path) -> Data:
    """The one array of an .npy file, as float32."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is no .npy file"
        raise Unavailable(f"{path} cannot be read: {reason}") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu" or not array.size:
        raise Unavailable(f"{path} does not hold one array of real numbers")
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(array, np.float32).reshape(-1)
    if not np.isfinite(values).all():
        raise Unavailable(f"{path} holds numbers that are not finite in float32")
    return Data(path.name, f"{path.name}, {values.size:,} numbers", (Tensor(path.stem, values, array.shape or (1,)),))
