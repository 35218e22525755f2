"""Hardware profiles: what a GPU has (memory, bandwidth, peak speed, power), so that one can plan for it without it.

One YAML file a GPU, in ``profiles/``. Every number names its source, and every number that is not known is null with
the reason. Peaks are dense (no structured sparsity) and, for half precisions, with float32 accumulation, which is
what torch computes with; the doubled figures of marketing pages are neither.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import pydantic
import yaml
from pydantic import Field, model_validator

from bench.units import GIB
from etad.errors import ConfigError, explained, nearest
from etad.files import read_yaml
from etad.resources import resource_folder

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

Vendor = Literal["nvidia", "amd", "intel", "apple"]
VENDORS: dict[Vendor, str] = {"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel", "apple": "Apple"}

LOCAL_FOLDER = Path("profiles")
"""Profiles of the working folder: ``etad-bench profiles measure`` writes here, and they win over the shipped ones."""

CONTEXT_ALLOWANCE_BYTES = GIB
"""A CUDA context with its kernels takes several hundred MiB, more or less by driver and GPU. Where it was not measured,
a margin below this allowance is called uncertain. It is caution, not a measurement."""

Rate = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Bytes = Annotated[int, Field(gt=0)]


class Measured(pydantic.BaseModel):
    """What short kernels reached on a present GPU: lower than the peaks, and what a forecast can count on."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    on: str
    """Date, ISO 8601."""
    driver: str | None
    """Version of the driver."""
    torch: str
    """Version of torch."""
    memory_bandwidth_bytes_per_s: Rate
    """Read plus write of a large copy."""
    matmul_fp32_flops_per_s: Rate
    """Of a large matrix product, in fp32."""
    matmul_tf32_flops_per_s: Rate | None
    """The same in tf32. None: the GPU has no such units."""
    matmul_bf16_flops_per_s: Rate | None
    """The same in bf16."""
    matmul_fp16_flops_per_s: Rate | None
    """The same in fp16."""
    context_method: str | None = None
    """How the context overhead was read: "NVML per process" or "device delta"."""


class HardwareProfile(pydantic.BaseModel):
    """One GPU."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str
    """The file's stem: "rtx_3060_laptop_6g"."""
    marketing_name: str
    """What the maker calls it."""
    device_names: tuple[str, ...]
    """What NVML and torch call it."""
    vendor: Vendor = "nvidia"
    """Who makes it. Memory is predicted for NVIDIA's GPUs only: see ``no_memory_prediction``."""
    form: Literal["laptop", "desktop", "datacenter", "integrated"]
    """What it is built into; "integrated" shares the host's memory."""
    architecture: str
    """Name of the architecture."""
    compute_capability: Annotated[str, Field(pattern=r"^\d+\.\d$")] | None
    """CUDA's number of the architecture; the rules of memory go by it. Null: it does not run CUDA."""
    multiprocessors: Annotated[int, Field(gt=0)]
    """Streaming multiprocessors; AMD's compute units, Intel's Xe cores, Apple's GPU cores."""
    boost_clock_hz: Rate | None = None
    """Clock that its peaks are counted with. Null: not known."""
    memory_bytes: Bytes
    """Nominal size. Programs get less: see ``usable_memory_bytes``, and the context overhead comes off that."""
    usable_memory_bytes: Bytes | None
    """Total that NVML and nvidia-smi report: nominal less the driver's share, and less ECC on GDDR."""
    memory_bandwidth_bytes_per_s: Rate
    """Peak bandwidth of its memory."""
    peak_fp32_flops_per_s: Rate
    """Dense peak in fp32, without tensor cores."""
    peak_tf32_flops_per_s: Rate | None
    """Dense peak in tf32. None: it has no such units."""
    peak_bf16_flops_per_s: Rate | None
    """Dense peak in bf16, summed in fp32. None: it has no such units."""
    peak_fp16_flops_per_s: Rate | None
    """Dense peak in fp16, summed in fp32. None: it has no such units."""
    power_w: Rate | None
    """Board power limit; of a laptop the highest a maker may configure, without dynamic boost."""
    context_overhead_bytes: Bytes | None
    """Process memory less the allocator's reserved memory, of a process that only has a CUDA context."""
    sources: dict[str, str]
    """Field -> where its number comes from."""
    unknown: dict[str, str] = {}
    """Field -> why it is null."""
    note: str = ""
    """What else a reader should know."""
    measured: Measured | None = None
    """What was measured on such a GPU."""

    @model_validator(mode="after")
    def _every_number_has_a_source(self) -> Self:
        for field in NUMBERS:
            known = getattr(self, field) is not None
            if known and field not in self.sources:
                raise ValueError(f"{field} needs a source under sources:")
            if not known and field not in self.unknown and field not in MAY_BE_LEFT_OUT:
                raise ValueError(f"{field} is null, so it needs a reason under unknown:")
            if known and field in self.unknown:
                raise ValueError(f"{field} has a value, yet unknown: says why it has none")
        others = sorted((self.sources.keys() | self.unknown.keys()) - set(NUMBERS))
        if others:
            raise ValueError(f"sources: and unknown: may name numbers only, not {', '.join(others)}")
        if self.vendor == "nvidia" and self.compute_capability is None:
            raise ValueError("compute_capability is null, and every GPU of NVIDIA has one")
        return self

    def peak_flops_per_s(self, precision: Precision) -> float | None:
        """Return the dense peak at ``precision``, or None where the GPU has no such units."""
        peak: float | None = getattr(self, f"peak_{precision}_flops_per_s")
        return peak

    def no_peak(self, precision: Precision) -> str:
        """Return why there is no peak at ``precision``."""
        return f"{self.name}: no {precision} peak ({self.unknown[f'peak_{precision}_flops_per_s']})"

    @property
    def available_memory_bytes(self) -> int:
        """Memory to plan with: what is usable where that is known, else the nominal size."""
        return self.usable_memory_bytes or self.memory_bytes

    @property
    def no_memory_prediction(self) -> str | None:
        """Why memory cannot be predicted for it, in one line; None where it can."""
        if self.compute_capability is not None:
            return None
        return (
            f"{self.name}: memory is predicted as torch's CUDA allocator hands it out, and this GPU of "
            f"{VENDORS[self.vendor]} does not run CUDA; its profile is for forecasts of time"
        )


NUMBERS = (
    "compute_capability",
    "multiprocessors",
    "boost_clock_hz",
    "memory_bytes",
    "usable_memory_bytes",
    "memory_bandwidth_bytes_per_s",
    *(f"peak_{precision}_flops_per_s" for precision in PRECISIONS),
    "power_w",
    "context_overhead_bytes",
)
"""Fields that need a source, or a reason for being null."""

MAY_BE_LEFT_OUT = ("boost_clock_hz",)
"""Of these: what a profile that was measured does not know, and nothing is computed from."""


def load_profile(name: str) -> HardwareProfile:
    """Return a profile by its name, or from a YAML file.

    Raises:
        ConfigError: there is no such profile (the nearest name is given), or the file is not a valid one.
    """
    if name.endswith((".yaml", ".yml")):
        return read_profile(Path(name))
    files = _files()
    if name in files:
        return read_profile(files[name])
    hint = nearest(name.lower().replace(" ", "_").replace("-", "_"), files, "etad-bench profiles lists them")
    raise ConfigError(f"{name}: no such hardware profile; {hint}")


def find_profiles() -> tuple[list[HardwareProfile], list[str]]:
    """Return every profile, laptops first, then by memory and name; and what is wrong with the files that are none.

    A broken file of the working folder hides the shipped one of its name, and no other.
    """
    order = {"laptop": 0, "desktop": 1, "datacenter": 2, "integrated": 3}
    profiles, problems = [], []
    for path in _files().values():
        try:
            profiles.append(read_profile(path))
        except ConfigError as error:
            problems.append(str(error))
    profiles.sort(key=lambda profile: (order[profile.form], profile.memory_bytes, profile.name))
    return profiles, problems


def list_profiles() -> list[HardwareProfile]:
    """Return every profile that can be read, in the order of :func:`find_profiles`."""
    return find_profiles()[0]


def match_profile(device_name: str, memory_bytes: int) -> HardwareProfile | None:
    """Return the profile of a present GPU, or None.

    Args:
        device_name: what NVML or torch calls it.
        memory_bytes: total it reports. Several sizes share a name; the nearest nominal size within a tenth counts.
    """
    named = [profile for profile in list_profiles() if device_name in profile.device_names]
    near = [profile for profile in named if abs(profile.memory_bytes / memory_bytes - 1) < 0.1]
    return min(near, key=lambda profile: abs(profile.memory_bytes - memory_bytes), default=None)


def read_profile(path: Path) -> HardwareProfile:
    """Read one profile file.

    Raises:
        ConfigError: unreadable, not YAML, an unknown or missing key, a number without a source; one line.
    """
    try:
        profile = HardwareProfile.model_validate(read_yaml(path))
    except pydantic.ValidationError as error:
        raise ConfigError(f"{path}: {explained(error, HardwareProfile)[0]}") from None
    if profile.name != path.stem:
        raise ConfigError(f"{path}: its name is {profile.name}; it has to be the file's, {path.stem}")
    return profile


def dump_profile(profile: HardwareProfile) -> str:
    """Return ``profile`` as YAML that :func:`read_profile` reads."""
    tree: dict[str, Any] = profile.model_dump(mode="json")
    return yaml.safe_dump(tree, sort_keys=False, width=110, allow_unicode=True)


def _files() -> dict[str, Path]:
    folders = (resource_folder("profiles"), LOCAL_FOLDER)
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}
