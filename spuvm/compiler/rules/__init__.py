"""Lowering rules, one file per family of primitives."""
