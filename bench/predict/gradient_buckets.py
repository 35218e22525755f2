"""The buckets in which DistributedDataParallel sends gradients, and which it holds from its construction on."""

from collections.abc import Iterable

from bench.units import MIB

FIRST_BYTES, BYTES = MIB, 25 * MIB
"""A bucket is closed once it has so much (torch/nn/parallel/distributed.py, ``bucket_cap_mb``;
torch/csrc/distributed/c10d/reducer.cpp, ``compute_bucket_assignment_by_size``)."""


def bucket_bytes(gradient_bytes: Iterable[int], most_bytes: int = BYTES) -> list[int]:
    """Return the sizes of the buckets.

    They lie beside the gradients, unless these are views of them (``gradient_as_bucket_view``).

    Args:
        gradient_bytes: of one precision, in the order in which gradients become ready: that of the parameters,
            backwards.
        most_bytes: ``bucket_cap_mb`` in bytes.
    """
    buckets: list[int] = []
    filled, limit = 0, min(FIRST_BYTES, most_bytes)
    for size in gradient_bytes:
        filled += size
        if filled >= limit:
            buckets.append(filled)
            filled, limit = 0, most_bytes
    return [*buckets, filled] if filled else buckets
