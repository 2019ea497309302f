"""Imports the trees of the predecessor, aipartnerupflow 0.9 and apflow 0.18, with their statuses and results.

`sources` reads a database or a running server, `importer` makes our tasks of its rows and stores them.
"""
