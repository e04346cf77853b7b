"""Links between parties."""
