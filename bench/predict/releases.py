"""What releases of torch do otherwise with a GPU's memory: the first release that does a thing as it is done today."""

Release = tuple[int, int]
"""(2, 15) for torch 2.15.0."""


def release_of(version: str) -> Release:
    """Return the release in a version: (2, 15) for "2.15.0+cu132"."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


PREFERS_OLDEST_SEGMENT: Release = (2, 12)
"""Of equally large free blocks the allocator takes that of the oldest segment; before, that of the lowest address
(pytorch/pytorch#183591 and what came before it; seen in the compiled allocators of 2.11 and 2.12)."""

RETURNS_WORKSPACE: Release = (2, 15)
"""A matrix product gives cuBLAS's workspace back to the allocator; before, each thread, handle and stream kept one."""

LARGE_WORKSPACE_FROM_CAPABILITY_11: Release = (2, 13)
"""cuBLAS's workspace is 32 MiB on compute capability 11, too; seen in torch 2.14, not in 2.12."""

ONE_WORKSPACE_FOR_BOTH: Release = (2, 12)
"""cuBLASLt works in cuBLAS's workspace; before, it kept 1 MiB of its own beside it (seen in torch 2.11)."""

LARGE_WORKSPACE_FROM_CAPABILITY_10: Release = (2, 12)
"""cuBLAS's workspace is 32 MiB on compute capabilities 10 and 12 as on 9; seen in torch 2.12, not in 2.11."""

WORKSPACE_FROM_ALLOCATOR: Release = (2, 0)
"""cuBLAS's workspace comes from the caching allocator (pytorch/pytorch#83461 of August 2022, landed again as #86645);
before, cuBLAS had its own, which no counter of torch shows."""

FOREACH_BY_DEFAULT: Release = (2, 0)
"""Optimizers work on all tensors of a group at once; before, tensor by tensor (pytorch/pytorch#92306, #95862)."""

GRADIENTS_SET_TO_NONE: Release = (2, 0)
"""``zero_grad`` gives gradients up; before, it kept them and wrote zeros (pytorch/pytorch#92731)."""

SOFTMAX_KEEPS_RESULT_ALONE: Release = (1, 11)
"""Softmax keeps its result for the backward pass; before, its input, too (pytorch/pytorch#65242)."""

HARDTANH_KEEPS_INPUT: Release = (1, 10)
"""In place, hardtanh (and so ReLU6) keeps a copy of its input; before, its result (pytorch/pytorch#62329, #95432)."""
