"""The training program: the model against a naive one in float64, runs against plain loops, logs against interrupts."""

import ast
import io
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import redirect_stdout, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from numfmt_jax import emulate, paths
from numfmt_jax.training import command, data, figure, loop, measures, model, plan
from numfmt_jax.training.log import Log, read
from tests.jax.support import operands_of_products, same

ROOT = Path(__file__).resolve().parents[2]
TINY = model.Shape(width=32, layers=1, heads=2, context=32)
SETTINGS = loop.Settings(TINY, batch=4, steps=30, lr=1e-2)
NAMES = ("float32", "bf16", "mxfp4")
TEXT = data.Text.of(b"the quick brown fox jumps over the lazy dog. " * 40, "foxes")


def run(name: str, settings: loop.Settings = SETTINGS, rules: plan.Rules = ()) -> loop.Run:
    return loop.Run(name, plan.policy_for(name, settings.shape.layers, rules), settings, TEXT)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A training under three recipes: its log, what it printed, its results."""
    path, shown = tmp_path_factory.mktemp("training") / "run.jsonl", io.StringIO()
    with Log(path) as log, redirect_stdout(shown):
        runs = command.prepare(NAMES, SETTINGS, TEXT)
        results = command.execute(runs, log, command.Screen(receipts=["mxfp4"]))
    steps = {name: [r for r in log.records if r["record"] == "step" and r["recipe"] == name] for name in NAMES}
    return SimpleNamespace(path=path, shown=shown.getvalue(), results=results, steps=steps)


def losses(records: Iterable[dict[str, Any]]) -> list[tuple[float | None, float | None]]:
    return [(record["loss"], record["validation_loss"]) for record in records]


# Data


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    first = TEXT.batch(0, 1, 4, 16)
    assert np.array_equal(first, TEXT.batch(0, 1, 4, 16))
    assert not np.array_equal(first, TEXT.batch(0, 2, 4, 16))
    assert not np.array_equal(first, TEXT.batch(1, 1, 4, 16))
    assert (first.shape, first.dtype) == ((4, 17), np.int32)


def test_batches_are_windows_of_what_is_not_held_out() -> None:
    text = data.Text.of(bytes(range(200)), "numbers")
    drawn = np.concatenate([text.batch(0, step, 8, 5) for step in range(100)])
    assert (np.diff(drawn, axis=1) == 1).all()
    assert (drawn.min(), drawn.max()) == (0, 179)
    held = text.held_out(4, 5)
    assert (held.min(), held.max()) == (180, 199)


def test_the_text_is_that_of_the_standard_library() -> None:
    from pydoc_data.topics import topics

    text = data.load()
    every = bytes(text.training) + bytes(text.validation)
    assert all(topics[name].encode() in every for name in ("assert", "while"))


def test_a_short_text_is_refused() -> None:
    with pytest.raises(ValueError, match="has 30 bytes; a context of 32 needs 340"):
        data.Text.of(b"x" * 30, "x").check(32)


# The model


def naive_logits(w, tokens: list[int], heads: int) -> np.ndarray:
    """One sequence, position by position, in float64."""

    def norm(x, weight):
        return x / math.sqrt(np.mean(x * x) + 1e-6) * weight

    def turned(x, position):
        half = len(x) // 2
        pairs = [(x[i] + 1j * x[half + i]) * np.exp(1j * position * 10000.0 ** (-i / half)) for i in range(half)]
        return np.array([p.real for p in pairs] + [p.imag for p in pairs])

    stream = [w["embedding"][t] for t in tokens]
    size = len(stream[0]) // heads
    inner = [jax.tree.map(lambda leaf, i=i: leaf[i], w["middle"]) for i in range(len(w["middle"]["mlp"]["norm"]))]
    for block in [w["first"], *inner, w["last"]]:
        a, m = block["attention"], block["mlp"]
        q, k, v = (
            [part.reshape(heads, size) for part in parts]
            for parts in zip(*(np.split(norm(x, a["norm"]) @ a["qkv"], 3) for x in stream), strict=True)
        )
        mixed = []
        for i in range(len(tokens)):
            out = []
            for h in range(heads):
                score = np.array([turned(q[i][h], i) @ turned(k[j][h], j) for j in range(i + 1)]) / math.sqrt(size)
                share = np.exp(score - score.max())
                out.append(share @ [v[j][h] for j in range(i + 1)] / share.sum())
            mixed.append(np.concatenate(out))
        stream = [x + y @ a["out"] for x, y in zip(stream, mixed, strict=True)]
        hidden = [norm(x, m["norm"]) @ m["up"] for x in stream]
        gelu = [0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) for x in hidden]
        stream = [x + y @ m["down"] for x, y in zip(stream, gelu, strict=True)]
    return np.array([norm(x, w["norm"]) @ w["head"] for x in stream])


def test_the_model_is_a_transformer_computed_position_by_position() -> None:
    shape = model.Shape(width=16, layers=4, heads=2, context=6)
    parameters = model.init(shape, 3)
    wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), parameters)
    tokens = [5, 250, 0, 77, 77, 12, 99]
    expected = naive_logits(wide, tokens[:-1], 2)
    found = model.logits(parameters, jnp.asarray([tokens[:-1]]), shape)[0]
    assert np.abs(found - expected).max() < 1e-4  # float32 sums
    log_sum = np.log(np.exp(expected).sum(axis=1))
    loss = np.mean([log_sum[i] - expected[i, t] for i, t in enumerate(tokens[1:])])
    assert abs(model.loss(parameters, jnp.asarray([tokens]), shape) - loss) < 1e-5  # the same


def test_the_first_loss_is_that_of_a_guess_among_bytes() -> None:
    tokens = data.load().batch(0, 0, 4, 32)
    assert abs(model.loss(model.init(TINY, 0), tokens, TINY) - math.log(256)) < 0.2  # the head's random weights


def test_parameters_are_counted() -> None:
    shape = model.Shape(width=16, layers=3, heads=2, context=8)
    leaves = jax.tree.leaves_with_path(model.init(shape, 0))
    assert sum(leaf.size for path, leaf in leaves if "norm" not in str(path)) == shape.parameters


def test_the_model_knows_nothing_of_formats() -> None:
    source = ast.parse((ROOT / "numfmt_jax/training/model.py").read_text())
    imported = [n.module if isinstance(n, ast.ImportFrom) else n.names[0].name for n in ast.walk(source)
                if isinstance(n, ast.Import | ast.ImportFrom)]  # fmt: skip
    assert sorted(imported) == ["__future__", "dataclasses", "jax", "jax.numpy", "numpy", "typing"]


@pytest.mark.parametrize(
    ("sizes", "says"), [({"width": 30, "heads": 4}, "such as 24"), ({"layers": 0}, "layers=0"), ({"width": 4}, "such as 8")]
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        model.Shape(**sizes)


# What a recipe covers


def site_paths(layers: int) -> tuple[str, ...]:
    shape = model.Shape(width=16, layers=layers, heads=2, context=16)
    parameters = jax.eval_shape(lambda: model.init(shape, 0))
    return paths(model.loss, parameters, jax.ShapeDtypeStruct((2, 17), "int32"), shape)


def covered(name: str, layers: int, rules: plan.Rules = ()) -> set[str]:
    policy = plan.policy_for(name, layers, rules)
    chosen = {path: policy.recipe_for(path)[1] for path in site_paths(layers)}
    return {path.removesuffix("/dot_general") for path, recipe in chosen.items() if recipe is not None}


LINEAR = ("attention/qkv", "attention/out", "mlp/up", "mlp/down")


def test_every_product_of_the_model_has_a_name() -> None:
    found = [path.split("/")[:-1] for path in site_paths(5)]
    per_block = [["attention", "qkv"], ["attention", "scores"], ["attention", "mix"], ["attention", "out"],
                 ["mlp", "up"], ["mlp", "down"]]  # fmt: skip
    assert [names[:3] for names in found] == [[name, *names] for name in ("first", "middle", "last") for names in per_block] + [["head"]]


@pytest.mark.parametrize(
    ("name", "layers", "blocks"),
    [
        ("mxfp8", 4, ("first", "middle", "last")),
        ("nvfp4", 4, ("middle",)),
        ("mxfp4_sr", 3, ("middle",)),
        ("nvfp4", 2, ("first", "last")),
        ("nvfp4", 1, ("first",)),
        ("float32", 4, ()),
    ],
)
def test_recipes_cover_the_linear_layers_and_four_bits_spare_the_ends(name, layers, blocks) -> None:
    assert covered(name, layers) == {f"{block}/{linear}" for block in blocks for linear in LINEAR}


def test_rules_come_first_and_a_star_stands_alone() -> None:
    some = covered("nvfp4", 3, [("head/*", "bf16"), ("middle/mlp/*", "float32")])
    assert some == {"head", "middle/attention/qkv", "middle/attention/out"}
    assert len(covered("nvfp4", 3, [("*", "nvfp4")])) == len(site_paths(3))


@pytest.mark.parametrize(
    ("text", "says"), [("head", "PATTERN=RECIPE"), ("=bf16", "PATTERN=RECIPE"), ("head/*=bf17", "nearest: bf16")]
)
def test_bad_rules_are_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        plan.parse_rule(text)


# Runs


def test_a_run_in_float32_is_the_plain_loop(finished: SimpleNamespace) -> None:
    parameters = model.init(TINY, 0)
    state = loop.optimizer_for(SETTINGS).init(parameters)
    gradient = jax.jit(lambda parameters, tokens: jax.value_and_grad(model.loss)(parameters, tokens, TINY))
    expected = [None]
    for step in range(1, 31):
        value, slopes = gradient(parameters, TEXT.batch(0, step, 4, 32))
        parameters, state = loop.compiled_update(SETTINGS)(slopes, state, parameters)
        expected.append(float(value))
    assert [record["loss"] for record in finished.steps["float32"]] == expected


def test_a_run_can_be_repeated(finished: SimpleNamespace) -> None:
    assert losses(run("mxfp4").records()) == losses(finished.steps["mxfp4"])


def test_recipes_differ_in_their_rounding_alone(finished: SimpleNamespace) -> None:
    first = {name: finished.steps[name][1]["loss"] for name in NAMES}
    assert len(set(first.values())) == 3
    assert abs(first["bf16"] - first["float32"]) < 0.01  # eight bits of precision
    assert abs(first["mxfp4"] - first["float32"]) < 0.2  # two


@pytest.mark.parametrize("name", NAMES)
def test_training_learns(finished: SimpleNamespace, name: str) -> None:
    found = [r["validation_loss"] for r in finished.steps[name] if r["validation_loss"] is not None]
    assert [r["step"] for r in finished.steps[name]] == list(range(31))
    assert found[0] > 5
    assert found[-1] < 2.5


def test_validation_comes_at_the_steps_asked_for() -> None:
    settings = loop.Settings(TINY, batch=1, steps=7, validate_every=3)
    assert [step for step in range(8) if settings.validates(step)] == [0, 3, 6, 7]


@pytest.mark.parametrize("field", [{"steps": 0}, {"batch": -1}, {"lr": float("nan")}, {"seed": -3}])
def test_settings_out_of_range_are_refused(field: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(field))}=.* is given"):
        loop.Settings(TINY, **field)


def test_gradients_agree_with_those_of_float32_the_better_the_more_bits(finished: SimpleNamespace) -> None:
    cosine, norms = zip(*((r["gradient_cosine"], r["gradient_norm_ratio"]) for r in finished.results), strict=True)
    assert (cosine[0], norms[0]) == pytest.approx((1, 1), abs=1e-6)  # the two are compiled apart
    assert 1 > cosine[1] > 0.999 > cosine[2] > 0.7
    assert abs(norms[1] - 1) < 0.01


def test_the_gap_is_to_the_run_in_float32() -> None:
    results = [{"recipe": name, "validation_loss": v} for name, v in (("float32", 2.0), ("mxfp8", 2.1), ("x", None))]
    assert [measures.gap(results, r) for r in results] == [None, pytest.approx(0.05), None]  # a quotient of floats
    assert measures.gap(results[1:], results[1]) is None


def test_the_table_fits_a_terminal() -> None:
    result = {"recipe": "nvfp4_4over6", "loss": 2.25, "validation_loss": None, "gradient_cosine": None,
              "gradient_norm_ratio": 1.0, "ms_per_step": 12345.678}  # fmt: skip
    lines = measures.table([result])
    assert max(map(len, lines)) <= 80
    assert lines[2].split() == ["nvfp4_4over6", "2.2500", "–", "–", "–", "1.000", "12345.7"]


# Devices

DEVICES = (1, 2, 8)
SMALL = model.Shape(width=32, layers=1, heads=2, context=32)


def integers(seed: int, *shape: int) -> jax.Array:
    """Integers of which the largest makes NVFP4's tensor scale a power of two."""
    found = np.random.default_rng(seed).integers(-168, 169, shape)
    found.flat[0] = 168
    return jnp.asarray(found, jnp.float32)


def exact_loss(weights: list[jax.Array], x: jax.Array, target: jax.Array) -> jax.Array:
    """Two layers whose products sum to the same float32 in any order, rounded operands or not."""
    y = x @ weights[0]
    y = y + jax.lax.stop_gradient(jnp.clip(jnp.round(y * np.float32(2.0**-10)), -168, 168) - y)
    return jnp.sum(y @ weights[1] * target)


@pytest.mark.parametrize("name", [None, "mxfp8", "mxfp4", pytest.param("nvfp4", marks=pytest.mark.nightly)])
def test_the_first_step_has_the_same_operands_on_any_number_of_devices(name: str | None) -> None:
    weights, x, target = [integers(0, 64, 64), integers(1, 64, 64)], integers(2, 64, 64), integers(3, 64, 64)
    rounded = emulate(exact_loss, {"*": name}, key=jax.random.key(5))
    traced = jax.make_jaxpr(jax.value_and_grad(rounded))(weights, x, target)
    found = {}
    for devices in DEVICES:
        whole, divided = loop.placements(loop.Settings(SMALL, devices=devices))
        operands = jax.jit(lambda *given: operands_of_products(traced, given), in_shardings=(whole, divided, divided))
        found[devices] = operands(weights, x, target)
    assert len(found[1]) == 2 * (5 if name is None else 6)  # nothing needs the gradient of x; lax leaves its product out
    for devices in DEVICES:
        for place, pair in enumerate(zip(found[devices], found[1], strict=True)):
            same(*pair, f"{devices} devices, operand {place}")


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["float32", "mxfp8"])
def test_losses_on_any_number_of_devices_are_close(name: str) -> None:
    settings = [loop.Settings(SMALL, steps=8, devices=devices) for devices in DEVICES]
    found = [[record["loss"] for record in run(name, each).records()][1:] for each in settings]
    near = 1e-5 if name == "float32" else 2e-3  # float32 sums in another order, on whose last bit a rounding may turn
    for ours in found[1:]:
        assert ours == pytest.approx(found[0], rel=near)  # the same sums


def test_devices_that_do_not_divide_a_batch_or_are_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="a batch of 8 is given; 3 devices divide a multiple of 3, such as 9"):
        loop.Settings(SMALL, devices=3)
    with pytest.raises(ValueError, match=r"64 devices are asked for .*xla_force_host_platform_device_count=64"):
        command.prepare(["float32"], loop.Settings(SMALL, batch=64, devices=64), TEXT)


# Logs


def test_a_log_is_what_was_written(tmp_path: Path) -> None:
    with Log(tmp_path / "x.jsonl") as log:
        log.write({"record": "step", "loss": 1.5, "text": "ä\n"})
        log.write({"record": "step", "loss": float("inf")})
        assert read(tmp_path / "x.jsonl") == log.records  # before it is closed
    assert log.records[1]["loss"] is None


class Breaking(io.RawIOBase):
    """A file that takes ten bytes at a time and breaks after some."""

    def __init__(self, limit: int) -> None:
        self.held, self.limit = io.BytesIO(), limit

    def write(self, content) -> int:
        if self.held.tell() >= self.limit:
            raise KeyboardInterrupt
        return self.held.write(bytes(content[:10]))

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.held.tell()

    def seek(self, position: int, whence: int = 0) -> int:
        return self.held.seek(position)

    def truncate(self, size: int | None = None) -> int:
        return self.held.truncate(size)


@pytest.mark.parametrize("limit", [100, 110, 130])
def test_a_line_that_is_not_written_whole_is_taken_back(limit: int) -> None:
    log = Log()
    log._file = broken = Breaking(limit)
    with suppress(KeyboardInterrupt):
        for step in range(100):
            log.write({"record": "step", "step": step, "loss": 1 / 3})
    assert len(log.records) < 100
    broken.limit = 10**9
    log.write({"record": "interrupted"})
    lines = broken.held.getvalue().decode().splitlines()
    assert [json.loads(line) for line in lines] == log.records
    assert [json.loads(line)["record"] for line in lines[:-1]] == ["step"] * (len(lines) - 1)


def started(tmp_path: Path, *arguments: str) -> tuple[subprocess.Popen[str], Path]:
    """A training of its own process that has logged a few steps."""
    log = tmp_path / "run.jsonl"
    sizes = ["--width", "16", "--layers", "1", "--heads", "1", "--context", "16", "--batch", "1", "--steps", "1000000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "numfmt_jax", "train", "--recipe", "float32", *sizes, "--log", str(log), *arguments],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        with suppress(FileNotFoundError):
            if log.read_bytes().count(b'"record": "step"') > 5:
                return process, log
        time.sleep(0.05)
    process.kill()
    raise AssertionError(f"no steps: {process.communicate()[1]}")


def test_an_interrupt_ends_the_log_with_a_clean_line_and_draws_the_figure(tmp_path: Path) -> None:
    process, log = started(tmp_path, "--figure", str(tmp_path / "run.png"))
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert error.splitlines()[-1] == "numfmt_jax: interrupted"
    assert "Traceback" not in error
    records = read(log)
    assert [r["record"] for r in records[:2]] == ["run", "receipt"]
    steps = [r["step"] for r in records if r["record"] == "step"]
    assert steps == list(range(len(steps)))
    assert records[-1] == {"record": "interrupted", "after": {"recipe": "float32", "step": steps[-1]}}
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")


def test_an_interrupt_whose_exception_is_lost_is_raised_at_the_next_step() -> None:
    before = signal.getsignal(signal.SIGINT)  # a run in the background may have inherited one that ignores
    with command.Interrupts() as interrupts:
        interrupts.check()
        with suppress(KeyboardInterrupt):  # as a finalizer does
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_killed_run_leaves_whole_lines(tmp_path: Path) -> None:
    process, log = started(tmp_path)
    process.kill()
    process.communicate()
    assert log.read_bytes().endswith(b"\n")
    assert {r["record"] for r in read(log)} == {"run", "receipt", "step"}


def test_a_log_holds_settings_receipts_steps_and_results(finished: SimpleNamespace) -> None:
    records = read(finished.path)
    own = ["receipt", *["step"] * 31, "result"]
    assert [record["record"] for record in records] == ["run", *own, *own, *own]
    head = records[0]
    assert (head["recipes"], head["width"], head["text"], head["seed"]) == (list(NAMES), 32, "foxes", 0)
    assert head["policies"]["bf16"][-1] == ["*", "bf16"]
    assert {"numfmt", "jax", "jaxlib", "optax", "numpy", "python"} <= set(head["versions"])
    sites = {site["path"]: site["recipe"] for site in records[1 + len(own)]["sites"]}
    assert sites["first/mlp/up/dot_general"] == "bf16"
    assert sites["head/dot_general"] is None
    assert records[-1] == finished.results[-1]


def test_what_is_shown_has_the_receipts_asked_for_and_the_results(finished: SimpleNamespace) -> None:
    assert "bf16: 7 products, 4 with a recipe" in finished.shown
    receipts = finished.shown.partition("mxfp4: 7 products")
    assert [part.count("wgrad.grad") for part in receipts] == [0, 0, 1]
    table = finished.shown[finished.shown.index("recipe   ") :].splitlines()
    assert [line.split()[0] for line in table[2:5]] == list(NAMES)
    assert [("%" in line) for line in table[2:5]] == [False, True, True]


def test_a_bar_is_drawn_on_a_terminal_and_is_gone_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = command.Screen()
    screen.bar = True
    monkeypatch.setattr(time, "monotonic", iter(range(100)).__next__)
    screen.begin(run("float32"), command.receipt_of(run("float32")))
    for step, validation in ((0, 5.0), (1, None), (15, None), (30, 3.0)):
        screen.show({"step": step, "loss": None if step == 0 else 4.0, "validation_loss": validation})
    err = capsys.readouterr().err
    assert "float32: compiling" in err
    assert "[############............] 15/30  loss 4.000" in err
    assert err.endswith("\r\x1b[K")


# The figure


def records_of(*names: str) -> list[dict[str, object]]:
    return [
        {"record": "step", "recipe": name, "step": step, "loss": 5.0 / (step + 1 + i), "validation_loss": 4.0 + i if step % 2 == 0 else None}
        for i, name in enumerate(names)
        for step in range(7)
    ]  # fmt: skip


def test_gaps_are_percents_above_float32() -> None:
    validation = figure.curves(records_of("float32", "nvfp4"), "validation_loss")
    assert list(validation["nvfp4"]) == [(0, 5.0), (2, 5.0), (4, 5.0), (6, 5.0)]
    assert figure.gaps(validation) == {"nvfp4": [(0, 25.0), (2, 25.0), (4, 25.0), (6, 25.0)]}
    assert figure.gaps(figure.curves(records_of("nvfp4"), "validation_loss")) == {"nvfp4": []}


@pytest.mark.parametrize("names", [("float32", "mxfp8", "nvfp4"), ("nvfp4",), ()])
def test_a_figure_is_drawn_of_any_log(tmp_path: Path, names: tuple[str, ...]) -> None:
    figure.draw(records_of(*names), tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
