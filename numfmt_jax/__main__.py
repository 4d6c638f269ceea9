"""`python -m numfmt_jax`: training under recipes, and the recipes there are."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
