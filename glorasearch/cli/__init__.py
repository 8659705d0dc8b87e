"""The command line: options and tables; the work is done by `runs`."""
