"""One training loop for the whole book, budgeted in steps.

Adam, a linear warm-up and a cosine decay to zero, gradients clipped by their norm, a progress bar.
"""

import math
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["History", "learning_rate", "train"]

Batch = TypeVar("Batch")


class History(NamedTuple):
    """What a training run leaves behind.

    Attributes:
        losses: `(step, loss)` for every step, counted from 1.
        evaluations: `(step, value)` wherever `evaluate` was called.
        cpu_seconds: processor time of the steps, without the evaluations.
    """

    losses: list[tuple[int, float]]
    evaluations: list[tuple[int, float]]
    cpu_seconds: float


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """The rate at a step: up in a straight line to `peak`, then down a half cosine to 0.

    Args:
        step: counted from 1.
        steps: steps of the whole run.
        peak: the highest rate, reached at step `warmup`.
        warmup: steps to get there.

    Raises:
        ValueError: step is not in 1..steps.

    Source:
        The cosine is that of Loshchilov, Hutter 2017, equation 5, without restarts.

    >>> [round(learning_rate(step, steps=6, peak=1.0, warmup=2), 2) for step in range(1, 7)]
    [0.5, 1.0, 0.85, 0.5, 0.15, 0.0]
    """
    if not 1 <= step <= steps:
        raise ValueError(f"step must be in 1..steps = {steps}, got {step}")
    if step <= warmup:
        return peak * step / warmup
    return peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def train(
    model: nn.Module,
    loss: Callable[[nn.Module, Batch], Tensor],
    batches: Iterable[Batch],
    *,
    steps: int,
    lr: float,
    warmup: int = 0,
    clip: float = 1.0,
    seed: int = 0,
    evaluate: Callable[[nn.Module], float] | None = None,
    every: int = 0,
    title: str = "training",
    progress: bool = True,
) -> History:
    """Train a model for a number of steps.

    Args:
        model: trained in place; left in evaluation mode.
        loss: `loss(model, batch)`, a scalar.
        batches: one batch for each step.
        steps: the budget.
        lr: the highest learning rate.
        warmup: steps of linear warm-up before the cosine decay to zero.
        clip: largest norm of the gradient, over all parameters.
        seed: of torch's generator (dropout, sampling) during the run.
        evaluate: called with the model in evaluation mode, without gradients. Random numbers that
            it draws change nothing of the run.
        every: evaluate after each `every` steps, and after the last; 0 is after the last alone.
        title: stands before the progress bar.
        progress: show the bar, with the loss of the latest step.

    Returns:
        The losses, the evaluations and the processor seconds.

    Raises:
        ValueError: a number is out of range, there are fewer batches than steps, or the loss is
            not one number.
        FloatingPointError: the loss or the gradient's norm is not finite.
        ImportError: the bar is wanted and tqdm is missing.

    >>> model = nn.Linear(1, 1)
    >>> x = torch.tensor([[0.0], [1.0]])
    >>> def squared(model, x):
    ...     return (model(x) - 3 * x).square().mean()
    >>> history = train(model, squared, [x] * 200, steps=200, lr=0.1, progress=False)
    >>> history.losses[-1][1] < 1e-3
    True
    """
    _check(steps=steps, lr=lr, warmup=warmup, clip=clip, every=every)
    torch.manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    losses, evaluations, cpu_seconds = [], [], 0.0
    source = iter(batches)
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    bar = _bar(steps, title) if progress else None
    model.train()
    for step in range(1, steps + 1):
        began = time.process_time()
        try:
            batch = next(source)
        except StopIteration:
            raise ValueError(f"batches ended after {step - 1} of {steps} steps") from None
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, lr, warmup)
        optimizer.zero_grad()
        value = loss(model, batch)
        if not isinstance(value, Tensor) or value.numel() != 1:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"loss must return a tensor of one number, got {got}")
        if not torch.isfinite(value):
            raise FloatingPointError(f"loss is {value.item()} at step {step}")
        value.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"gradient norm is {norm.item()} at step {step}")
        optimizer.step()
        losses.append((step, value.item()))
        cpu_seconds += time.process_time() - began
        if evaluate is not None and (step == steps or (every and step % every == 0)):
            model.eval()
            with torch.no_grad(), torch.random.fork_rng(devices):
                evaluations.append((step, float(evaluate(model))))
            model.train()
        if bar is not None:
            bar.set_postfix(loss=f"{losses[-1][1]:.3f}", refresh=False)
            bar.update()
    if bar is not None:
        bar.close()
    model.eval()
    return History(losses, evaluations, cpu_seconds)


def _bar(steps: int, title: str) -> Any:
    try:
        from tqdm import tqdm  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError(
            "the progress bar needs tqdm; install it with: pip install attnbook[labs], "
            "or pass progress=False"
        ) from error
    return tqdm(total=steps, desc=title, unit="step", mininterval=1.0)


def _check(*, steps: int, lr: float, warmup: int, clip: float, every: int) -> None:
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if not 0 <= warmup < steps:
        raise ValueError(f"warmup must be in 0..steps - 1 = {steps - 1}, got {warmup}")
    for name, value in (("lr", lr), ("clip", clip)):
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
    if every < 0:
        raise ValueError(f"every must not be negative, got {every}")
