"""Real files of this machine, of many kinds, in an order that depends on nothing but what is installed."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from network import BLOCK, features_of

# Programs and what comes with them; nobody's own files. What is not there is left out.
FOLDERS = (
    sysconfig.get_paths()["stdlib"], sysconfig.get_paths()["purelib"], sys.prefix, "/usr/share/man", "/usr/share/doc",
    "/usr/share/icons", "/usr/share/fonts", "/usr/share", "/usr/lib", "/usr/include", "/usr/bin", "/System/Library",
    "C:/Windows/System32",
)  # fmt: skip
SUFFIXES = (
    ".py", ".gz", "", ".so", ".h", ".png", ".html", ".txt", ".pyc", ".json", ".c", ".svg", ".sh", ".md", ".xml", ".pm",
    ".a", ".js", ".ttf", ".css", ".csv", ".pdf", ".rst", ".gif", ".yaml", ".jpg", ".npz", ".pl", ".toml", ".zip", ".el",
    ".java", ".jar", ".cmake", ".ps", ".o", ".exe", ".pem", ".ico", ".sql", ".wav", ".rb", ".tcl", ".lua", ".go", ".f90",
    ".cpp", ".ini", ".tex", ".otf", ".npy", ".db", ".bz2", ".xz", ".tar", ".dll", ".mo", ".po", ".eps", ".ipynb", ".bmp",
    ".diff", ".awk", ".bat", ".ts", ".php", ".r", ".m4", ".jpeg", ".webp", ".mp3", ".ogg", ".docx", ".xlsx", ".rtf",
)  # fmt: skip
VISITED = 1000  # folders looked into below each of FOLDERS
OF_A_KIND = 2  # files of one suffix taken from one folder


def sample(count: int) -> tuple[npt.NDArray[np.int16], list[Path]]:
    """Features of up to `count` files, and their paths: of every suffix one, then of every suffix a second one, …."""
    by_suffix: dict[str, list[Path]] = {suffix: [] for suffix in SUFFIXES}
    seen: set[str] = set()
    for folder in FOLDERS:
        for path in _some_files(folder, seen):
            by_suffix[path.suffix.lower()].append(path)
    order = (path for turn in zip_longest(*by_suffix.values()) for path in turn if path)
    read = ((features, path) for path in order if (features := _features(path)) is not None)
    chosen = list(islice(read, count))
    return np.array([features for features, _ in chosen], np.int16).reshape(-1, 2048), [path for _, path in chosen]


def _some_files(folder: str, seen: set[str]) -> Iterator[Path]:
    """Regular files below a folder, a few of each suffix from each of its folders, in the order of their names."""
    for at, inner, names in islice(os.walk(folder, onerror=lambda error: None), VISITED):
        inner.sort()
        if at in seen:
            inner.clear()
            continue
        seen.add(at)
        of_suffix: dict[str, int] = {}
        for name in sorted(names):
            suffix = os.path.splitext(name)[1].lower()
            if suffix in SUFFIXES and of_suffix.get(suffix, 0) < OF_A_KIND:
                of_suffix[suffix] = of_suffix.get(suffix, 0) + 1
                yield Path(at, name)


def _features(path: Path) -> Any:
    """What the network reads of a file; None for what it cannot be asked about."""
    try:
        if path.is_symlink() or not path.is_file():
            return None
        with open(path, "rb") as file:
            head = file.read(BLOCK)
            file.seek(max(0, os.fstat(file.fileno()).st_size - BLOCK))
            return features_of(head, file.read(BLOCK))
    except OSError:
        return None
