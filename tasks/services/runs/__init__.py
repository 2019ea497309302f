"""Runs: their inputs and tags, what cancels them, and runs that wait for each other."""
