"""A2A 0.3, translated from and to version 1.0."""
