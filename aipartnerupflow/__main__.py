"""`python -m aipartnerupflow` is the command itself."""

from aipartnerupflow.cli import main

main()
