"""Paillier's encryption of arrays: keys, ciphertext arithmetic, packing, the form that travels."""
