"""Where a result was obtained: host, CPU, memory, GPUs, torch and its flags, settings, code version, packages, seed.

Everything that could explain why two machines, or two days, disagree. What cannot be known is null, with a reason.
"""

import os
import platform
import re
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pydantic

import etad
from bench.machine.nvml import GpuStates, read_gpus
from bench.units import GIB

PACKAGES = (
    "etad-bench",
    "torch",
    "torchvision",
    "numpy",
    "pandas",
    "scipy",
    "av",
    "h5py",
    "pydantic",
    "nvidia-ml-py",
    "fvcore",
    "pytest-benchmark",
)
"""Packages whose version can change a result."""

VARIABLES = (
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_DEVICE_ORDER",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_VISIBLE_DEVICES",
    "MKL_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
)
"""Environment variables that change memory, speed or results."""


class Section(pydantic.BaseModel):
    """Base of every section: frozen, no unknown keys; ``unknown`` says by field why a value is null."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    unknown: dict[str, str] = {}


class Host(Section):
    """The machine and its operating system."""

    name: str
    os: str
    kernel: str
    python: str


class Cpu(Section):
    """The processor, and what of it this process may use."""

    model: str | None
    logical_cores: int | None
    affinity: tuple[int, ...] | None
    """Cores this process may run on."""
    quota_cores: float | None
    """CPU time per wall time that the cgroup allows."""
    governor: str | None
    load_1min: float | None
    """Processes that run or wait to run, on average over the last minute."""


class Memory(Section):
    """Host memory."""

    total_bytes: int | None
    available_bytes: int | None
    cgroup_limit_bytes: int | None


class Torch(Section):
    """torch, the libraries it was built with, and the flags in force."""

    version: str
    git: str | None
    cuda: str | None
    cudnn: str | None
    cuda_available: bool
    matmul_fp32_precision: str
    """"tf32" where float32 matrix products use TF32, "ieee" or "none" where they do not."""
    cudnn_fp32_precision: str
    cudnn_benchmark: bool
    cudnn_deterministic: bool
    deterministic_algorithms: bool
    threads: int
    interop_threads: int


class TorchNotAsked(Section):
    """The installed torch, which was not loaded: what only torch itself knows is null."""

    version: str | None
    git: None = None
    cuda: None = None
    cudnn: None = None
    cuda_available: None = None
    matmul_fp32_precision: None = None
    cudnn_fp32_precision: None = None
    cudnn_benchmark: None = None
    cudnn_deterministic: None = None
    deterministic_algorithms: None = None
    threads: None = None
    interop_threads: None = None


class Code(Section):
    """The version of this code."""

    git_sha: str | None
    git_dirty: bool | None
    """Whether tracked files differ from the commit."""


class Surroundings(Section):
    """What was found with or without asking torch."""

    host: Host
    cpu: Cpu
    memory: Memory
    gpus: GpuStates
    torch: Torch | TorchNotAsked
    variables: dict[str, str | None]
    """Environment variables of :data:`VARIABLES`; null: not set."""
    code: Code
    packages: dict[str, str | None]
    """Versions of :data:`PACKAGES`; null: not installed."""
    seed: int | None


class Environment(Surroundings):
    """Everything that was found, torch asked: what a record holds."""

    torch: Torch


def collect_environment(seed: int | None = None) -> Environment:
    """Look at this machine and this process; starts no CUDA context; below a second once torch is loaded.

    Args:
        seed: of the run it is collected for; None where nothing was drawn.
    """
    return Environment(**dict(collect_without_torch(seed)) | {"torch": _torch()})


def collect_without_torch(seed: int | None = None) -> Surroundings:
    """Look at this machine and this process without loading torch, which takes seconds.

    Args:
        seed: see :func:`collect_environment`.
    """
    packages = {name: _version(name) for name in PACKAGES}
    only_torch_knows = Torch.model_fields.keys() - Section.model_fields.keys() - {"version"}
    unknown = dict.fromkeys(sorted(only_torch_knows), "not asked; --torch")
    if packages["torch"] is None:
        unknown["version"] = "not installed"
    return Surroundings(
        host=_host(),
        cpu=_cpu(),
        memory=_memory(),
        gpus=read_gpus(),
        torch=TorchNotAsked(version=packages["torch"], unknown=unknown),
        variables={name: os.environ.get(name) for name in VARIABLES},
        code=_code(Path(etad.__file__).resolve().parent.parent),
        packages=packages,
        seed=seed,
    )


def slug(text: str) -> str:
    """Return ``text`` as the name of a device's folder: "NVIDIA H100 80GB HBM3" becomes "nvidia-h100-80gb-hbm3"."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unknown"


def device_slug(environment: Surroundings, gpu_name: str | None = None) -> str:
    """Return the slug of the device that a result belongs to: of the GPU ``gpu_name``, or of this machine's CPU."""
    return slug(gpu_name) if gpu_name else f"cpu-{slug(environment.cpu.model or 'unknown')}"


def format_environment(environment: Surroundings) -> str:
    """Return the environment as text to paste into an issue: one line a fact, what is unknown with its reason."""
    lines: list[str] = []
    for title, section in environment.model_dump(mode="json").items():
        if title == "gpus":
            for gpu in section["found"]:
                lines += _table(f"gpu {gpu.pop('index')}", gpu)
            if section["reason"]:
                lines += ["gpu", f"  none ({section['reason']})"]
        elif title == "seed":
            lines += ["seed", f"  {'none' if section is None else section}"]
        elif title != "unknown":
            lines += _table(title, section)
    return "\n".join(lines)


def _table(title: str, facts: dict[str, object]) -> list[str]:
    unknown = facts.pop("unknown", {})
    reasons = unknown if isinstance(unknown, dict) else {}
    absent = {"variables": "not set", "packages": "not installed"}.get(title, "unknown")
    lines = [title]
    for key, value in facts.items():
        if value is None:
            text = f"{absent} ({reasons[key]})" if key in reasons else absent
        elif isinstance(value, list):
            text = ", ".join(str(item) for item in value) or "none"
        elif key.endswith("_bytes") and isinstance(value, int):
            text = f"{value} ({value / GIB:.2f} GiB)"
        else:
            text = str(value)
        lines.append(f"  {key:24} {text}")
    return lines


def _host() -> Host:
    try:
        system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        system = platform.system()
    return Host(name=platform.node(), os=system, kernel=platform.release(), python=platform.python_version())


def _cpu() -> Cpu:
    unknown: dict[str, str] = {}
    model = _line_after(Path("/proc/cpuinfo"), "model name") or platform.processor() or None
    if model is None:
        unknown["model"] = "neither /proc/cpuinfo nor the platform names it"
    affinity = tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None
    if affinity is None:
        unknown["affinity"] = f"{platform.system()} does not tell"
    quota = _cgroup_quota()
    if quota is None:
        unknown["quota_cores"] = "no cgroup quota is set, or it cannot be read"
    governor = _first_line(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"))
    if governor is None:
        unknown["governor"] = "the kernel shows no cpufreq (usual in a virtual machine)"
    try:
        load: float | None = os.getloadavg()[0]
    except OSError:
        load, unknown["load_1min"] = None, "the kernel does not tell"
    return Cpu(
        model=model,
        logical_cores=os.cpu_count(),
        affinity=affinity,
        quota_cores=quota,
        governor=governor,
        load_1min=load,
        unknown=unknown,
    )


def _cgroup_quota() -> float | None:
    # Version 2 has "quota period" in one file, version 1 has two files; times in microseconds.
    line = _first_line(Path("/sys/fs/cgroup/cpu.max"))
    if line is not None:
        quota, _, period = line.partition(" ")
    else:
        quota = _first_line(Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")) or "max"
        period = _first_line(Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")) or "0"
    if not (quota.isdigit() and period.isdigit()) or int(period) == 0:
        return None
    return int(quota) / int(period)


def _memory() -> Memory:
    unknown: dict[str, str] = {}
    values: dict[str, int | None] = {}
    for field, key in (("total_bytes", "MemTotal"), ("available_bytes", "MemAvailable")):
        line = _line_after(Path("/proc/meminfo"), key)
        values[field] = int(line.split()[0]) * 1024 if line else None
        if line is None:
            unknown[field] = "/proc/meminfo does not tell"
    limit = _first_line(Path("/sys/fs/cgroup/memory.max")) or _first_line(
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")
    )
    # Version 1 of cgroups writes "no limit" as a number near 2^63.
    values["cgroup_limit_bytes"] = int(limit) if limit and limit.isdigit() and int(limit) < 2**60 else None
    if values["cgroup_limit_bytes"] is None:
        unknown["cgroup_limit_bytes"] = "no limit is set, or it cannot be read"
    return Memory(**values, unknown=unknown)


def _torch() -> Torch:
    import torch  # slow to import, and what reads environments does not need it

    unknown = {} if torch.version.cuda else {"cuda": "torch is built without CUDA"}
    cudnn = torch.backends.cudnn.version() if torch.version.cuda else None
    if cudnn is None:
        unknown["cudnn"] = "torch is built without it, or it cannot be loaded"
    return Torch(
        version=torch.__version__,
        git=torch.version.git_version,
        cuda=torch.version.cuda,
        cudnn=None if cudnn is None else str(cudnn),
        cuda_available=torch.cuda.is_available(),
        matmul_fp32_precision=torch.backends.cuda.matmul.fp32_precision,
        cudnn_fp32_precision=torch.backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
        cudnn_benchmark=torch.backends.cudnn.benchmark,
        cudnn_deterministic=torch.backends.cudnn.deterministic,
        deterministic_algorithms=torch.are_deterministic_algorithms_enabled(),
        threads=torch.get_num_threads(),
        interop_threads=torch.get_num_interop_threads(),
        unknown=unknown,
    )


def _code(root: Path) -> Code:
    top = _git(root, "rev-parse", "--show-toplevel")
    # An installed package may lie inside somebody else's repository, whose commit says nothing of this code.
    if top is None or Path(top).resolve() != root:
        reason = "not run from a git checkout of this project"
        return Code(git_sha=None, git_dirty=None, unknown={"git_sha": reason, "git_dirty": reason})
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return Code(
        git_sha=_git(root, "rev-parse", "HEAD"),
        git_dirty=None if changes is None else bool(changes),
        unknown={"git_dirty": "git status failed"} if changes is None else {},
    )


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _lines(path: Path) -> Iterable[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()


def _first_line(path: Path) -> str | None:
    return next((line.strip() for line in _lines(path)), None)


def _line_after(path: Path, key: str) -> str | None:
    """Return what stands after "key :" in a /proc file."""
    found = (line.partition(":") for line in _lines(path))
    return next((value.strip() for name, _, value in found if name.strip() == key), None)


def device_meant(environment: Environment, device_name: str) -> str:
    """Return the slug of the device that ``--device`` means, for a cell that did not live to tell.

    It is "cuda" for a GPU that NVML does not name.
    """
    means_gpu = environment.torch.cuda_available if device_name == "auto" else device_name != "cpu"
    return device_slug(environment, gpu_name(environment, device_name) or ("cuda" if means_gpu else None))


def gpu_name(environment: Environment, device_name: str) -> str | None:
    """Return the name by NVML of the GPU that ``--device`` means; None: it is not known, or the CPU is meant."""
    gpus = environment.gpus.found
    if device_name == "cpu" or not gpus or (device_name == "auto" and not environment.torch.cuda_available):
        return None
    _, _, index = device_name.partition(":")
    return gpus[min(int(index or 0), len(gpus) - 1)].name
