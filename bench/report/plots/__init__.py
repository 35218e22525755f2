"""Pictures in files: a roofline, memory over time, accuracy over ratios. Imports report.terminal, measure and below."""
