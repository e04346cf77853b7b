"""Sorting by a network of compare-exchanges on whole slices; nothing is opened."""

from __future__ import annotations
