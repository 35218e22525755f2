"""Does a training step fit a GPU that is not here? Memory is predicted, without GPU, data or weights.

python examples/will_it_fit.py --config anet_e2e --batch 1,4 --gpu rtx_3060_laptop_6g
"""

import argparse
from collections.abc import Sequence

from bench.machine.datasheets import load_profile
from bench.predict.fit import Target, judge_fit
from bench.predict.memory import predict_from_trace, trace_for_cuda
from bench.units import MIB
from etad.config import load_config


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="anet_e2e", help="a shipped config or a YAML file")
    parser.add_argument("--batch", default="1,2,4", help="batch sizes, with commas")
    parser.add_argument("--gpu", default="rtx_3060_laptop_6g", help="one of those that etad-bench profiles lists")
    chosen = parser.parse_args(arguments)

    target = Target.of_profile(load_profile(chosen.gpu))
    print(f"{target.name}: {target.memory_bytes / MIB:.0f} MiB; predicted, in MiB")
    for batch in chosen.batch.split(","):
        config = load_config(chosen.config, [f"train.batch={batch}"])
        # The trace takes nearly all the time: the real step runs on tensors without values.
        trace = trace_for_cuda(config, compute_capability=target.compute_capability)
        prediction = predict_from_trace(trace, context_bytes=target.context_bytes)
        fit = judge_fit(prediction, target, trace)
        low, high = (size_bytes / MIB for size_bytes in prediction.reserved or ())
        print(f"batch {batch}: {low:.0f} to {high:.0f} reserved; fits: {fit.verdict} {fit.reason}".rstrip())
        holders = prediction.composition.categories if prediction.composition else {}
        for category, size_bytes in list(holders.items())[:3]:
            print(f"    {size_bytes / MIB:8.1f} {category}")


if __name__ == "__main__":
    main()
