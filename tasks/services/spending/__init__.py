"""Spending: what model calls used, and what each user may use."""
