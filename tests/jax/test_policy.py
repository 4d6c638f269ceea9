"""Policies: patterns, their order, what is refused."""

import pytest

from numfmt_jax import Gemm, Operand, Policy, Recipe, Value
from numfmt_jax.policy import as_policy, nearest

FP8 = Recipe(Gemm("e4m3fn", "e4m3fn"), name="fp8")


def test_the_first_pattern_that_matches_decides():
    policy = Policy({"mlp/fc1/*": None, "mlp/*": FP8, "*": None})
    assert policy.recipe_for("mlp/fc1/dot_general") == ("mlp/fc1/*", None)
    assert policy.recipe_for("mlp/fc2/dot_general") == ("mlp/*", FP8)
    assert policy.recipe_for("head/dot_general") == ("*", None)
    assert Policy({"mlp/*": FP8}).recipe_for("head/dot_general") == (None, None)


def test_a_star_crosses_slashes_and_case_counts():
    policy = Policy({"*/fc1/*": FP8})
    assert policy.recipe_for("a/b/fc1/dot_general")[0] == "*/fc1/*"
    assert policy.recipe_for("a/b/FC1/dot_general")[0] is None


def test_a_path_is_a_pattern_of_itself_whatever_it_holds():
    assert Policy({"layers[0]/dot_general": FP8}).recipe_for("layers[0]/dot_general")[1] == FP8


def test_policies_are_hashable_and_equal_by_content():
    assert Policy({"*": FP8}) == Policy([("*", FP8)])
    assert len({Policy({"*": FP8}), Policy({"*": FP8}), Policy({"*": None})}) == 2
    with pytest.raises(AttributeError):
        Policy({"*": FP8}).products = ()


def test_repr_shows_names():
    policy = Policy({"a/*": "mxfp8", "*": None}, values={"*/exp": "bf16"}, custom_vjp="rewrite")
    assert repr(policy) == ("Policy({'a/*': 'mxfp8', '*': None}, values={'*/exp': 'bfloat16'}, custom_vjp='rewrite')")
    assert eval(repr(policy)) == policy


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(ValueError, match="mxfp8"):
        Policy({"*": "mxfp88"})


def test_an_unknown_format_names_the_nearest():
    with pytest.raises(ValueError, match="e4m3fn"):
        Policy(values={"*": "e4m3fnn"})


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"*": None, "mlp/*": None}, "goes last"),
        ([("a", None), ("a", FP8)], "twice"),
        ({"": None}, "a pattern is a path or a glob"),
        ({3: None}, "a pattern is a path or a glob"),
    ],
)
def test_patterns_are_checked_when_the_policy_is_made(rules, message):
    with pytest.raises(ValueError, match=message):
        Policy(rules)


def test_custom_vjp_is_checked():
    with pytest.raises(ValueError, match="rewrite"):
        Policy({"*": FP8}, custom_vjp="rewrit")


def test_one_recipe_is_a_policy_for_every_product():
    assert as_policy(FP8) == as_policy({"*": FP8}) == Policy({"*": FP8})
    assert as_policy("mxfp8") == Policy({"*": "mxfp8"})
    assert as_policy(None) == Policy({"*": None})
    with pytest.raises(TypeError, match="Policy"):
        as_policy(3)


def test_values_are_formats_with_their_options():
    value = Value("mxfp8", axis=[0])
    assert value.axis == (0,)
    assert not value.needs_key
    assert Value("e4m3fn", rounding="stochastic").needs_key
    assert Policy(values={"*": "bf16"}).value_for("a/exp")[1] == Value("bfloat16")
    assert Policy(values={"*": None}).value_for("a/exp") == ("*", None)
    with pytest.raises(ValueError, match="straight_through"):
        Value("bf16", gradient="straight")


def test_nearest_paths_come_first():
    paths = ["a/dot_general", "mlp/fc1/dot_general", "z/conv"]
    assert nearest("mpl/fc1/dot_general", paths).startswith("mlp/fc1/dot_general")
    assert nearest("x", [str(i) for i in range(20)]).endswith("and 8 more")
    assert nearest("x", []) == "none"


def test_operands_of_recipes_are_not_values():
    with pytest.raises((TypeError, ValueError)):
        Policy(values={"*": Operand("e4m3fn")})
