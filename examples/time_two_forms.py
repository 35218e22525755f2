"""Time two forms of one training step in turn: how many times faster, with an interval.

python examples/time_two_forms.py --config quickstart --forms published,fast
"""

import argparse
from collections.abc import Sequence

from bench.forms.side_by_side import speedup
from bench.machine.clocks import Stopwatch, clock_of
from bench.measure.rounds import Limits, counted_rounds, take_rounds
from bench.measure.workload import Workload
from bench.timing_statistics import median
from etad.config import load_config
from etad.distributed import compute_on
from etad.variants import with_variant


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="quickstart", help="a shipped config or a YAML file")
    parser.add_argument("--forms", default="published,fast", help="two of etad/variants.py")
    parser.add_argument("--set", action="append", default=[], help="a setting, as in data.length=8")
    parser.add_argument("--rounds", type=int, default=10, help="of each form, after the warm-up")
    parser.add_argument("--max-time", type=float, default=60.0, help="seconds after which no round begins")
    chosen = parser.parse_args(arguments)

    device = compute_on("auto")
    clock = clock_of(device)  # CUDA events on a GPU, the host's clock on a CPU
    config = load_config(chosen.config, chosen.set)
    forms = chosen.forms.split(",")
    watches = [Stopwatch(clock) for _ in forms]
    steps = [
        Workload(with_variant(config, form), "train", device, [watch])
        for form, watch in zip(forms, watches, strict=True)
    ]
    # In turn, so that a machine that becomes slower does so for both.
    taken = take_rounds(steps, watches, Limits(min_time_s=0.0, rounds=chosen.rounds, max_time_s=chosen.max_time))
    for form, rounds in zip(forms, taken, strict=True):
        durations = [one.duration_s for one in counted_rounds(rounds)]
        print(f"{form}: {1e3 * median(durations):.1f} ms, median of {len(durations)} rounds")
    faster = speedup(*taken)
    between = "too few rounds for an interval"
    if faster.low is not None and faster.high is not None:
        between = f"{faster.low:.2f} to {faster.high:.2f}, 95 %"
    print(f"{forms[1]} is {faster.value:.2f} times as fast as {forms[0]} ({between})")


if __name__ == "__main__":
    main()
