"""Execute the notebooks: python notebooks/run.py [NAME …].

Results go to build/notebooks; exit code 1 says that one failed. The percent sources beside this file
are canonical. --images also makes notebooks/images/NN.png from the last figure of each. NUMFMT_FAST=1
shortens them. One that needs a package that is not here is skipped, saying how to install it.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LIMIT = 120  # seconds a notebook
IMAGE_WIDTH, IMAGE_COLORS = 640, 160
NEEDED = ("jupytext", "nbclient", "ipykernel", "matplotlib")
NEEDS = re.compile(r"^# needs (\w+): (.+)$", re.MULTILINE)  # a line of a source: a module, and how to install it


def sources(names: list[str]) -> list[Path]:
    """The sources whose names start with one of `names`; all if there are none."""
    found = [p for p in sorted(HERE.glob("[0-9][0-9]_*.py")) if not names or any(p.stem.startswith(n) for n in names)]
    if not found:
        known = ", ".join(p.stem for p in sorted(HERE.glob("[0-9][0-9]_*.py")))
        sys.exit(f"no notebook is called {' or '.join(names)}; there are {known}")
    return found


def missing_package(source: Path) -> str | None:
    """How to install what a source needs and is not here; None if nothing is missing."""
    found = NEEDS.findall(source.read_text(encoding="utf-8"))
    return next((install for module, install in found if find_spec(module) is None), None)


def execute(source: Path, output: Path) -> Any:
    """The executed notebook, also written to `output`, up to the first failing cell if there is one.

    Raises:
        CellExecutionError: a cell raised; CellTimeoutError: one took longer than LIMIT.
    """
    import jupytext
    import nbclient
    import nbformat

    notebook = jupytext.read(source, fmt="py:percent")
    client = nbclient.NotebookClient(
        notebook,
        timeout=LIMIT,
        kernel_name="python3",
        resources={"metadata": {"path": str(HERE)}},
        extra_arguments=["--log-level=40"],  # errors only; new kernels warn about every TCP connection
    )
    try:
        client.execute()
    finally:
        nbformat.write(notebook, output)
    return notebook


def last_image(notebook: Any) -> bytes:
    """PNG of the last figure."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    images = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    return base64.b64decode(images[-1])


def shrunk(png: bytes) -> bytes:
    """The picture, small enough to be committed."""
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.thumbnail((IMAGE_WIDTH, 2 * IMAGE_WIDTH), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.quantize(IMAGE_COLORS, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def prepare_kernel() -> None:
    """What kernels inherit: numfmt from this checkout, figures inline."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", help="beginnings of names, as 02; all notebooks if none is given")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "notebooks", help="folder for the .ipynb files")
    parser.add_argument("--images", action="store_true", help="renew notebooks/images/NN.png")
    options = parser.parse_args()
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        sys.exit(f"notebooks need {', '.join(missing)}; pip install 'numfmt-emulator[notebooks]'")
    chosen = sources(options.names)
    prepare_kernel()
    options.output.mkdir(parents=True, exist_ok=True)
    failed = 0
    for source in chosen:
        print(f"{source.stem} ...", end=" ", file=sys.stderr, flush=True)
        install = missing_package(source)
        if install is not None:
            print(f"skipped; {install}", file=sys.stderr)
            continue
        start = time.perf_counter()
        output = options.output / f"{source.stem}.ipynb"
        try:
            notebook = execute(source, output)
        except Exception as error:
            what = f"{error.ename}: {error.evalue}" if hasattr(error, "ename") else error
            print(f"failed; {output} has the traceback\n{what}", file=sys.stderr)
            failed += 1
            continue
        if options.images:
            (HERE / "images" / f"{source.stem[:2]}.png").write_bytes(shrunk(last_image(notebook)))
        print(f"{time.perf_counter() - start:.1f} s", file=sys.stderr)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
