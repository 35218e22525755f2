"""Forms of one computation side by side: time, memory, numerical difference. Imports suites and below."""
