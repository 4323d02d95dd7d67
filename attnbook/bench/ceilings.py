"""The most that the device does of each kind of work, measured in the same run as the rest."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from attnbook.bench.results import Ceiling
from attnbook.bench.timing import in_turn

__all__ = ["UNITS", "bound", "ceilings", "metric"]

UNITS = {
    "matmul": ("TFLOP/s", 1e12),
    "copy": ("GB/s", 1e9),
    "exp": ("Gexp/s", 1e9),
    "tanh": ("Gtanh/s", 1e9),
    "reciprocal": ("Grecip/s", 1e9),
}
"""What each kind of work is given in."""
CHAIN = 64
"""So many of one function after another, where a compiler keeps the numbers in registers."""


def ceilings(device: str, dtypes: Iterable[str], *, small: bool = False) -> list[Ceiling]:
    """Measure a matrix product, a copy, and three functions, for each type.

    Args:
        device: "cpu" or "cuda".
        dtypes: by name. On a CPU the functions of narrow types are those of float32.
        small: sizes that take no time, and say nothing of the device.
    """
    found = []
    for dtype in dtypes:
        kind = getattr(torch, dtype)
        for name, amount, run, source in _runs(device, kind, small):
            try:
                run()
            except Exception as error:  # no compiler on the device: the rest stands without it
                print(f"no ceiling of {name} in {dtype}: {type(error).__name__}")
                continue
            times, failed = in_turn({name: run}, device, 3 if small else 7, 1.0)
            if failed:
                raise failed[name]
            unit, scale = UNITS[name]
            best = amount / min(times[name]) / scale
            found.append(Ceiling(name, dtype, best, unit, f"{source}, in the same run"))
    return found


def _runs(
    device: str, dtype: torch.dtype, small: bool
) -> Iterable[tuple[str, float, Callable[[], Any], str]]:
    gpu = device == "cuda"
    n = 64 if small else 8192 if gpu else 2048 if dtype == torch.float32 else 1024
    x = torch.randn(n, n, device=device).to(dtype)
    out = torch.empty_like(x)
    yield "matmul", 2.0 * n**3, lambda: torch.mm(x, x, out=out), f"product of {n} x {n} matrices"
    size = 2**12 if small else 2**30 if gpu else 2**27
    read = torch.zeros(size, dtype=torch.uint8, device=device)
    written = torch.zeros_like(read)
    what = f"copy of {size / 2**20:g} MiB, read and written"
    yield "copy", 2.0 * size, lambda: written.copy_(read), what
    for name in ("exp", "tanh", "reciprocal"):
        yield name, *_function(name, dtype, device, small)


def _function(
    name: str, dtype: torch.dtype, device: str, small: bool
) -> tuple[float, Callable[[], Any], str]:
    function: Callable[[Tensor], Tensor] = getattr(torch, name)
    if device == "cpu":
        x = torch.rand(2**14) + 0.5
        out = torch.empty_like(x)
        return x.numel(), lambda: function(x, out=out), f"torch.{name} of float32 in the cache"  # type: ignore[call-arg]
    x = torch.rand(2**12 if small else 2**24, device=device).to(dtype) + 0.5

    def chain(x: Tensor) -> Tensor:
        for _ in range(CHAIN):
            x = function(x)
        return x

    compiled = torch.compile(chain)
    return CHAIN * x.numel(), lambda: compiled(x), f"{CHAIN} torch.{name} on end, compiled"


def metric(work: Mapping[str, float], seconds: float) -> dict[str, Any] | None:
    """The speed at the first kind of work."""
    for kind, amount in work.items():
        unit, scale = UNITS[kind]
        return {"name": unit, "value": amount / seconds / scale}
    return None


def bound(
    work: Mapping[str, float], seconds: float, measured: Iterable[Ceiling], dtype: str
) -> dict[str, Any] | None:
    """The ceiling that the work is nearest to, and the share of it that was reached, in percent."""
    best: dict[str, Any] = {}
    for ceiling in measured:
        if ceiling.dtype != dtype or ceiling.kind not in work:
            continue
        speed = work[ceiling.kind] / seconds / UNITS[ceiling.kind][1]
        share = 100 * speed / ceiling.value
        if not best or share > best["pct"]:
            best = {
                "kind": ceiling.kind,
                "value": ceiling.value,
                "source": ceiling.source,
                "pct": share,
            }
    return best or None
