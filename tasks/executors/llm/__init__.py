"""Calls of language models, for all executors that use one."""
