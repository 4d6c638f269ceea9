"""The demo's second part: a transformer trained under float32, MXFP8 and NVFP4 from one loss function."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

RECIPES = ("float32", "mxfp8", "nvfp4")
STEPS = 200
NEEDS = ("jax", "optax")


def train(steps: int, folder: Path) -> dict[str, Path]:
    """Train under each recipe, print what comes of it, write the log and the curves; the files, by what they are."""
    missing = [name for name in NEEDS if find_spec(name) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        print(f'Training: none; {" and ".join(missing)} {verb} not installed (pip install "numfmt-emulator[train]")')
        return {}
    from numfmt_jax.training import command, data, log, loop, model

    folder.mkdir(parents=True, exist_ok=True)
    settings = loop.Settings(model.Shape(), steps=steps)
    runs = command.prepare(RECIPES, settings, data.load())
    files = {"Log": folder / "training.jsonl"}
    with log.Log(files["Log"]) as records:
        command.execute(runs, records, command.Screen(receipts=RECIPES[-1:]))
    if find_spec("matplotlib") is not None:
        from numfmt_jax.training.figure import draw

        files["Curves"] = folder / "training.png"
        draw(records.records, files["Curves"])
    return files
