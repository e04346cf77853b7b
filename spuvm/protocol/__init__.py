"""Protocols: what parties do with shares."""
