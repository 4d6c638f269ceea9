"""magika's network in NumPy: what it reads of a file, and its answers.

The graph of magika 1.0.3's model.onnx: bytes → Dense_0 (a table of 257 × 64) → GELU → four bytes side by side → LayerNorm_0
(over positions) → Conv_0 of five positions → GELU → maximum over positions → LayerNorm_1 → Dense_1 → softmax over 214 types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

HEAD, TAIL, BLOCK, PADDING, LEAST = 1024, 1024, 4096, 256, 8  # of magika's config.min.json
GROUP = 4  # bytes that make one position
BATCH = 16  # files at a time


def features_of(content_head: bytes, content_tail: bytes) -> npt.NDArray[np.int16] | None:
    """The 2048 numbers that the network reads, or None for files of fewer than 8 bytes but for white space.

    Args:
        content_head, content_tail: the first and the last 4096 bytes of a file, all of a shorter one.
    """
    head, tail = content_head.lstrip()[:HEAD], content_tail.rstrip()[-TAIL:]
    if len(head) < LEAST or not tail:
        return None
    made = np.full(HEAD + TAIL, PADDING, np.int16)
    made[: len(head)] = np.frombuffer(head, np.uint8)
    made[HEAD + TAIL - len(tail) :] = np.frombuffer(tail, np.uint8)
    return made


def answers(weights: Mapping[str, Floats], features: npt.NDArray[Any]) -> Floats:
    """Probabilities of the types, (files, 214), from the features of files, (files, 2048)."""
    table = gelu(weights["Dense_0.kernel"] + weights["Dense_0.bias"].reshape(-1))
    kernel = weights["Conv_0.kernel"][:, :, :, 0].transpose(2, 1, 0)  # positions, channels, patterns
    patterns = np.ascontiguousarray(kernel).reshape(-1, kernel.shape[2])
    pooled = []
    for start in range(0, len(features), BATCH):
        x = table.take(features[start : start + BATCH], axis=0)
        x = x.reshape(len(x), (HEAD + TAIL) // GROUP, GROUP * table.shape[1])
        x = layer_norm(x, weights["LayerNorm_0.scale"], weights["LayerNorm_0.bias"])
        y = convolved(x, patterns) + weights["Conv_0.bias"].reshape(-1)
        # GELU falls, then rises: over a set it is largest at one of the set's ends
        pooled.append(np.maximum(gelu(y.max(axis=1)), gelu(y.min(axis=1))))
    x = layer_norm(np.concatenate(pooled), weights["LayerNorm_1.scale"], weights["LayerNorm_1.bias"])
    logits = x @ weights["Dense_1.kernel"] + weights["Dense_1.bias"]
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def convolved(x: Floats, patterns: Floats) -> Floats:
    """x, (files, positions, channels), at every few neighbouring positions times `patterns`, in one product."""
    files, positions, channels = x.shape
    reach = len(patterns) // channels - 1
    rows = np.ascontiguousarray(x).reshape(-1)
    windows = np.lib.stride_tricks.sliding_window_view(rows, len(patterns))[::channels]  # some straddle two files
    y = np.empty((files * positions, patterns.shape[1]), np.float32)
    np.matmul(np.ascontiguousarray(windows), patterns, out=y[: len(windows)])
    return y.reshape(files, positions, -1)[:, : positions - reach]


def gelu(x: Floats) -> Floats:
    """GELU in its tanh form."""
    return x * (np.float32(0.5) * (1 + np.tanh(np.float32(0.7978846) * (x + np.float32(0.044715) * x * x * x))))


def layer_norm(x: Floats, scale: Floats, bias: Floats) -> Floats:
    """Over axis 1."""
    mean = x.mean(axis=1, keepdims=True)
    variance = np.maximum((x * x).mean(axis=1, keepdims=True) - mean * mean, 0)
    return (x - mean) / np.sqrt(variance + np.float32(1e-6)) * scale + bias
