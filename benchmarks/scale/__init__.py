"""Benchmarks with large databases: how the cost of requests grows with the number of rows."""
