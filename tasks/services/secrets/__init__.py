"""Secrets: what users and machines keep, and what is encrypted in the inputs of tasks."""
