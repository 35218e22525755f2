"""Where the memory sits at the peak: by category, by module, and the largest tensors."""

from collections.abc import Sequence

from bench.report.page.charts import Bar
from bench.report.page.collect import Entry, telling_names, title
from bench.report.page.document import Block, Charts, Column, Section, Table
from bench.report.page.parts import bar_charts, bytes_column, share_column
from bench.report.reading import experiment, held, held_sizes
from bench.units import format_bytes

MOST_BARS = 8
INSTEAD = "etad-bench memory --ratio 0.3 --strategy sequential,joint --store RESULTS"


def holders_section(entries: Sequence[Entry]) -> Section:
    """Return the section: a bar for each of a few settings, and modules and tensors of the largest of them."""
    holding = [entry for entry in entries if held(entry.record, "category")]
    if not holding:
        return Section("holders", "Where the memory sits", instead=INSTEAD)
    chosen = _distinct(holding)
    names = telling_names(holding)
    titles = {entry.path: title(entry, names) for entry in chosen}
    bars = [Bar(titles[entry.path], held_sizes(entry.record, "category")) for entry in chosen]
    kinds = sorted({entry.record.kind for entry in chosen})
    what, caption = "Held at the peak of the steady step", _caption(len(chosen), len(holding))
    blocks: list[Block] = [Charts(bar_charts("holders", what, bars, format_bytes, caption, kinds))]
    blocks.append(_table("holder-parts", "By category and by module", chosen, titles, ("category", "module")))
    blocks.append(_table("holder-tensors", "The largest tensors", chosen, titles, ("tensor",)))
    return Section("holders", "Where the memory sits", blocks, INSTEAD)


def _distinct(entries: Sequence[Entry]) -> list[Entry]:
    """Return entries whose memory is made up differently, at most a few, of as many experiments as there are."""
    seen: dict[tuple[str, tuple[tuple[str, float], ...]], Entry] = {}
    for entry in entries:
        # The same step predicted for several GPUs, or at ratios that do not matter, is one bar.
        sizes = tuple((name, round(size / 2**24)) for name, size in held_sizes(entry.record, "category"))
        seen.setdefault((experiment(entry.record), sizes), entry)
    rest = list(seen.values())
    chosen: list[Entry] = []
    while rest and len(chosen) < MOST_BARS:
        counts = {experiment(entry.record): 0 for entry in rest}
        for entry in chosen:
            counts[experiment(entry.record)] = counts.get(experiment(entry.record), 0) + 1
        following = min(rest, key=lambda entry: counts[experiment(entry.record)])
        rest.remove(following)
        chosen.append(following)
    return sorted(chosen, key=lambda entry: -sum(size for _, size in held_sizes(entry.record, "category")))


def _caption(shown: int, there: int) -> str:
    return "" if shown == there else f"{shown} of {there} records: those whose memory is made up differently."


def _table(ident: str, caption: str, entries: Sequence[Entry], titles: dict, kinds: Sequence[str]) -> Table:  # type: ignore[type-arg]
    rows = [
        [
            titles[entry.path],
            what,
            name if what != "tensor" else metric.method,
            metric.value,
            float(metric.value or 0) / total,
        ]
        for entry in entries
        for total in [sum(size for _, size in held_sizes(entry.record, "category")) or 1.0]
        for what in kinds
        for name, metric in held(entry.record, what)
    ]
    columns = [
        Column("settings", "settings"),
        Column("by", "by"),
        Column("holder", "holder"),
        bytes_column("size", "size_bytes"),
        share_column("share", "share_ratio"),
    ]
    return Table(ident, caption, columns, rows, most=80, folded=True)
