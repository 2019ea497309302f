"""Imports the trees of the predecessor, aipartnerupflow 0.9 and apflow 0.18, with their statuses and results.

`sources` and `download` read, `translation` makes our tasks of its rows, `importer` stores them.
"""
