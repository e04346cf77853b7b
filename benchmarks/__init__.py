"""Benchmarks: our cases, the same cases on SPU, a speed of light, and the throughput suite."""
