"""Published figures with their sources, and the verdict on a reproduction. Imports records and below."""
