"""What a run was measured on, and with what."""

import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import torch

from attnbook import __version__
from attnbook.bench.results import ROOT, Device, Results

__all__ = ["describe", "here", "stem"]


def describe(kind: str, threads: int) -> Device:
    """The device that `kind`, "cpu" or "cuda", stands for."""
    cpu = _cpu()
    if kind == "cpu":
        return Device("cpu", cpu, None, None, cpu, threads)
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    driver = _said(query)
    name = torch.cuda.get_device_name()
    return Device("cuda", name, driver, torch.version.cuda, cpu, threads)


def stem(device: Device) -> str:
    """The name of its result file, as "cpu" or "nvidia-h200"."""
    if device.kind == "cpu":
        return "cpu"
    return re.sub(r"[^a-z0-9]+", "-", device.name.lower()).strip("-")


def here(kind: str, threads: int) -> Results:
    """A result file without rows: this code, on this device, now."""
    return Results(
        timestamp=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=_said(["git", "-C", str(ROOT), "rev-parse", "HEAD"]),
        dirty=bool(_said(["git", "-C", str(ROOT), "status", "--porcelain", "--", "attnbook"])),
        device=describe(kind, threads),
        torch=torch.__version__,
        triton=_triton(),
        attnbook=__version__,
    )


def _triton() -> str | None:
    try:
        import triton
    except ModuleNotFoundError:
        return None
    return str(triton.__version__)


def _said(command: list[str]) -> str | None:
    """What a program prints; None where it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _cpu() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine() or "unknown"
