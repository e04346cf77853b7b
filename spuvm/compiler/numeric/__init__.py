"""Numeric algorithms as functions on a Lowering and value ids, one family per file.

For every representable input whose result is representable, with f fraction bits,
``|got - want| <= tol * max(1, |want|)``, tol = 2^-(f-6) (2^-4 for f = 8, not below 2^-22), whatever
way truncations round; monotone functions drop by at most 8 units of 2^-f max(1, |value|). This
holds up to f = 26 in the ring of 64 bits and f = 10 in that of 32; beyond, products of two values
of f bits leave no room for more precision, and errors grow to some hundred units.

Results that leave the range saturate. x / 0 is the largest number with the sign of x, 0 / 0 is 0,
log(x <= 0) is -2^((k-2-f)/2) for minus infinity (docs/adr/0018), sqrt(x <= 0) is 0, rsqrt(x <= 0)
that of 2^-f. Bounds that are known of an operand leave out comparisons, stages of a normalisation
and degrees of polynomials.
"""
