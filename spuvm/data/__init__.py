"""Federated data: tables and arrays whose partitions stay with their owners."""
