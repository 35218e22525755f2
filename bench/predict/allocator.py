"""A simulator of torch's CUDA caching allocator: what a sequence of allocations and frees makes it reserve.

It follows c10/cuda/CUDACachingAllocator.cpp of PyTorch (2.9 to 2.15; BSD-3-Clause; rules learnt from it, no code taken)
with its default settings, and the constants of c10/core/AllocatorConfig.h. Against the compiled allocators of 2.11,
2.12, 2.14 and 2.15 it is checked to the byte (bench/predict/recorded.py, tests/recording), short of memory and with a
split limit, too; against what real GPUs recorded with earlier releases, likewise.

- A request is rounded up to 512 B. Up to 1 MiB it comes from the small pool, above from the large one.
- Each pool gives the smallest free block that fits; streams never share. Of equal ones, torch 2.12 and later take that
  of the oldest segment, and within it that of the lowest address (pytorch/pytorch#183591); earlier ones, that of the
  lowest address (``AllocatorSettings.prefers_oldest``). Where addresses rise, as they do here unless told otherwise,
  that is the same; those of a GPU's driver mostly fall.
- Without one it asks the driver for a segment: 2 MiB in the small pool; in the large pool 20 MiB for requests below
  10 MiB, and the request rounded up to 2 MiB from there on.
- What is left of a block is split off if it is at least 512 B (small) or above 1 MiB (large). If not, the rest belongs
  to the allocation: ``allocated`` counts it, ``requested`` does not.
- A freed block merges with free neighbours of its segment, once no other stream uses it any more. A segment goes back
  to the driver only when the cache is emptied, or when the driver has no memory left: then the other streams are waited
  for, every segment without an allocation is released, and the driver is asked once more.

Not simulated: expandable segments, ``garbage_collection_threshold``, ``roundup_power2_divisions`` and memory pools of
CUDA graphs. All are off by default.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, KeysView
from dataclasses import dataclass, field
from typing import NamedTuple

from bench.units import MIB

MIN_BLOCK_BYTES = 512
SMALL_REQUEST_BYTES = 1 * MIB
SMALL_SEGMENT_BYTES = 2 * MIB
LARGE_REQUEST_BYTES = 10 * MIB
"""Requests of this size and above get a segment of their own size."""
LARGE_ROUNDING_BYTES = 2 * MIB


@dataclass(frozen=True)
class AllocatorSettings:
    """How the allocator is set up.

    Attributes:
        capacity_bytes: what the driver can give in all. None: without end.
        large_segment_bytes: segment for requests of 1 to 10 MiB (``large_segment_size_mb``).
        max_split_bytes: blocks of this size and above are never split, nor given to smaller requests
            (``max_split_size_mb``). None: every block may be split.
        max_non_split_rounding_bytes: how much larger a block a request of ``max_split_bytes`` and above accepts.
        prefers_oldest: whether of equal blocks that of the oldest segment is taken (torch 2.12 and later), or that of
            the lowest address (before).
    """

    capacity_bytes: int | None = None
    large_segment_bytes: int = 20 * MIB
    max_split_bytes: int | None = None
    max_non_split_rounding_bytes: int = 20 * MIB
    prefers_oldest: bool = True


DEFAULT_SETTINGS = AllocatorSettings()


class Event(NamedTuple):
    """An allocation (``size_bytes`` > 0) or the end of one (``size_bytes`` is 0).

    Attributes:
        key: names the allocation; may be used again after its end.
        size_bytes: bytes asked for, or 0.
        stream: the stream it is allocated for; ignored at the end.
    """

    key: int
    size_bytes: int
    stream: int = 0


@dataclass(frozen=True)
class Usage:
    """Bytes at one moment, or the largest of each up to a moment.

    Attributes:
        requested_bytes: what was asked for.
        allocated_bytes: the blocks given out for it.
        active_bytes: the same, and blocks freed while another stream may still use them.
        reserved_bytes: the segments obtained from the driver.
        segments: their number.
    """

    requested_bytes: int
    allocated_bytes: int
    active_bytes: int
    reserved_bytes: int
    segments: int


class Segment(NamedTuple):
    """A piece of memory obtained from the driver."""

    address: int
    size_bytes: int


class Held(NamedTuple):
    """An allocation that was made before a simulation begins."""

    key: int
    address: int
    size_bytes: int


class SimulatedOutOfMemory(Exception):
    """The driver has no memory left, even after the cache was emptied.

    Attributes:
        size_bytes: the request.
        segment_bytes: the segment that the driver was asked for.
        usage: what is in use; the cache is empty.
    """

    def __init__(self, size_bytes: int, segment_bytes: int, usage: Usage) -> None:
        self.size_bytes, self.segment_bytes, self.usage = size_bytes, segment_bytes, usage
        super().__init__(
            f"out of memory: {size_bytes / MIB:.1f} MiB asked for, {usage.allocated_bytes / MIB:.1f} MiB allocated, "
            f"{usage.reserved_bytes / MIB:.1f} MiB reserved"
        )


class _Block:
    """A part of a segment. ``before`` and ``after`` are its neighbours there."""

    __slots__ = ("address", "after", "allocated", "before", "free_list", "requested", "segment", "size")

    def __init__(self, address: int, size: int, segment: int, free_list: "_FreeList") -> None:
        self.address, self.size, self.segment, self.free_list = address, size, segment, free_list
        self.requested = 0
        self.allocated = False
        self.before: _Block | None = None
        self.after: _Block | None = None

    @property
    def is_split(self) -> bool:
        return self.before is not None or self.after is not None

    @property
    def rank(self) -> tuple[int, int, int]:
        return self.size, self.segment, self.address


@dataclass
class _FreeList:
    """The free blocks of one pool and stream, ordered by size, then their segment's number, then address."""

    small: bool
    order: list[tuple[int, int, int]] = field(default_factory=list)
    blocks: dict[int, _Block] = field(default_factory=dict)

    def add(self, block: _Block) -> None:
        insort(self.order, block.rank)
        self.blocks[block.address] = block

    def remove(self, block: _Block) -> None:
        del self.order[bisect_left(self.order, block.rank)]
        del self.blocks[block.address]

    def best_fit(self, size: int) -> _Block | None:
        position = bisect_left(self.order, (size, 0, 0))
        return self.blocks[self.order[position][2]] if position < len(self.order) else None


def _rounded(size_bytes: int) -> int:
    return -(-size_bytes // MIN_BLOCK_BYTES) * MIN_BLOCK_BYTES


def rising_addresses() -> Callable[[int], int]:
    """Return a driver that puts every segment behind the one before, at addresses divisible by 2 MiB."""
    following = LARGE_ROUNDING_BYTES

    def place(size_bytes: int) -> int:
        nonlocal following
        address = following
        following += -(-size_bytes // LARGE_ROUNDING_BYTES) * LARGE_ROUNDING_BYTES
        return address

    return place


def falling_addresses(highest: int = 1 << 47) -> Callable[[int], int]:
    """Return a driver that puts every segment below the one before, as GPUs mostly do."""
    lowest = highest

    def place(size_bytes: int) -> int:
        nonlocal lowest
        lowest -= -(-size_bytes // LARGE_ROUNDING_BYTES) * LARGE_ROUNDING_BYTES
        return lowest

    return place


class CachingAllocator:
    """One device's caching allocator.

    Args:
        settings: how it is set up.
        place: the driver's choice of an address for a segment of a given size.

    Attributes:
        retries: how often the cache had to be emptied because the driver had nothing left (``num_alloc_retries``).
        made, released: every segment obtained and returned, in order.
    """

    def __init__(
        self, settings: AllocatorSettings = DEFAULT_SETTINGS, place: Callable[[int], int] | None = None
    ) -> None:
        self.settings = settings
        self._place = place or rising_addresses()
        self._lists: dict[tuple[int, bool], _FreeList] = {}
        self._given: dict[int, _Block] = {}
        self._waiting: dict[int, None] = {}
        self.retries = 0
        self.made: list[Segment] = []
        self.released: list[Segment] = []
        self._requested = self._allocated = self._active = self._reserved = self._segments = 0
        self.reset_peak()

    @property
    def usage(self) -> Usage:
        """What is in use now."""
        return Usage(self._requested, self._allocated, self._active, self._reserved, self._segments)

    @property
    def peak(self) -> Usage:
        """The largest of each since the last ``reset_peak``; they need not have occurred together."""
        return Usage(
            self._peak_requested, self._peak_allocated, self._peak_active, self._peak_reserved, self._peak_segments
        )

    @property
    def held(self) -> int:
        """Number of allocations given out, or given up and still in use by another stream."""
        return len(self._given)

    @property
    def waiting(self) -> KeysView[int]:
        """Allocations given up that another stream may still use."""
        return self._waiting.keys()

    def reset_peak(self) -> None:
        """Start a new peak from what is in use now (as ``torch.cuda.reset_peak_memory_stats``)."""
        self._peak_requested, self._peak_allocated = self._requested, self._allocated
        self._peak_active, self._peak_reserved = self._active, self._reserved
        self._peak_segments = self._segments

    def replay(self, events: Iterable[Event]) -> None:
        """Take events in order.

        Raises:
            SimulatedOutOfMemory: a request does not fit.
            ValueError: an allocation ends that was not made, or a key is allocated twice.
        """
        for key, size_bytes, stream in events:
            if size_bytes:
                self.allocate(key, size_bytes, stream)
            else:
                self.free(key)

    def allocate(self, key: int, size_bytes: int, stream: int = 0) -> int:
        """Give out memory, and return its address.

        Raises:
            SimulatedOutOfMemory: the driver has no memory left. The allocator stays usable.
            ValueError: ``size_bytes`` is not positive, or ``key`` is allocated.
        """
        if size_bytes <= 0:
            raise ValueError(f"an allocation of {size_bytes} B")
        if key in self._given:
            raise ValueError(f"allocation {key} was made already")
        size = _rounded(size_bytes)
        small = size <= SMALL_REQUEST_BYTES
        free_list = self._list_of(stream, small)
        block = self._cached(free_list, size)
        if block is None:
            block = self._new_segment(free_list, size, size_bytes)
        rest = block.size - size
        if rest and self._should_split(small, size, rest):
            self._split(block, size)
        self._give(block, key, size_bytes)
        return block.address

    def begin_with(self, segment: Segment, held: Iterable[Held], stream: int = 0) -> None:
        """Take over a segment from before the simulation, with the allocations in it.

        Where an allocation ends and what is free begins is not told by a record. A rest that would not have been split
        off belongs to the allocation, a larger one does not.

        Raises:
            ValueError: an allocation lies outside the segment, in another one, or its key is allocated.
        """
        small = segment.size_bytes <= SMALL_SEGMENT_BYTES
        free_list = self._list_of(stream, small)
        whole = self._obtained(segment, free_list)
        free_list.add(whole)
        rest: _Block | None = whole
        inside = sorted(held, key=lambda one: one.address)
        ends = [one.address for one in inside[1:]] + [segment.address + segment.size_bytes] * bool(inside)
        for one, end in zip(inside, ends, strict=True):
            size, room = _rounded(one.size_bytes), end - one.address
            if rest is None or not rest.address <= one.address <= end - size or size <= 0 or one.key in self._given:
                raise ValueError(f"allocation {one.key} does not fit into the segment at {segment.address:#x}")
            if one.address > rest.address:
                rest = self._split(rest, one.address - rest.address)
            taken = size if self._should_split(small, size, room - size) else room
            block, rest = rest, self._split(rest, taken) if taken < rest.size else None
            free_list.remove(block)
            self._give(block, one.key, one.size_bytes)

    def free(self, key: int) -> None:
        """End an allocation.

        Raises:
            ValueError: there is none of that name.
        """
        self.request_free(key)
        self.complete_free(key)

    def request_free(self, key: int) -> None:
        """The program gives an allocation up; until ``complete_free`` another stream may still use it."""
        block = self._given.get(key)
        if block is None or not block.allocated:
            raise ValueError(f"allocation {key} ends, but was not made")
        block.allocated = False
        self._waiting[key] = None
        self._allocated -= block.size

    def complete_free(self, key: int) -> None:
        """Let the block of an allocation that was given up be used again.

        Raises:
            ValueError: it was not given up.
        """
        if key not in self._waiting:
            raise ValueError(f"allocation {key} was not given up")
        del self._waiting[key]
        block = self._given.pop(key)
        self._requested -= block.requested
        self._active -= block.size
        block.requested = 0
        free_list = block.free_list
        for neighbour in (block.before, block.after):
            # A block given out is not in the free list, even if it is waiting for another stream.
            if neighbour is not None and neighbour.address in free_list.blocks:
                free_list.remove(neighbour)
                block = self._merge(block, neighbour)
        free_list.add(block)

    def empty_cache(self) -> None:
        """Wait for the streams that still use what was given up, and return every segment without an allocation."""
        for key in tuple(self._waiting):
            self.complete_free(key)
        for small in (False, True):
            for (_, of_small), free_list in self._lists.items():
                if of_small == small:
                    for *_, address in list(free_list.order):
                        block = free_list.blocks[address]
                        if not block.is_split:
                            self._release(block)

    def blocks(self) -> Iterator[tuple[int, int, bool]]:
        """Yield address, size in bytes and whether it is given out, of every block of every segment, by address."""
        every = [*self._given.values(), *(b for free_list in self._lists.values() for b in free_list.blocks.values())]
        free = {id(b) for free_list in self._lists.values() for b in free_list.blocks.values()}
        for block in sorted(every, key=lambda b: b.address):
            yield block.address, block.size, id(block) not in free

    def _list_of(self, stream: int, small: bool) -> _FreeList:
        free_list = self._lists.get((stream, small))
        if free_list is None:
            free_list = self._lists[stream, small] = _FreeList(small)
        return free_list

    def _give(self, block: _Block, key: int, size_bytes: int) -> None:
        block.allocated = True
        block.requested = size_bytes
        self._given[key] = block
        self._requested += size_bytes
        self._allocated += block.size
        self._active += block.size
        self._raise_peaks()

    def _cached(self, free_list: _FreeList, size: int) -> _Block | None:
        block = free_list.best_fit(size)
        if block is None:
            return None
        limit = self.settings.max_split_bytes
        if limit is not None:
            if size < limit <= block.size:
                return None
            if size >= limit and block.size >= size + self.settings.max_non_split_rounding_bytes:
                return None
        free_list.remove(block)
        return block

    def _new_segment(self, free_list: _FreeList, size: int, size_bytes: int) -> _Block:
        segment = self._segment_bytes(size)
        if not self._driver_has(segment) and not (
            self._release_oversize(free_list, size) and self._driver_has(segment)
        ):
            self.empty_cache()
            self.retries += 1
            if not self._driver_has(segment):
                raise SimulatedOutOfMemory(size_bytes, segment, self.usage)
        return self._obtained(Segment(self._place(segment), segment), free_list)

    def _obtained(self, segment: Segment, free_list: _FreeList) -> _Block:
        age = len(self.made) if self.settings.prefers_oldest else 0
        self._reserved += segment.size_bytes
        self._segments += 1
        self.made.append(segment)
        return _Block(segment.address, segment.size_bytes, age, free_list)

    def _segment_bytes(self, size: int) -> int:
        if size <= SMALL_REQUEST_BYTES:
            return SMALL_SEGMENT_BYTES
        if size < LARGE_REQUEST_BYTES:
            return self.settings.large_segment_bytes
        return -(-size // LARGE_ROUNDING_BYTES) * LARGE_ROUNDING_BYTES

    def _driver_has(self, size: int) -> bool:
        capacity = self.settings.capacity_bytes
        return capacity is None or self._reserved + size <= capacity

    def _release_oversize(self, free_list: _FreeList, size: int) -> bool:
        """Release just enough blocks that are too large to be split; tell whether that was enough."""
        limit = self.settings.max_split_bytes
        if limit is None:
            return False
        wanted = max(size, limit)
        block = free_list.best_fit(wanted)
        if block is not None:
            self._release(block)
            return True
        total = 0
        while total < wanted and free_list.order and free_list.order[-1][0] >= limit:
            largest, _, address = free_list.order[-1]
            self._release(free_list.blocks[address])
            total += largest
        return total >= wanted

    def _should_split(self, small: bool, size: int, rest: int) -> bool:
        if small:
            return rest >= MIN_BLOCK_BYTES
        limit = self.settings.max_split_bytes
        return rest > SMALL_REQUEST_BYTES and (limit is None or size < limit)

    @staticmethod
    def _split(block: _Block, size: int) -> _Block:
        """Cut a block to ``size``; return the rest, a free block behind it."""
        rest = _Block(block.address + size, block.size - size, block.segment, block.free_list)
        rest.before, rest.after = block, block.after
        if rest.after is not None:
            rest.after.before = rest
        is_free = block.address in block.free_list.blocks
        if is_free:
            block.free_list.remove(block)
        block.after, block.size = rest, size
        block.free_list.add(rest)
        if is_free:
            block.free_list.add(block)
        return rest

    @staticmethod
    def _merge(block: _Block, neighbour: _Block) -> _Block:
        first, second = (neighbour, block) if neighbour is block.before else (block, neighbour)
        first.size += second.size
        first.after = second.after
        if first.after is not None:
            first.after.before = first
        return first

    def _release(self, block: _Block) -> None:
        block.free_list.remove(block)
        self._reserved -= block.size
        self._segments -= 1
        self.released.append(Segment(block.address, block.size))

    def _raise_peaks(self) -> None:
        # Only an allocation can set a new record. Comparisons are cheaper than max() here, which counts: this is called
        # for every allocation of a step.
        if self._requested > self._peak_requested:
            self._peak_requested = self._requested
        if self._allocated > self._peak_allocated:
            self._peak_allocated = self._allocated
        if self._active > self._peak_active:
            self._peak_active = self._active
        if self._reserved > self._peak_reserved:
            self._peak_reserved = self._reserved
        if self._segments > self._peak_segments:
            self._peak_segments = self._segments
