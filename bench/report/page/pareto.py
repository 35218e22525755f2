"""The Pareto front of mAP, memory and hours: what no other result beats in all of them. Published methods are on it.

Our mAP and hours are of a training run; its memory is that of the memory record with the same settings, measured or
predicted. A published memory counts if it is that of a whole run: a figure "per video" is told, but not compared.
"""

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bench.published.figures import DATASETS, Figure
from bench.records.record import Kind, Record
from bench.report.page.charts import Mark, scatter_chart
from bench.report.page.collect import Entry, spread_out
from bench.report.page.document import Block, Chart, Charts, Column, Note, Section, Table
from bench.report.page.parts import bytes_column, kind_column, number_column
from bench.report.page.settings import DEVICE, differing, label
from bench.report.reading import experiment, value_in
from bench.units import GIB, HOUR_S, format_bytes, format_seconds, unit_for

PREFIXES = {"anet": "activitynet", "thumos": "thumos", "hacs": "hacs"}
"""How the name of an experiment begins -> the data set whose published figures it is shown with."""
MEMORY = ("reserved", "allocated", "requested")
"""Ways to count memory, the one that decides whether a step fits first."""
Memory = tuple[float, str, Kind]
"""Bytes, how they were counted, and whether that was measured or predicted."""
NOT_OF_MEMORY = frozenset(
    {
        DEVICE,
        "train.epochs",
        "train.detector_lr",
        "train.encoder_lr",
        "train.weight_decay",
        "train.schedule",
        "train.lr_drop_epochs",
        "train.lr_drop",
    }
)
"""Settings that decide the mAP of a run and not its memory."""
GIGA = 1e9
"""Published memory is in GB; whether that is 10^9 or 2^30 bytes is nowhere said."""
MOST_MARKS = 40
"""Behind the front of a chart; the table holds all."""
INSTEAD = "etad-bench accuracy --config quickstart --ratio 0,0.3,1.0 --seeds 3 --store RESULTS"


@dataclass(frozen=True)
class Candidate:
    """A result that may be on the front.

    Attributes:
        average_map: a fraction.
        memory_bytes, hours: None where they are not known.
        memory_of: what the memory is of.
        memory_kind: whether it was measured, predicted or published.
        comparable: whether the memory is that of a whole run.
    """

    label: str
    dataset: str
    kind: Kind
    average_map: float
    memory_bytes: float | None
    memory_of: str
    memory_kind: Kind
    hours: float | None
    source: str
    classifier: str
    comparable: bool = True

    @property
    def costs(self) -> tuple[float | None, float | None]:
        """Memory and hours, as far as they compare."""
        return (self.memory_bytes if self.comparable else None, self.hours)


def front(candidates: Iterable[Candidate], objectives: Sequence[int]) -> list[Candidate]:
    """Return what no other candidate beats: at least as good in everything, and better in something.

    Args:
        candidates: those that lack one of the costs are left out.
        objectives: which of :attr:`Candidate.costs` count, besides mAP.
    """
    goals = [
        (candidate, (-candidate.average_map, *(candidate.costs[number] for number in objectives)))
        for candidate in candidates
    ]
    known = [(candidate, tuple(cost for cost in goal if cost is not None)) for candidate, goal in goals]
    known = [(candidate, goal) for candidate, goal in known if len(goal) == len(objectives) + 1]
    best: list[tuple[Candidate, tuple[float, ...]]] = []
    # Whatever beats a result sorts before it, and is on the front or beaten by what is.
    for candidate, goal in sorted(known, key=lambda pair: pair[1]):
        if not any(_beats(other, goal) for _, other in best):
            best.append((candidate, goal))
    return [candidate for candidate, _ in best]


def pareto_section(entries: Sequence[Entry], figures: Sequence[Figure]) -> Section:
    """Return the section: a data set with results of ours comes first, one without them is published figures alone."""
    own = own_candidates(entries)
    everything = own + [candidate for figure in figures for candidate in published_candidate(figure)]
    datasets = list(dict.fromkeys([*(candidate.dataset for candidate in own), *DATASETS]))
    blocks: list[Block] = [Note(_how_to_read(bool(own)))]
    charts: list[Chart] = []
    shown: list[Candidate] = []
    for dataset in datasets:
        candidates = [candidate for candidate in everything if candidate.dataset == dataset]
        charts += _charts(dataset, candidates)
        shown += candidates
    blocks.append(Charts(charts))
    blocks.append(_table(shown))
    if not own:
        blocks.append(Note(f"No mAP of ours is among the records. This adds it: {INSTEAD}"))
    return Section("pareto", "mAP, memory and hours", blocks)


def own_candidates(entries: Sequence[Entry]) -> list[Candidate]:
    """Return our training runs, the mean over seeds, with the memory of the same settings."""
    memory = _memory_by_settings(entries)
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.record.suite == "accuracy" and value_in(entry.record, "average_mAP") is not None:
            same = [entry.record.kind, experiment(entry.record), entry.settings]
            groups[json.dumps(same, sort_keys=True)].append(entry)
    by_experiment: dict[str, list[Entry]] = defaultdict(list)
    for group in groups.values():
        by_experiment[experiment(group[0].record)].append(group[0])
    names = {name: differing(entry.settings for entry in firsts) for name, firsts in by_experiment.items()}
    return [_own_candidate(group, names[experiment(group[0].record)], memory) for group in groups.values()]


def _own_candidate(group: Sequence[Entry], names: Sequence[str], memory: dict[str, Memory]) -> Candidate:
    first, name = group[0].record, experiment(group[0].record)
    seconds = [value for entry in group if (value := value_in(entry.record, "train_s")) is not None]
    size_bytes, level, memory_kind = memory.get(_memory_key(group[0]), (None, "", first.kind))
    return Candidate(
        label=", ".join(part for part in (name, label(group[0].settings, names)) if part),
        dataset=next((to for prefix, to in PREFIXES.items() if name.startswith(prefix)), name),
        kind=first.kind,
        average_map=statistics.fmean(value_in(entry.record, "average_mAP") or 0.0 for entry in group),
        memory_bytes=size_bytes,
        memory_of=f"{level}, {memory_kind}" if size_bytes is not None else "",
        memory_kind=memory_kind,
        hours=statistics.fmean(seconds) / HOUR_S if seconds else None,
        source=f"{len(group)} record{'s' if len(group) > 1 else ''} on {first.device}",
        classifier=_classifier(first),
    )


def published_candidate(figure: Figure) -> Iterator[Candidate]:
    """Yield the candidate of a published figure; none without an average mAP and a cost."""
    cost = figure.cost
    if figure.dataset is None or figure.average_map_percent is None or cost is None:
        return
    if cost.memory_gb is None and cost.training_h is None:
        return
    yield Candidate(
        label=f"{figure.method}, {figure.input.split(',')[0]}",
        dataset=figure.dataset,
        kind="published",
        average_map=figure.average_map_percent / 100,
        memory_bytes=None if cost.memory_gb is None else cost.memory_gb * GIGA,
        memory_of=cost.memory_meaning or "",
        memory_kind="published",
        hours=cost.training_h,
        source=f"{figure.source} ({', '.join(figure.marks)})",
        classifier=figure.classifier or "not said",
        comparable=not cost.memory_is_per_video,
    )


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(mine <= theirs for mine, theirs in zip(one, other, strict=True))


def _how_to_read(own: bool) -> str:
    text = (
        "Up and to the left is better. The steps join the results that none beats in both quantities of a chart. "
        "Published figures come from other machines and other code, and their memory is what each source calls "
        "memory, so a step between two of them is an indication; the table names source, classifier and meaning."
    )
    return text if own else f"Published figures only. {text}"


def _charts(dataset: str, candidates: Sequence[Candidate]) -> Iterator[Chart]:
    for number, what, scale in ((0, "memory", GIB), (1, "training hours", 1.0)):
        # A logarithmic axis has no place for a cost of nothing.
        placed = [(candidate, cost) for candidate in candidates if (cost := candidate.costs[number])]
        if len(placed) < 2:
            continue
        best_of = set(front((candidate for candidate, _ in placed), [number]))
        shown = [(candidate, cost) for candidate, cost in placed if candidate in best_of]
        behind = sorted((pair for pair in placed if pair[0] not in best_of), key=lambda pair: -pair[0].average_map)
        shown += spread_out(behind, MOST_MARKS)
        axis = what
        if number == 0:
            unit = unit_for("memory_bytes", max(cost for _, cost in placed))
            axis, scale = f"memory, {unit.name}", unit.scale
        best = sorted((candidate.costs[number] or 0.0, candidate.average_map) for candidate in best_of)
        marks = [
            Mark(
                cost / scale,
                100 * candidate.average_map,
                candidate.label.removeprefix(f"{dataset}, "),
                f"{candidate.label}: {100 * candidate.average_map:.2f} % at {_cost_text(cost, number)}",
                _kind_of(candidate, number),
                1 if candidate.kind == "published" else 0,
            )
            for candidate, cost in shown
        ]
        svg = scatter_chart(
            f"pareto-{dataset}-{number}",
            f"{dataset}: average mAP against {what}",
            axis,
            "average mAP, %",
            marks,
            front=[(cost / scale, 100 * average_map) for cost, average_map in dict.fromkeys(best)],
        )
        kinds = list(dict.fromkeys(mark.kind for mark in marks))
        ours = number == 0 and "predicted" in kinds and any(one.kind == "measured" for one, _ in placed)
        caption = "Our mAP is measured, the memory of the same settings predicted." if ours else ""
        if len(shown) < len(placed):
            caption += f" {len(placed) - len(shown)} results behind the front are not drawn."
        yield Chart(f"{dataset}: mAP against {what}", svg, caption.strip(), kinds)


def _kind_of(candidate: Candidate, number: int) -> Kind:
    """Return the kind of a mark: a measured mAP over a predicted memory counts as predicted."""
    return "predicted" if number == 0 and candidate.memory_kind == "predicted" else candidate.kind


def _cost_text(cost: float, number: int) -> str:
    return format_bytes(cost) if number == 0 else format_seconds(cost * HOUR_S)


def _table(candidates: Sequence[Candidate]) -> Table:
    of_both: set[Candidate] = set()
    of_each: list[set[Candidate]] = [set(), set()]
    for dataset in dict.fromkeys(candidate.dataset for candidate in candidates):
        members = [candidate for candidate in candidates if candidate.dataset == dataset]
        of_both |= set(front(members, [0, 1]))
        for number, found in enumerate(of_each):
            found |= set(front(members, [number]))
    rows = [
        [
            candidate.dataset,
            candidate.label,
            candidate.kind,
            candidate.average_map,
            candidate.memory_bytes,
            candidate.hours,
            _standing(candidate, of_each[0], [0]),
            _standing(candidate, of_each[1], [1]),
            _standing(candidate, of_both, [0, 1]),
            candidate.classifier,
            candidate.memory_of or None,
            candidate.source,
        ]
        for candidate in candidates
    ]
    return Table(
        "pareto",
        "Who is on which front",
        [
            Column("data set", "dataset"),
            Column("method", "method"),
            kind_column(),
            number_column("average mAP", "average_mAP", lambda value: f"{100 * value:.2f} %"),
            bytes_column("memory", "memory_bytes"),
            number_column("training", "training_h", lambda value: format_seconds(value * HOUR_S)),
            Column("front: memory", "front_memory"),
            Column("front: hours", "front_hours"),
            Column("front: both", "front_both"),
            Column("classes from", "classifier"),
            Column("memory is", "memory_meaning"),
            Column("source", "source"),
        ],
        rows,
        folded=True,
    )


def _standing(candidate: Candidate, best: set[Candidate], objectives: Sequence[int]) -> str | None:
    if any(candidate.costs[number] is None for number in objectives):
        return None
    return "on it" if candidate in best else "behind"


def _classifier(record: Record) -> str:
    section = record.config.get("postprocess")
    return str(section.get("classes")) if isinstance(section, dict) else "not said"


def _memory_key(entry: Entry) -> str:
    """Return what decides the memory of a training step, whatever the device."""
    settings = {name: value for name, value in entry.settings.items() if name not in NOT_OF_MEMORY}
    return json.dumps([experiment(entry.record), settings], sort_keys=True)


def _memory_by_settings(entries: Sequence[Entry]) -> dict[str, Memory]:
    """Return the memory of training steps; what was measured wins over what was predicted."""
    found: dict[str, Memory] = {}
    for entry in sorted(entries, key=lambda entry: entry.record.kind == "measured"):
        if entry.record.suite == "memory" and entry.record.measurement.get("task", "train") == "train":
            for level in MEMORY:
                size = value_in(entry.record, f"{level}_peak_bytes")
                if size is not None:
                    found[_memory_key(entry)] = (size, level, entry.record.kind)
                    break
    return found
