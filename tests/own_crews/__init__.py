"""Crews and a flow as people write them with CrewAI; imported in worker processes only."""
