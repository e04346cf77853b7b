"""How a key holder recovers a column from masks that skip low bits.

The key holder knows the residuals r (it has the labels, or decrypts them) and sees x^T r + mask for
a batch, once per epoch. Where masks are multiples of 2^26, the low 26 bits are a linear equation
modulo 2^26 in the encoded entries x of the batch. As many epochs as rows, and a few more, give x
modulo 2^26, which is x: encoded features are shorter than that.
"""

import numpy as np

BITS = 26  # of which the known implementation's masks were multiples


def recovered(residuals, masked, bits=BITS):
    """Solve residuals @ x = masked modulo 2^bits; None when the equations have no unique solution.

    residuals [epochs, rows] and masked [epochs] are integers; x comes back as signed integers.
    """
    modulus = 1 << bits
    rows = [
        [int(v) % modulus for v in r] + [int(m) % modulus]
        for r, m in zip(residuals, masked, strict=True)
    ]
    unknowns = len(residuals[0])
    for place in range(unknowns):
        pivot = next((i for i in range(place, len(rows)) if rows[i][place] & 1), None)
        if pivot is None:
            return None
        rows[place], rows[pivot] = rows[pivot], rows[place]
        inverse = pow(rows[place][place], -1, modulus)
        rows[place] = [v * inverse % modulus for v in rows[place]]
        for i, row in enumerate(rows):
            if i != place and row[place]:
                factor = row[place]
                rows[i] = [
                    (v - factor * p) % modulus for v, p in zip(row, rows[place], strict=True)
                ]
    found = np.array([row[unknowns] for row in rows[:unknowns]], np.int64)
    return np.where(found >= modulus // 2, found - modulus, found)
