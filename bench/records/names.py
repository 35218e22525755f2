"""Names that the records of memory share, measured and predicted, so that the two compare."""

SUITE = "memory"
LEVELS = ("requested", "allocated", "active", "reserved")
"""Of a CUDA allocator, from below; none is larger than the next."""
STEPS = ("first", "steady")
