"""Models on federated data."""
