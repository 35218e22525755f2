"""What releases of torch do otherwise with a GPU's memory: the first release that does a thing as it is done today."""

Release = tuple[int, int]
"""(2, 15) for torch 2.15.0."""


def release_of(version: str) -> Release:
    """Return the release in a version: (2, 15) for "2.15.0+cu132"."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


PREFERS_OLDEST_SEGMENT: Release = (2, 13)
"""Of equally large free blocks the allocator takes that of the oldest segment; before, that of the lowest address
(pytorch/pytorch#183591)."""

RETURNS_WORKSPACE: Release = (2, 15)
"""A matrix product gives cuBLAS's workspace back to the allocator; before, each thread, handle and stream kept one."""
