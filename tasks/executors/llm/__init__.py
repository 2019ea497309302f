"""Talking to language models: one way out for all executors that need one."""
