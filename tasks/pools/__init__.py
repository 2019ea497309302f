"""Pools: where the work of tasks runs. The worker stays the one that knows trees, keys and the database."""
