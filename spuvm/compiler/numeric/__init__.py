"""Numeric algorithms as functions on a Lowering and value ids, one family per file."""
