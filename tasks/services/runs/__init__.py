"""Runs: what starts one beside its tree, what cancels it, and those that wait for each other."""
