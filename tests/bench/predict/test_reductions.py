"""What sums and their like use on a GPU, held against torch's own CUDA code."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.predict.reductions import REDUCTIONS, Multiprocessors, scratch_of_reduction
from tests.stand_in.stand_in import compile_stand_in, why_not, with_stand_in

A100 = Multiprocessors.of_gpu(108, (8, 0))
CASES = 150
EXTENTS = (1, 2, 3, 8, 16, 17, 64, 100, 256, 768, 1024, 4096)
OPERATORS = ("sum.dim_IntList", "mean.dim", "amax.default", "linalg_vector_norm.default", "var.correction", "max.dim")
CHILD = """
import json, sys, torch
def allocated(name, shape, order, more, dtype):
    input_ = torch.empty(shape, device="cuda", dtype=getattr(torch, dtype)).permute(order)
    torch.cuda.memory._record_memory_history(enabled="all", context=None, stacks="python")
    packet, _, overload = name.partition(".")
    result = getattr(getattr(torch.ops.aten, packet), overload)(input_, *more)
    [trace] = torch.cuda.memory._snapshot()["device_traces"]
    torch.cuda.memory._record_memory_history(enabled=None)
    return [entry["size"] for entry in trace if entry["action"] == "alloc"]
json.dump([allocated(*case) for case in json.load(sys.stdin)], sys.stdout)
"""


def cases() -> list[tuple[str, list[int], list[int], list[Any], str]]:
    choose = random.Random(0)
    made = []
    for _ in range(CASES):
        dimensions = choose.randint(1, 4)
        shape = [choose.choice(EXTENTS) for _ in range(dimensions)]
        while torch.Size(shape).numel() > 1 << 28:
            shape[choose.randrange(dimensions)] = 2
        order = list(range(dimensions))
        if choose.random() < 0.3:
            choose.shuffle(order)
        name = choose.choice(OPERATORS)
        reduced: Any = sorted(choose.sample(range(dimensions), choose.randint(1, dimensions)))
        more = {"max.dim": [reduced[0]], "linalg_vector_norm.default": [2, reduced]}.get(name, [reduced])
        made.append((name, shape, order, more, choose.choice(("float32", "bfloat16"))))
    return made


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_torchs_own_code_uses_what_is_predicted(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps(cases()),
        env=with_stand_in(compile_stand_in(tmp_path)),
        capture_output=True,
        text=True,
        check=True,
    )
    shared = 0
    for (name, shape, order, more, dtype), allocated in zip(cases(), json.loads(done.stdout), strict=True):
        packet, _, overload = name.partition(".")
        operator = getattr(getattr(torch.ops.aten, packet), overload)
        input_ = torch.empty(shape, device="meta", dtype=getattr(torch, dtype)).permute(order)
        result = operator(input_, *more)
        results = list(result) if isinstance(result, tuple) else [result]
        scratch = scratch_of_reduction(operator, [input_, *more], results[0], A100)
        shared += scratch != (0, 0)
        own = [one.numel() * one.element_size() for one in results]
        assert allocated == [*own, *filter(None, scratch)], (name, shape, order, more, dtype)
    assert shared > CASES / 10
    assert all(
        getattr(getattr(torch.ops.aten, n.partition(".")[0]), n.partition(".")[2]) in REDUCTIONS for n in OPERATORS
    )


def test_the_gradient_of_a_bias_depends_on_the_number_of_multiprocessors() -> None:
    gradient = torch.empty(6304, 3072, device="meta")
    bias = gradient.sum(0)
    operator = torch.ops.aten.sum.dim_IntList
    # 24 groups of columns; 108 x 16 blocks of 128 threads fill an A100, so that 72 of them share each group.
    assert scratch_of_reduction(operator, [gradient, [0]], bias, A100) == (72 * 3072 * 4 * 32 * 4, 24 * 4)
    half = Multiprocessors.of_gpu(54, (8, 0))
    assert scratch_of_reduction(operator, [gradient, [0]], bias, half) == (36 * 3072 * 4 * 32 * 4, 24 * 4)
    # Sums over all leading dimensions are no others.
    assert scratch_of_reduction(operator, [gradient.view(32, 197, 3072), [0, 1]], bias, half) == (
        36 * 3072 * 4 * 32 * 4,
        24 * 4,
    )


def test_how_many_threads_a_multiprocessor_holds() -> None:
    assert [Multiprocessors.of_gpu(1, gpu).threads for gpu in ((7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (12, 0))] == [
        1024,
        2048,
        1536,
        1536,
        2048,
        1536,
    ]
