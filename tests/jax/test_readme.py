"""The JAX examples of the README run as they stand, and their step is emulated."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("## In JAX\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)


def world():
    rng = np.random.default_rng(0)

    def matrix(*shape):
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    layer = {"w": matrix(64, 64) / 8, "b": jnp.zeros(64)}
    return {
        "jax": jax, "jnp": jnp, "params": [layer, dict(layer)], "x": matrix(32, 64), "y": matrix(32, 64),
        "w": matrix(64, 32), "key": jax.random.key(1),
    }  # fmt: skip


def test_there_are_five_examples():
    assert len(BLOCKS) == 5


def test_a_raw_step_changes_by_three_lines(capsys):
    names = world()
    exec(BLOCKS[0], names)
    plain, _ = names["step"](names["params"], names["x"], names["y"], names["key"])
    exec(BLOCKS[1], names)
    emulated, _ = names["step"](names["params"], names["x"], names["y"], names["key"])
    assert not np.array_equal(emulated[1]["w"], plain[1]["w"])
    before, after = (re.findall(r".*\S.*", block) for block in BLOCKS[:2])
    assert len([line for line in after if line not in before]) == 3
    exec(BLOCKS[4], names)
    assert "layer1/dot_general" in capsys.readouterr().out
    assert names["report"]["layer1/dot_general"]["wgrad.grad"].as_dict()["sqnr_db"] > 5


def test_a_typo_in_a_pattern_lists_the_paths():
    names = world()
    exec(BLOCKS[0], names)
    exec(BLOCKS[1], names)
    nj = names["nj"]
    with pytest.raises(nj.UnmatchedError, match=r"'layr0/\*' matches no product; the paths are layer0/dot_general"):
        nj.emulate(names["loss"], nj.Policy({"layr0/*": None, "*": "mxfp8"}))(names["params"], names["x"], names["y"])


@pytest.mark.nightly  # compiling NVFP4 for every layer takes most of a minute
@pytest.mark.parametrize(("block", "package", "call"), [
    (2, "flax", "grads(model, x, y)"), (3, "equinox", "grads_of(net, x, y)"),
])  # fmt: skip
def test_frameworks(block, package, call):
    pytest.importorskip(package, reason=f"{package} is not installed")
    names = world()
    exec(BLOCKS[1].partition("policy =")[0], names)
    exec(BLOCKS[block], names)
    leaves = jax.tree.leaves(eval(call, names))
    assert leaves
    assert all(np.isfinite(leaf).all() for leaf in leaves)
