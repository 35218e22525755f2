"""Sweeps: many cells from one file, each run in a process of its own and kept as a record. Imports suites and below."""
