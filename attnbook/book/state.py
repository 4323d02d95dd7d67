"""What a page may change in the process that runs it, swapped in and out around each block."""

import contextlib
import io
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

IGNORED: list[tuple[str, type[Warning], str]] = [  # message, category, the module that warns
    ("path is deprecated", DeprecationWarning, r"ziamath\.zmath"),  # opens its font the old way
]
State = tuple[torch.Tensor, torch.dtype, dict[str, Any], bool]


def _read() -> State:
    options = torch._tensor_str.get_printoptions()
    return torch.get_rng_state(), torch.get_default_dtype(), options, torch.is_grad_enabled()


def _write(state: State) -> None:
    random, dtype, options, gradients = state
    torch.set_rng_state(random)
    torch.set_default_dtype(dtype)
    torch.set_printoptions(**options)
    torch.set_grad_enabled(gradients)


@contextlib.contextmanager
def settings(state: State | None) -> Iterator[Callable[[], State]]:
    """Swap in a page's state (None: a fresh one), give a way to read it, swap the process's back.

    It is the random state (seed 0 at first), the default dtype, the print options and whether
    gradients are recorded. Warnings are errors inside, but for those `IGNORED`.
    """
    before = _read()
    try:
        if state is None:
            torch.set_printoptions(profile="default")
            seeded = torch.Generator().manual_seed(0).get_state()
            state = (seeded, torch.float32, _read()[2], True)
        _write(state)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for message, category, module in IGNORED:
                warnings.filterwarnings("ignore", message, category, module)
            yield _read
    finally:
        _write(before)


@contextlib.contextmanager
def captured() -> Iterator[io.StringIO]:
    """Catch what is printed; progress bars (standard error) are dropped."""
    output, hook = io.StringIO(), sys.displayhook
    sys.displayhook = sys.__displayhook__
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()):
            yield output
    finally:
        sys.displayhook = hook
        if "matplotlib.pyplot" in sys.modules:
            sys.modules["matplotlib.pyplot"].close("all")
