"""The training program of `python -m numfmt_jax train`: a byte-level transformer under any recipe.

    data.py      bytes of a text, and the batch of each step
    model.py     parameters and the one loss function
    plan.py      which products a recipe covers
    loop.py      the optimizer and the steps
    log.py       records, one a line
    measures.py  what a recipe costs: loss and gradients beside those of float32
    figure.py    the curves
    command.py   the command
"""
