"""spuvm: secure three-party computation for people who write JAX."""

__version__ = "0.1.0"
