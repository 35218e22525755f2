"""Fixtures that several tests share."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec

import pynvml
import pytest

from bench.machine import nvml as nvml_module


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Any:
    """NVML on a machine with one H100: a double of the whole module, with its signatures, that answers everything."""
    double = create_autospec(pynvml)
    for name in dir(pynvml):
        # Exceptions must stay classes to be caught, constants must stay numbers.
        if name.startswith(("NVMLError", "NVML_")):
            setattr(double, name, getattr(pynvml, name))
    double.nvmlDeviceGetCount.return_value = 1
    double.nvmlDeviceGetName.return_value = "NVIDIA H100 80GB HBM3"
    double.nvmlDeviceGetUUID.return_value = b"GPU-1234"
    double.nvmlSystemGetDriverVersion.return_value = "580.65"
    double.nvmlDeviceGetCudaComputeCapability.return_value = [9, 0]
    double.nvmlDeviceGetNumGpuCores.return_value = 16896
    double.nvmlDeviceGetMemoryInfo.return_value = SimpleNamespace(total=81559 * 2**20, used=2**20, free=81558 * 2**20)
    double.nvmlDeviceGetClockInfo.return_value = 1980
    double.nvmlDeviceGetMaxClockInfo.return_value = 1980
    double.nvmlDeviceGetPowerUsage.return_value = 71500
    double.nvmlDeviceGetEnforcedPowerLimit.return_value = 700000
    double.nvmlDeviceGetTemperature.return_value = 34
    double.nvmlDeviceGetCurrentClocksEventReasons.return_value = 0x1
    double.nvmlDeviceGetEccMode.return_value = [1, 1]
    double.nvmlDeviceGetMigMode.return_value = [0, 0]
    double.nvmlDeviceGetPersistenceMode.return_value = 1
    double.nvmlDeviceGetCurrPcieLinkGeneration.return_value = 5
    double.nvmlDeviceGetCurrPcieLinkWidth.return_value = 16
    double.nvmlDeviceGetComputeRunningProcesses.return_value = [SimpleNamespace(pid=1, usedGpuMemory=None)]
    monkeypatch.setattr(nvml_module, "pynvml", double)
    return double
