"""Pools: where the work of tasks runs. The worker stays the one that knows trees, keys and the database.

A process of a pool gets the inputs of one task, and only the secrets that these name. It may hang, leak or die: the worker
ends it, and the task fails with the reason. Its prints are logged with the ids of its task.

Never: a connection to the database, or the environment's secrets, in a process of a pool.
"""
