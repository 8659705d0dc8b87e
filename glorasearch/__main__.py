"""`python -m glorasearch`."""

from glorasearch.cli.main import main

main()
