"""Exponential, logarithmic and logistic functions, roots, quotients, real powers.

Rules: exp, exp2, expm1, log, log1p, logistic, tanh, div, sqrt, rsqrt, cbrt, pow. The algorithms are
in compiler/numeric, one per file; here they meet JAX's dtypes and public operands.
"""

from __future__ import annotations
