"""What a page may change in the process that runs it, swapped in and out around each block."""

import builtins
import contextlib
import io
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

IGNORED: list[tuple[str, type[Warning], str]] = [  # message, category, the module that warns
    ("path is deprecated", DeprecationWarning, r"ziamath\.zmath"),  # opens its font the old way
]
State = tuple[Any, ...]  # a value for each of _KEPT
_NOTHING = object()


def _set_device(device: torch.device) -> None:
    if device != torch.get_default_device():  # any device but none slows down every call
        torch.set_default_device(None if device.type == "cpu" else device)


def _deterministic() -> tuple[bool, bool]:
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    return torch.are_deterministic_algorithms_enabled(), warn_only


def _set_deterministic(mode: tuple[bool, bool]) -> None:
    if mode != _deterministic():  # the first call imports a compiler
        torch.use_deterministic_algorithms(mode[0], warn_only=mode[1])


def _set_last_value(value: object) -> None:
    if value is _NOTHING:
        vars(builtins).pop("_", None)
    else:
        vars(builtins)["_"] = value


# How to read it, how to put it back.
_KEPT: list[tuple[Callable[[], Any], Callable[[Any], object]]] = [
    (torch.get_default_device, _set_device),
    (torch.get_rng_state, torch.set_rng_state),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch._tensor_str.get_printoptions, lambda options: torch.set_printoptions(**options)),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.is_anomaly_enabled, torch.set_anomaly_enabled),
    (_deterministic, _set_deterministic),
    (random.getstate, random.setstate),
    (np.random.get_state, np.random.set_state),
    (np.get_printoptions, lambda options: np.set_printoptions(**options)),
    (lambda: vars(builtins).get("_", _NOTHING), _set_last_value),  # the prompt's last value
]


def _read() -> State:
    return tuple(read() for read, _ in _KEPT)


def _write(state: State) -> None:
    for (_, write), value in zip(_KEPT, state, strict=True):
        write(value)


_START = _read()


def _fresh() -> State:
    """As a fresh interpreter has it, but for torch's seed."""
    state = dict(zip((read for read, _ in _KEPT), _START, strict=True))
    state[torch.get_rng_state] = torch.Generator("cpu").manual_seed(0).get_state()
    state[random.getstate] = random.Random().getstate()
    state[np.random.get_state] = np.random.RandomState().get_state()
    return tuple(state.values())


@contextlib.contextmanager
def settings(state: State | None) -> Iterator[Callable[[], State]]:
    """Swap in a page's state (None: a fresh one), give a way to read it, swap the process's back.

    It is torch's random state (seed 0 at first), the default dtype and device, the print options,
    whether gradients are recorded and how, the random states of Python and NumPy (unseeded, as in a
    fresh interpreter), and the prompt's last value. Warnings are errors inside, but for those
    `IGNORED`.
    """
    before = _read()
    try:
        _write(_fresh() if state is None else state)
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
