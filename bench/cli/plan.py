"""``etad-bench plan``: which settings fit a GPU, and which GPUs a wanted setting fits."""

import re
import shlex
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cells import KNOBS, Cell, make_cells
from bench.cli.options import (
    KNOB_HELP,
    cost_options,
    emit,
    known_profiles,
    note,
    output_option,
    set_option,
    store_option,
)
from bench.machine.datasheets import load_profile
from bench.machine.prices import NO_RATES, Rates, read_rates
from bench.report.terminal.tables import FORMATS, Format
from bench.units import GIB, MIB
from etad.config import Config, Precision, load_config
from etad.errors import ConfigError, DeviceError
from etad.progress import progress

if TYPE_CHECKING:
    from bench.predict.fit import Target
    from bench.records.record import Record
    from bench.suites.plan import Search

RECOMPUTE = {"off": (False,), "on": (True,), "both": (False, True)}


@click.command()
@click.option("--config", "-c", default="anet_e2e", show_default=True, help="Config file, or a shipped one's name.")
@click.option("--hardware", metavar="NAME", help="GPU to plan for: a profile's name or file (etad-bench profiles).")
@click.option("--memory", metavar="SIZE", help="Instead of a GPU: how much memory there is, such as 6GiB.")
@click.option("--want", is_flag=True, help="The other way round: which GPUs does the setting fit?")
@click.option("--cheapest", is_flag=True, help="Which GPU of the price list trains the setting for the least money?")
@click.option(
    "--videos", type=click.IntRange(min=1), help="With --cheapest: training videos. Default: as forecast finds them."
)
@cost_options
@click.option("--strategy", metavar="A[,B...]", help=f"{KNOB_HELP['strategy']} Default: all that train.")
@click.option("--precision", metavar="A[,B...]", help=f"{KNOB_HELP['precision']} Default: fp32 and bf16.")
@click.option("--batch", metavar="A[,B...]", help=f"{KNOB_HELP['batch']} Default: 1,2,4,8.")
@click.option("--chunk", metavar="A[,B...]", help=f"{KNOB_HELP['chunk']} Default: 1,2,4,8.")
@click.option(
    "--recompute", type=click.Choice(list(RECOMPUTE)), default=None, help="Recompute encoder stages. Default: both."
)
@set_option
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="Form of the output."
)
@output_option
@store_option
def plan(
    config: str,
    hardware: str | None,
    memory: str | None,
    want: bool,
    cheapest: bool,
    videos: int | None,
    price: str | None,
    prices: str | None,
    kwh_price: float | None,
    carbon: float | None,
    recompute: str | None,
    assignments: tuple[str, ...],
    form: Format,
    output: Path | None,
    store: Path | None,
    **knobs: str | None,
) -> None:
    """List the settings that fit a GPU, fastest first by arithmetic, with the memory they leave.

    Everything is predicted, nothing measured: "fastest" means the least arithmetic at the GPU's peak. With --want,
    list the GPUs that the config fits instead, with --batch and the like changing it.
    """
    # torch is slow to import, and --help does not need it.
    from bench.records.store import ResultStore
    from bench.report.terminal.plan import format_plan, format_wanted
    from bench.suites import plan as planning

    rates = read_rates(price, prices, kwh_price, carbon)
    if not cheapest and (rates != NO_RATES or videos is not None):
        raise ConfigError("--price, --prices, --kwh-price, --carbon and --videos: go with --cheapest")
    if cheapest:
        if rates.prices is None or want or memory is not None or hardware is not None:
            raise ConfigError("--cheapest: takes its GPUs from --prices FILE, without --want, --hardware and --memory")
        sets = (*assignments, *_recompute(recompute))
        records, text = _cheapest(make_cells(["etad-bench", "plan"], config, knobs, sets), rates, videos, form)
    elif want:
        if memory is not None:
            raise ConfigError("--want: asks which GPUs fit, so --memory makes no sense with it")
        chosen = [load_profile(hardware)] if hardware else known_profiles(with_memory=True)
        sets = (*assignments, *_recompute(recompute))
        cells = make_cells(["etad-bench", "plan", "--want"], config, knobs, sets)
        if len(cells) > 1:
            raise ConfigError("--want: takes one setting, not a comma list")
        found = planning.wanted(cells[0].config, chosen, shlex.split(cells[0].command))
        records = list(progress(found, "GPUs", total=len(chosen), unit="GPU"))
        text = format_wanted(records, form)
    else:
        target = _target(hardware, memory)
        search = _search(config, knobs, recompute, assignments, target)
        command = ["etad-bench", "plan", "--config", config]
        command += ["--hardware", hardware] if hardware else ["--memory", str(memory)]
        command += [part for assignment in assignments for part in ("--set", assignment)]
        found_families = planning.plan(load_config(config, assignments), target, search, command)
        bar = progress(found_families, "plan", total=planning.families(search), unit="family")
        records = planning.fastest_first([record for family in bar for record in family])
        if not records:
            raise DeviceError(f"{target.name}: none of the settings fits; a smaller encoder or fewer snippets may")
        text = format_plan(records, form)
    if store is not None:
        for record in records:
            ResultStore(store).write(record)
    emit(text, output)


def _cheapest(
    cells: "Sequence[Cell]", rates: Rates, videos: int | None, form: Format
) -> "tuple[Sequence[Record], str]":
    """Return the cheapest GPUs that fit, as records and as text."""
    from bench.predict.forecast import load_factors
    from bench.report.terminal.forecast import format_cheapest
    from bench.suites.cheapest import cheapest
    from bench.suites.forecast import training_videos

    assert rates.prices is not None
    if len(cells) > 1:
        raise ConfigError("--cheapest: takes one setting, not a comma list")
    videos = videos or training_videos(cells[0].config)
    if videos is None:
        raise ConfigError("--cheapest: the number of training videos is not known; give --videos")
    profiles = [load_profile(name) for name in rates.prices.gpus()]
    found = cheapest(cells[0], profiles, load_factors(), videos, rates, shlex.split(cells[0].command))
    if not found.offers:
        raise DeviceError("none of the GPUs in the price list fits and has a forecast; a smaller batch or chunk may")
    return found.offers, format_cheapest(found, rates.prices.age(date.today()), form)


def _recompute(choice: str | None) -> list[str]:
    """Return the override for one wanted setting."""
    if choice == "both":
        raise ConfigError("--want and --cheapest: take one setting, so --recompute is on or off")
    return [] if choice is None else [f"model.encoder.checkpointing={str(choice == 'on').lower()}"]


def _search(
    config: str, knobs: dict[str, str | None], recompute: str | None, assignments: tuple[str, ...], target: "Target"
) -> "Search":
    """Return what to try: what the options name, and the default for the others."""
    from bench.suites.plan import Search

    defaults = Search()
    lists: dict[str, tuple[Any, ...]] = {
        "strategy": defaults.strategies,
        "precision": _precisions(target),
        "batch": defaults.batches,
        "chunk": defaults.chunks,
    }
    for option, text in knobs.items():
        if text is not None:
            # The cells are made to check the values, and to read them.
            cells = make_cells(["etad-bench", "plan"], config, {option: text}, assignments)
            lists[option] = tuple(_setting(cell.config, option) for cell in cells)
    experiment = load_config(config, assignments)
    lists["chunk"] = tuple(chunk for chunk in lists["chunk"] if chunk <= experiment.data.length)
    if experiment.data.input == "features":
        # There is no encoder that could be trained in different ways.
        note(f"{config}: the input is features, so strategy, chunk and recomputation have no effect")
        lists |= {"strategy": (experiment.step.strategy,), "chunk": (experiment.step.chunk,)}
        recompute = "off"
    return Search(lists["strategy"], lists["precision"], lists["batch"], lists["chunk"], RECOMPUTE[recompute or "both"])


def _precisions(target: "Target") -> tuple[Precision, ...]:
    """Return fp32 and the half precision that the GPU has units for."""
    without_bf16 = target.profile is not None and target.profile.peak_bf16_flops_per_s is None
    return ("fp32", "fp16" if without_bf16 else "bf16")


def _setting(config: Config, option: str) -> Any:
    section, key = KNOBS[option].split(".")
    return getattr(getattr(config, section), key)


def _target(hardware: str | None, memory: str | None) -> "Target":
    from bench.predict.fit import Target

    if (hardware is None) == (memory is None):
        raise ConfigError("give --hardware NAME or --memory SIZE, one of them; etad-bench profiles lists the names")
    if hardware is not None:
        return Target.of_profile(load_profile(hardware))
    return Target.of_size(size_bytes(str(memory)))


def size_bytes(text: str) -> int:
    """Return a size such as "6GiB", "800MiB" or "6GB" in bytes.

    Raises:
        ConfigError: it is no size.
    """
    units = {"MiB": MIB, "GiB": GIB, "MB": 10**6, "GB": 10**9}
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(MiB|GiB|MB|GB)", text.strip())
    if match is None or float(match[1]) == 0:
        raise ConfigError(f"--memory {text}: not a size; write it as 6GiB or 6144MiB")
    return int(float(match[1]) * units[match[2]])
