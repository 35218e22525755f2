"""The etad-bench command line: one module a command."""
