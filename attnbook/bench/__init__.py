"""Benchmarks: the fast paths against the readable one, as ratios within one run."""
