"""Names that the records of memory share, measured and predicted, so that the two compare."""

SUITE = "memory"
LEVELS = ("requested", "allocated", "active", "reserved")
STEPS = ("first", "steady")
