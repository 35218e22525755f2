"""Pictures of a single result: a roofline, memory over time. Imports measure and below."""
