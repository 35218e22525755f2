"""What real GPUs' allocators did is what the simulator does: segments and addresses, byte for byte.

The histories lie beside the checkout, and begin in the middle of a run. All were recorded before torch 2.12.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.predict import allocator as simulator
from bench.predict.allocator import AllocatorSettings, CachingAllocator, Held, Segment, falling_addresses
from bench.predict.recorded import RecordedTraceError, Replayed, Start, of_release, read_trace, replay_recorded
from bench.units import KIB, MIB
from tests.paths import SHARED
from tests.recording.programs import random_program

HISTORIES = sorted((SHARED / "gpu_measured" / "allocator").glob("*.json.gz"))
BEFORE = AllocatorSettings(prefers_oldest=False)

of_gpus = pytest.mark.skipif(not HISTORIES, reason="the recorded histories are not here")


def replay(path: Path, settings: AllocatorSettings = BEFORE) -> Replayed:
    recorded = read_trace(path)
    return replay_recorded(recorded.events, settings, recorded.start)


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.name.partition(".")[0])
def test_the_simulator_repeats_what_a_gpu_recorded(path: Path) -> None:
    assert replay(path).difference is None


def highest_of_equal(free_list: Any, size: int) -> Any:
    fitting = [block for block in free_list.blocks.values() if block.size >= size]
    return min(fitting, key=lambda block: (block.size, -block.address), default=None)


def largest_that_fits(free_list: Any, size: int) -> Any:
    fitting = [block for block in free_list.blocks.values() if block.size >= size]
    return max(fitting, key=lambda block: (block.size, -block.address), default=None)


def keep_apart(self: Any, key: int) -> None:
    block = self._given.pop(key)
    del self._waiting[key]
    block.free_list.add(block)


BROKEN: dict[str, Callable[[pytest.MonkeyPatch], object]] = {
    "blocks of 256 B": lambda patch: patch.setattr(simulator, "MIN_BLOCK_BYTES", 256),
    "blocks of 1 KiB": lambda patch: patch.setattr(simulator, "MIN_BLOCK_BYTES", 1024),
    "a small pool up to 512 KiB": lambda patch: patch.setattr(simulator, "SMALL_REQUEST_BYTES", 512 * KIB),
    "small segments of 4 MiB": lambda patch: patch.setattr(simulator, "SMALL_SEGMENT_BYTES", 4 * MIB),
    "shared segments up to 20 MiB": lambda patch: patch.setattr(simulator, "LARGE_REQUEST_BYTES", 20 * MIB),
    "own segments without rounding": lambda patch: patch.setattr(simulator, "LARGE_ROUNDING_BYTES", 512),
    "the highest address": lambda patch: patch.setattr(simulator._FreeList, "best_fit", highest_of_equal),
    "the largest block": lambda patch: patch.setattr(simulator._FreeList, "best_fit", largest_that_fits),
    "blocks that never merge": lambda patch: patch.setattr(CachingAllocator, "complete_free", keep_apart),
    "every rest is split off": lambda patch: patch.setattr(CachingAllocator, "_should_split", lambda *_: True),
    "no rest is split off": lambda patch: patch.setattr(CachingAllocator, "_should_split", lambda *_: False),
}


@of_gpus
@pytest.mark.parametrize("rule", BROKEN)
def test_a_rule_broken_on_purpose_is_found_out(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BROKEN[rule](monkeypatch)
    assert any(fails(path, BEFORE) for path in HISTORIES)


@of_gpus
@pytest.mark.parametrize("settings", [AllocatorSettings(large_segment_bytes=22 * MIB, prefers_oldest=False)])
def test_other_settings_are_found_out(settings: AllocatorSettings) -> None:
    assert any(fails(path, settings) for path in HISTORIES)


@of_gpus
def test_the_choice_of_torch_2_12_is_not_that_of_releases_before() -> None:
    assert sum(fails(path, of_release("2.12.0")) for path in HISTORIES) == 10
    assert not any(fails(path, of_release("2.11.1+cu130")) for path in HISTORIES)


def fails(path: Path, settings: AllocatorSettings) -> bool:
    try:
        return replay(path, settings).difference is not None
    except RecordedTraceError:
        return True


@given(st.integers(0, 1000), st.integers(0, 200), st.booleans())
def test_a_simulation_may_begin_anywhere(seed: int, before: int, prefers_oldest: bool) -> None:
    settings = AllocatorSettings(prefers_oldest=prefers_oldest)
    whole = CachingAllocator(settings, falling_addresses())
    program = [step for step in random_program(seed, 120, 200 * MIB) if step[0] in ("alloc", "free") and step[1] >= 0]
    for action, key, *rest in program[:before]:
        whole.allocate(key, *rest) if action == "alloc" else whole.free(key)
    later = CachingAllocator(settings, falling_addresses(min((s.address for s in whole.made), default=1 << 47)))
    for segment in whole.made:
        end = segment.address + segment.size_bytes
        inside = [block for block in whole.blocks() if segment.address <= block[0] < end and block[2]]
        # The size of a block, not what was asked for: whether a rest belongs to it can be seen in no other way.
        held = [Held(keys_at(whole)[address], address, size_bytes) for address, size_bytes, _ in inside]
        later.begin_with(segment, held, stream_of(whole, segment))
    same = ("allocated_bytes", "active_bytes", "reserved_bytes", "segments")
    for action, key, *rest in program[before:]:
        assert [getattr(later.usage, name) for name in same] == [getattr(whole.usage, name) for name in same]
        if action == "alloc":
            assert later.allocate(key, *rest) == whole.allocate(key, *rest)
        else:
            later.free(key)
            whole.free(key)


def keys_at(allocator: CachingAllocator) -> dict[int, int]:
    return {block.address: key for key, block in allocator._given.items()}


def stream_of(allocator: CachingAllocator, segment: Segment) -> int:
    [stream] = {
        stream
        for (stream, _), free_list in allocator._lists.items()
        for block in (*free_list.blocks.values(), *(b for b in allocator._given.values() if b.free_list is free_list))
        if segment.address <= block.address < segment.address + segment.size_bytes
    }
    return stream


@pytest.mark.parametrize(
    ("segments", "blocks"),
    [
        ([(0, 2 * MIB, 0)], [(2 * MIB, 512)]),
        ([(0, 2 * MIB, 0)], [(0, 1024), (512, 512)]),
        ([(0, 2 * MIB, 0)], [(MIB, 2 * MIB)]),
        ([(0, 2 * MIB, 0)], [(0, 0)]),
        ([], [(0, 512)]),
    ],
)
def test_a_state_that_cannot_be_is_refused(segments: list[tuple[int, int, int]], blocks: list[tuple[int, int]]) -> None:
    with pytest.raises(RecordedTraceError, match="initial state"):
        replay_recorded([], start=Start(segments, blocks))


def test_addresses_that_fall_put_the_newest_segment_first_before_2_12() -> None:
    for prefers_oldest, expected in ((True, [0, 1, 2]), (False, [2, 1, 0])):
        allocator = CachingAllocator(AllocatorSettings(prefers_oldest=prefers_oldest), falling_addresses())
        places = [allocator.allocate(key, 12 * MIB) for key in range(3)]
        assert places == sorted(places, reverse=True)
        for key in range(3):
            allocator.free(key)
        assert [places.index(allocator.allocate(key, 12 * MIB)) for key in range(3)] == expected
