r"""Golden vectors: rows of operands, results and flags, made, written, read, checked and measured.

>>> import io
>>> from numfmt import vectors
>>> answers = io.BytesIO(b"3C 3D 42 01\n3C 3D 41 01\n")    # of a device: operands, result, flags
>>> report = vectors.check(answers, "e4m3fn_mul")
>>> report.mismatches, report.examples[0].cause
(1, 'wrong rounding direction')
"""

from .checking import Report, check, cover
from .functions import Function, Rules, evaluate, functions_of, parse
from .generating import generate, write
from .rows import Rows, VectorFileError
from .telling import mutants
from .unit_functions import unit_dot
from .unit_mutants import Verdict

__all__ = [
    "Function",
    "Report",
    "Rows",
    "Rules",
    "VectorFileError",
    "Verdict",
    "check",
    "cover",
    "evaluate",
    "functions_of",
    "generate",
    "mutants",
    "parse",
    "unit_dot",
    "write",
]
