"""Upkeep: what the installation does for itself, and what operators ask about it."""
