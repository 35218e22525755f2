"""A stand-in for CUDA: torch's own CUDA code runs where there is no GPU; cuda_runtime.c says how far that goes.

What is real: which kernels torch launches, what it allocates for them, and when. What is not: the values of tensors on
the device (read back, they are zeros), times, and what cuDNN and cuBLAS would ask for. nvml.c tells of this GPU as NVML
does.
"""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import torch

HERE = Path(__file__).parent
DRIVER_NAME = "libcuda.so.1"
MANAGEMENT_NAME = "libnvidia-ml.so.1"
MANAGEMENT_SOURCE = HERE / "nvml.c"
CUDA_MAJOR = "13"
INCLUDES = {
    f"nvidia.cu{CUDA_MAJOR}": "include",
    "nvidia.cudnn": "include",
    "triton": "backends/nvidia/include",
}
"""Packages that come with a CUDA build of torch, and where they keep CUDA's headers; triton has the compiler's."""


def why_not() -> str | None:
    """Return why there can be no stand-in here; None if there can."""
    if not sys.platform.startswith("linux"):
        return "the stand-in needs Linux"
    if (torch.version.cuda or "").partition(".")[0] != CUDA_MAJOR:
        return f"the stand-in speaks CUDA {CUDA_MAJOR}, and this torch is built for {torch.version.cuda or 'no CUDA'}"
    missing = [str(folder) for folder in _includes() if not folder.is_dir()]
    if missing:
        return f"there are no headers of CUDA in {missing[0]}"
    return None if shutil.which("cc") else "there is no C compiler"


def compile_stand_in(folder: Path) -> Path:
    """Compile the stand-in into a folder, with NVML's beside it; return the former.

    Raises:
        subprocess.CalledProcessError: it does not compile; the compiler has said why on stderr.
    """
    sources = set(HERE.glob("*.c")) - {MANAGEMENT_SOURCE}
    _compile(folder / MANAGEMENT_NAME, {MANAGEMENT_SOURCE})
    return _compile(folder / DRIVER_NAME, sources)


def with_stand_in(library: Path, capacity_bytes: int | None = None) -> dict[str, str]:
    """Return the environment of a process that takes the stand-in for a GPU.

    Args:
        library: the compiled stand-in.
        capacity_bytes: the GPU's memory; None for 256 GiB.
    """
    # Settings of the caller's for CUDA and its allocator would be taken for the default.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CUDA_", "PYTORCH_"))}
    capacity = {} if capacity_bytes is None else {"STAND_IN_CAPACITY_BYTES": str(capacity_bytes)}
    # NVML is loaded by its name.
    folders = filter(None, (str(library.parent), kept.get("LD_LIBRARY_PATH")))
    return kept | capacity | {"LD_PRELOAD": str(library), "LD_LIBRARY_PATH": os.pathsep.join(folders)}


def _compile(library: Path, sources: set[Path]) -> Path:
    flags = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-Wl,-soname,{library.name}"]
    # As the system's headers, whose warnings are not ours.
    includes = [argument for folder in _includes() for argument in ("-isystem", str(folder))]
    subprocess.run(["cc", *flags, *includes, *sorted(map(str, sources)), "-o", str(library)], check=True)
    return library


def _includes() -> list[Path]:
    return [_folder_of(package) / folder for package, folder in INCLUDES.items()]


def _folder_of(package: str) -> Path:
    try:
        spec = find_spec(package)
    except ModuleNotFoundError:
        spec = None
    places = None if spec is None else spec.submodule_search_locations
    return Path(next(iter(places))) if places else Path(package.replace(".", "/"))
