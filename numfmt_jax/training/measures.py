"""What a recipe costs: its loss and its gradient beside those of float32."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from .log import Record
from .loop import Run, compiled_gradient
from .model import Parameters
from .plan import FLOAT32, policy_for

DEFINITIONS = {
    "train": "mean loss over the last tenth of the steps, nats a byte",
    "validation": "loss on the text held out, with products as they are trained",
    "gap": "how much that is above float32's",
    "cosine": "with the gradient in float32: same weights (those reached), same batch",
    "norm": "of the gradient, over that of the one in float32",
    "ms/step": "without compilation",
}


def gradient_agreement(run: Run) -> tuple[float, float]:
    """Cosine between the gradients under the run's policy and in float32, and the quotient of their norms.

    Both are of the parameters that the run has reached and of one batch that it has not seen.
    """
    assert run.parameters is not None
    settings = run.settings
    tokens = run.text.held_out(settings.batch, settings.shape.context)
    step = np.int32(settings.steps + 1)  # of no batch, so that its noise is new
    under, plain = (
        _flat(compiled_gradient(policy, settings)(run.parameters, tokens, step)[1])
        for policy in (run.policy, policy_for(FLOAT32, settings.shape.layers))
    )
    sizes = float(np.linalg.norm(under)), float(np.linalg.norm(plain))
    if not all(np.isfinite(sizes)) or 0.0 in sizes:
        return float("nan"), float("nan")
    return float(under @ plain) / (sizes[0] * sizes[1]), sizes[0] / sizes[1]


def _flat(tree: Parameters) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.concatenate([np.asarray(leaf, np.float64).reshape(-1) for leaf in jax.tree.leaves(tree)])


def result_of(run: Run, records: Sequence[Record]) -> Record:
    """The record that ends a run."""
    own = [record for record in records if record["record"] == "step" and record["recipe"] == run.name]
    losses = [r["loss"] for r in own if r["loss"] is not None][-max(1, run.settings.steps // 10) :]
    validations = [r["validation_loss"] for r in own if r["validation_loss"] is not None]
    cosine, norms = gradient_agreement(run)
    return {
        "record": "result", "recipe": run.name, "steps": own[-1]["step"],
        "loss": sum(losses) / len(losses) if losses else None,
        "validation_loss": validations[-1] if validations else None,
        "gradient_cosine": cosine, "gradient_norm_ratio": norms,
        "ms_per_step": round(1000 * run.seconds / max(1, own[-1]["step"]), 3),
        "compile_seconds": round(run.compile_seconds, 3),
    }  # fmt: skip


def gap(results: Sequence[Record], result: Record) -> float | None:
    """How much a run's validation loss is above float32's, as a share of it; None without a run in float32."""
    plain = next((r["validation_loss"] for r in results if r["recipe"] == FLOAT32), None)
    own = result["validation_loss"]
    return None if None in (plain, own) or result["recipe"] == FLOAT32 else float(own / plain - 1)


def table(results: Sequence[Record]) -> list[str]:
    """The results as lines of a table, at most 80 characters wide for names of usual length."""
    width = max(8, *(len(r["recipe"]) for r in results))
    titles = f"{'train':>7}  {'validation':>10}  {'gap':>8}  {'cosine':>7}  {'norm':>6}  {'ms/step':>8}"
    head = f"{'recipe':{width}}  {titles}"
    lines = [head, "-" * len(head)]
    for result in results:
        above = gap(results, result)
        lines.append(
            f"{result['recipe']:{width}}  {_number(result['loss'], 7, '.4f')}  "
            f"{_number(result['validation_loss'], 10, '.4f')}  {_number(above, 8, '+.2%')}  "
            f"{_number(result['gradient_cosine'], 7, '.4f')}  {_number(result['gradient_norm_ratio'], 6, '.3f')}  "
            f"{result['ms_per_step']:8.1f}"
        )
    return lines


def _number(value: float | None, width: int, form: str) -> str:
    return f"{'–' if value is None or not np.isfinite(value) else format(value, form):>{width}}"
