"""Runs graphs of LangGraph. Only `executor` and `allowed` are imported outside of the processes that run them."""
