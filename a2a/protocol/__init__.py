"""A2A 1.0 and 0.3: one set of operations on objects of 1.0, and thin layers for the older version and for each binding."""
