"""The older import path of `aipartnerupflow.executors.on_a_thread`, for plug-ins that are installed already."""

from aipartnerupflow.executors import on_a_thread

__all__ = ["on_a_thread"]
