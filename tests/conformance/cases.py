"""The conformance table: one record per instruction, its operand types and attributes per ring.

A new protocol needs no new tests: every record runs on every protocol and ring.
"""

from __future__ import annotations

import local_cases  # noqa: F401  # adds its records
import talking_cases  # noqa: F401
from records import RECORDS, RINGS, variants

__all__ = ["RECORDS", "RINGS", "variants"]
