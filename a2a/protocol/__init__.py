"""A2A 1.0 and 0.3: operations on objects of 1.0, with layers for version 0.3 and each binding."""
