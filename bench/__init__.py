"""Benchmarks: each figure stands beside its reference from the same run. `make bench`."""
