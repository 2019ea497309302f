"""`python -m aipartnerupflow` runs the command `aipartnerupflow`."""

from aipartnerupflow.cli import main

main()
