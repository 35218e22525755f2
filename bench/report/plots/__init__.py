"""Pictures of a single result: a roofline, memory over time. Reads records only."""
