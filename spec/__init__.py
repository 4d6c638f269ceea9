"""The judge: an independent, slow and short statement of every format. It imports nothing of numfmt."""
