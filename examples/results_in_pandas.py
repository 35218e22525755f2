"""Read a folder of result records into a pandas table, and plot mAP against the ratio of snippets.

python examples/results_in_pandas.py results/measured --plot ratio.png
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt

from bench.records.store import ResultStore

RATIO, SAMPLER = "config.step.snippet_ratio", "config.step.snippet_sampler"
PROPOSALS = ["config.step.proposal_sampler", "config.step.proposal_ratio"]
SCORE = "metrics.average_mAP"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="result records, as --store keeps them")
    parser.add_argument("--config", default="quickstart", help="name of the experiment")
    parser.add_argument("--plot", type=Path, help="picture to write")
    chosen = parser.parse_args(arguments)

    # One row a record; nested keys become dotted columns, an unknown value is NaN.
    table = ResultStore(chosen.folder).to_pandas()
    print(table.groupby(["device", "suite", "status"]).size().to_string())

    scores = table[(table["suite"] == "accuracy") & (table["config.name"] == chosen.config)]
    # Records with another choice of proposals differ in more than the ratio: keep the commonest choice.
    commonest = list(scores.value_counts(PROPOSALS).idxmax())
    scores = scores[(scores[PROPOSALS] == commonest).all(axis=1)]
    study = scores.groupby([SAMPLER, RATIO])[SCORE].agg(["count", "mean", "std"]).reset_index()
    print(study.round(4).to_string(index=False))
    if chosen.plot:
        figure, axes = plt.subplots()
        for sampler, rows in study.groupby(SAMPLER):
            axes.errorbar(rows[RATIO], 100 * rows["mean"], 100 * rows["std"], marker="o", capsize=3, label=sampler)
        axes.set(xlabel="part of the snippets with a gradient", ylabel="average mAP [%]", title=chosen.config)
        axes.legend()
        figure.savefig(chosen.plot)
        plt.close(figure)


if __name__ == "__main__":
    main()
