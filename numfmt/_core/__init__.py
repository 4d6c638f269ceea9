"""Rounding kernels: integer codes in, integer codes out, on any array engine.

A kernel is an ordinary function of integers. It uses operators and `xp.where`, `xp.minimum`,
`xp.maximum`, and never asks what `xp` is: NumPy and `jax.numpy` run it on whole arrays, Numba as the
body of a loop, plain Python on integers of any width. Arguments named `xp` are that namespace.

Rules that keep the engines equal (tests/core/test_engines.py):
every value fits the carrier's signed integer, so that wrapping and widening engines agree; shift
counts stay below the carrier's width; `where` has at least one array branch.
"""
