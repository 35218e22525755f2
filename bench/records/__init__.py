"""The result record, the folder of records, and what reads, checks and exports them. Imports machine and below."""
