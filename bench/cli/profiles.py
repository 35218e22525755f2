"""``etad-bench profiles``: the known hardware, and measuring the present GPU."""

import json
from pathlib import Path
from typing import Literal

import click

from bench.cli.options import format_option, known_profiles, note
from bench.machine.datasheets import (
    LOCAL_FOLDER,
    NUMBERS,
    PRECISIONS,
    VENDORS,
    HardwareProfile,
    dump_profile,
    load_profile,
)
from bench.report.terminal.tables import grid
from bench.units import GIB
from etad.errors import DataError
from etad.files import write_text


@click.command()
@click.argument("name", required=False)
@format_option
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="With measure: file instead of profiles/NAME.yaml."
)
@click.option("--force", is_flag=True, help="With measure: overwrite the file.")
def profiles(name: str | None, form: Literal["table", "json"], output: Path | None, force: bool) -> None:
    """List the known GPUs, print profile NAME with its sources, or measure the present GPU.

    NAME is a profile, a YAML file, or the word measure: then the present GPU's memory, context overhead, bandwidth
    and matrix-product speed are measured (some seconds) and kept in profiles/ of the working folder.
    """
    if name == "measure":
        _measure(form, output, force)
    elif name is not None:
        click.echo(_one(load_profile(name), form))
    elif form == "json":
        click.echo(json.dumps([profile.model_dump(mode="json") for profile in known_profiles()], indent=1))
    else:
        click.echo(_table(known_profiles()))


def _measure(form: Literal["table", "json"], output: Path | None, force: bool) -> None:
    from bench.machine.gpu_probe import measure_profile  # torch is slow to import, and the lists do not need it

    profile = measure_profile()
    path = output or LOCAL_FOLDER / f"{profile.name}.yaml"
    if path.exists() and not force:
        raise DataError(f"{path}: is there already; --force overwrites it, -o writes elsewhere")
    # A profile is known by its file's name.
    profile = profile.model_copy(update={"name": path.stem})
    write_text(path, dump_profile(profile))
    note(f"wrote {path}")
    click.echo(_one(profile, form))


def _one(profile: HardwareProfile, form: Literal["table", "json"]) -> str:
    if form == "json":
        return profile.model_dump_json(indent=1)
    lines = [
        f"{profile.name}: {profile.marketing_name} ({VENDORS[profile.vendor]}, {profile.form}, {profile.architecture})"
    ]
    for field in NUMBERS:
        value = getattr(profile, field)
        if value is None:
            lines.append(f"  {field:30} null  ({profile.unknown.get(field, 'not known')})")
        else:
            text = f"{value:.6g}" if isinstance(value, float) else str(value)
            lines.append(f"  {field:30} {text}  [{profile.sources[field]}]")
    if profile.measured is not None:
        lines += ["  measured:", *(f"    {key:32} {value}" for key, value in profile.measured)]
    lines += [f"  {text}" for text in (profile.no_memory_prediction, profile.note) if text]
    return "\n".join(lines)


def _table(known: list[HardwareProfile]) -> str:
    header = ["name", "form", "memory", "bandwidth", "SMs", "CC", *PRECISIONS, "power"]
    rows = [header, ["", "", "GiB", "GB/s", "", "", *["TFLOP/s"] * len(PRECISIONS), "W"]]
    for profile in known:
        peaks = [profile.peak_flops_per_s(precision) for precision in PRECISIONS]
        rows.append(
            [
                profile.name,
                profile.form,
                f"{profile.memory_bytes / GIB:g}",
                f"{profile.memory_bandwidth_bytes_per_s / 1e9:g}",
                str(profile.multiprocessors),
                profile.compute_capability or "-",
                *("-" if peak is None else f"{peak / 1e12:.1f}" for peak in peaks),
                "-" if profile.power_w is None else f"{profile.power_w:g}",
            ]
        )
    foot = "Nominal memory; programs get less. Peaks: dense, FP32 accumulation. Sources: etad-bench profiles NAME."
    return grid(rows, "table", [foot], to_the_right=range(1, len(header)))
