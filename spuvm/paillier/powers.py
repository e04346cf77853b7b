"""Products of powers modulo n^2: what sums of ciphertexts times integers are."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import gmpy2
from gmpy2 import mpz

from spuvm.paillier.cores import in_pieces

BLOCK = 256  # bases whose tables are held at a time: 256 tables of 2^5 numbers are 4 MB


def product(factors: Sequence[mpz], modulus: mpz) -> mpz:
    """The product of all factors; 1 for none."""
    result = mpz(1)
    for factor in factors:
        result = result * factor % modulus
    return result


def products(groups: Sequence[Sequence[mpz]], modulus: mpz) -> list[mpz]:
    """The product of every group; 1 for an empty one."""
    if len(groups) > 1 or not groups:
        return in_pieces(lambda part: [product(group, modulus) for group in part], groups)
    parts = in_pieces(lambda part: [product(part, modulus)], groups[0])
    return [product(parts, modulus)]


def scattered_products(
    places: Sequence[int], rows: Sequence[Sequence[mpz]], count: int, width: int, modulus: mpz
) -> list[mpz]:
    """[count * width]: element (b, i) is the product of rows[j][i] over all j with places[j] = b.

    Every core takes as many rows as the others and every row costs the same, wherever it goes: the
    time tells nothing of the places. 1 is 1 + modulus, see _tables.
    """

    def piece(part: Sequence[tuple[int, Sequence[mpz]]]) -> list[list[mpz]]:
        made = [modulus + 1] * (count * width)
        for place, row in part:
            for i, factor in enumerate(row, place * width):
                made[i] = made[i] * factor % modulus
        return [made]

    total = [modulus + 1] * (count * width)
    for made in in_pieces(piece, list(zip(places, rows, strict=True))):
        total = pairwise(total, made, modulus)
    return total


def pairwise(a: Sequence[mpz], b: Sequence[mpz], modulus: mpz) -> list[mpz]:
    """a_i b_i for every i."""

    def piece(part: Sequence[tuple[mpz, mpz]]) -> list[mpz]:
        return [x * y % modulus for x, y in part]

    pairs = list(zip(a, b, strict=True))
    return in_pieces(piece, pairs) if len(pairs) >= BLOCK else piece(pairs)


def power(bases: Sequence[mpz], exponent: int, modulus: mpz) -> list[mpz]:
    """Every base to the same exponent, which may be negative."""
    if exponent == 1:
        return list(bases)
    if exponent < 0:
        bases, exponent = inverses(bases, modulus), -exponent

    def piece(part: Sequence[mpz]) -> list[mpz]:
        raised: list[mpz] = gmpy2.powmod_base_list(list(part), mpz(exponent), modulus)
        return raised

    return in_pieces(piece, bases)


def inverses(values: Sequence[mpz], modulus: mpz) -> list[mpz]:
    """Inverses of units, by one inversion and three products each (Montgomery 1987, section 10)."""
    if not values:
        return []
    before = [mpz(1)]
    for value in values:
        before.append(before[-1] * value % modulus)
    rest = gmpy2.invert(before[-1], modulus)
    found = []
    for value, left in zip(reversed(values), reversed(before[:-1]), strict=True):
        found.append(rest * left % modulus)
        rest = rest * value % modulus
    return found[::-1]


def powers(bases: Sequence[mpz], exponents: Sequence[int], bits: int, modulus: mpz) -> list[mpz]:
    """Every base to its own exponent e, |e| < 2^bits; negative ones by the base's inverse.

    The work depends on `bits` alone: an odd number next to |e| is written with odd digits of either
    sign, none of which is 0 (Joye, Tunstall 2009, "Exponent recoding and regular exponentiation
    algorithms", section 3), and what it is too large is divided out.
    """
    window = _window(1, bits + 2)
    places = -(-(bits + 2) // window)
    square = 1 << window

    def piece(part: Sequence[tuple[mpz, mpz, int]]) -> list[mpz]:
        found = []
        for base, inverse, e in part:
            up, down = (inverse, base) if e < 0 else (base, inverse)
            positive, negative = (_odd_powers(one, window, modulus) for one in (up, down))
            surplus = 1 + (e & 1)
            *digits, top = _odd_digits(abs(e) + surplus, window, places)
            total = positive[top >> 1]
            for d in reversed(digits):
                factor = positive[d >> 1] if d > 0 else negative[-d >> 1]
                total = gmpy2.powmod(total, square, modulus) * factor % modulus
            found.append(total * (down, down * down % modulus)[surplus - 1] % modulus)
        return found

    return in_pieces(piece, list(zip(bases, inverses(bases, modulus), exponents, strict=True)))


def weighted_products(
    bases: Sequence[mpz], weights: Sequence[Sequence[int]], bits: int, modulus: mpz
) -> list[mpz]:
    """For every row w of `weights`: the product of bases[i]^w[i], for |w[i]| < 2^bits.

    Straus' simultaneous powers (1964; Handbook of Applied Cryptography 14.88): all rows share the
    tables of small powers and each row does its squarings once. Signs: the exponents used are
    w + 2^bits, and the product of all bases to 2^bits is divided out once. The work depends on
    `bits` and the shape alone, never on the weights.
    """
    if not bases:
        return [mpz(1)] * len(weights)
    totals = [mpz(1)] * len(weights)
    window = _window(len(weights), bits + 1)
    for start in range(0, len(bases), BLOCK):
        part = bases[start : start + BLOCK]
        tables = in_pieces(functools.partial(_tables, window=window, modulus=modulus), part)
        rows = [[int(w) + (1 << bits) for w in row[start : start + BLOCK]] for row in weights]
        work = functools.partial(
            _straus, tables=tables, bits=bits + 1, window=window, modulus=modulus
        )
        found = in_pieces(work, rows)
        totals = [a * b % modulus for a, b in zip(totals, found, strict=True)]
    shift = gmpy2.powmod(product(bases, modulus), mpz(1) << bits, modulus)
    correction = gmpy2.invert(shift, modulus)
    return [total * correction % modulus for total in totals]


def _odd_powers(base: mpz, window: int, modulus: mpz) -> list[mpz]:
    """base^1, base^3, ... base^(2^window - 1)."""
    row, square = [base], base * base % modulus
    for _ in range((1 << (window - 1)) - 1):
        row.append(row[-1] * square % modulus)
    return row


def _odd_digits(odd: int, window: int, places: int) -> list[int]:
    """Lowest first: sum d_i 2^(window i), all d_i odd, |d_i| < 2^window, the last one positive."""
    found = []
    for _ in range(places - 1):
        digit = (odd & ((2 << window) - 1)) - (1 << window)
        found.append(digit)
        odd = (odd - digit) >> window
    return [*found, odd]


def _tables(bases: Sequence[mpz], window: int, modulus: mpz) -> list[list[mpz]]:
    """Powers 0 to 2^window - 1 of every base; 1 is written as 1 + modulus.

    It is as long as the others, so that a product with it takes as long: with a plain 1, small
    exponents would show in the time.
    """
    found = []
    for base in bases:
        row = [modulus + 1, base]
        for _ in range((1 << window) - 2):
            row.append(row[-1] * base % modulus)
        found.append(row)
    return found


def _straus(
    rows: Sequence[Sequence[int]],
    tables: Sequence[Sequence[mpz]],
    bits: int,
    window: int,
    modulus: mpz,
) -> list[mpz]:
    """For every row of exponents below 2^bits: the product of the bases to these powers."""
    found = []
    digit = (1 << window) - 1
    top = (-(-bits // window) - 1) * window
    square = 1 << window
    for exponents in rows:
        total = mpz(1)
        for shift in range(top, -1, -window):
            total = gmpy2.powmod(total, square, modulus)
            for table, exponent in zip(tables, exponents, strict=True):
                total = total * table[exponent >> shift & digit] % modulus
        found.append(total)
    return found


def _window(rows: int, bits: int) -> int:
    """The window with the fewest products per base: 2^w for its table, bits/w for each row."""
    return min(range(1, 9), key=lambda w: (1 << w) + rows * -(-bits // w))
