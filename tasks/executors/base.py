"""The older import path of `aipartnerupflow.executors`, for plug-ins that are installed already. The objects are the same."""

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json, Parked, Reply, Stopped

__all__ = ["Context", "Executor", "ExecutorError", "Json", "Parked", "Reply", "Stopped"]
