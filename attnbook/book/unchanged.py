"""Whether a figure or a table changed what the blocks behind it see.

A leaf has names of its own, but the objects are the page's: where it appends to a list of the page,
or adds to a tensor in place, the next block sees that, while a script that leaves the leaf out does
not. So objects are compared, before and after: tensors (with their gradients), arrays, random
generators, iterators, containers, modules, dataclasses, and instances of the page's own classes.
"""

import dataclasses
import hashlib
import pickle
import random
from collections import deque
from collections.abc import Iterator, Mapping
from types import GeneratorType
from typing import Any

import numpy as np
import torch

_PLAIN = (type(None), bool, int, str, bytes, torch.dtype, torch.device, type)


def snapshot(names: Mapping[str, Any]) -> dict[str, object]:
    """What each name of a page stands for, for a comparison.

    >>> names = {"x": [torch.zeros(2)], "y": [1]}
    >>> before = snapshot(names)
    >>> _ = names["x"][0].add_(1)
    >>> changed(before, snapshot(names))
    ['x']
    """
    tensors: dict[int, object] = {}
    return {
        name: _state(value, {}, tensors)
        for name, value in names.items()
        if not name.startswith("__")
    }


def changed(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """The names that do not stand for the same, sorted."""
    names = before.keys() | after.keys()
    missing = object()
    return sorted(n for n in names if before.get(n, missing) != after.get(n, missing))


def _state(value: Any, seen: dict[int, int], tensors: dict[int, object]) -> object:
    """Something that is equal to its like exactly while the value has not changed.

    Args:
        value: any object.
        seen: the containers that we are in, or were: their place.
        tensors: what was made of tensors already.
    """
    kind = type(value).__qualname__
    if isinstance(value, _PLAIN):
        return kind, value
    if isinstance(value, float | complex):
        return kind, repr(value)  # nan is not equal to itself
    if isinstance(value, torch.Tensor):
        if id(value) not in tensors:
            tensors[id(value)] = _tensor(value)
        return tensors[id(value)]
    if id(value) in seen:
        return "again", seen[id(value)]
    seen[id(value)] = len(seen)
    parts = _parts(value)
    if parts is None:
        return kind, id(value)
    states = (_state(part, seen, tensors) for part in parts)
    return kind, frozenset(states) if isinstance(value, set | frozenset) else tuple(states)


def _parts(value: Any) -> Iterator[Any] | None:
    """What an object is made of; None where nothing is known of it but its identity."""
    if isinstance(value, Mapping):
        return (part for pair in value.items() for part in pair)
    if isinstance(value, list | tuple | set | frozenset | deque):
        return iter(value)
    if isinstance(value, np.ndarray):
        return iter((value.dtype.str, value.shape, pickle.dumps(value)))
    if isinstance(value, torch.Generator):
        return iter((value.get_state(),))
    if isinstance(value, random.Random | np.random.Generator | np.random.RandomState):
        return iter((pickle.dumps(value),))
    if isinstance(value, GeneratorType):
        return iter((value.gi_frame and value.gi_frame.f_lasti, value.gi_frame is None))
    if isinstance(value, Iterator) and type(value).__module__ in ("builtins", "itertools"):
        reduced = value.__reduce__()
        return iter(reduced if isinstance(reduced, tuple) else (reduced,))
    if dataclasses.is_dataclass(value):
        return (getattr(value, field.name, None) for field in dataclasses.fields(value))
    if isinstance(value, torch.nn.Module) or type(value).__module__ == "__main__":
        return _parts(vars(value)) if hasattr(value, "__dict__") else None
    return None


def _tensor(value: torch.Tensor) -> object:
    grad = _tensor(value.grad) if value.is_leaf and value.grad is not None else None
    about = (type(value).__qualname__, value.dtype, tuple(value.shape), value.requires_grad, grad)
    try:
        flat = value.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
        data = flat.view(torch.uint8).numpy().tobytes()
    except (RuntimeError, NotImplementedError, TypeError):  # sparse, or without data
        return *about, id(value), value._version
    return *about, hashlib.blake2b(data, digest_size=16).digest()
