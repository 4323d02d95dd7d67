"""Sequences of random bits to be copied, repeated or recalled.

The tasks of Graves, Wayne, Danihelka 2014 ("the paper" below) that are about remembering. The
sequence comes first, then marks, then time to answer, in which nothing comes in.

    copy                x1 x2 x3 |  . . .              ->  x1 x2 x3
    repeat copy         x1 x2 x3 2  . . . . . . .      ->  x1 x2 x3 x1 x2 x3 end
    associative recall  | a | b | c ? b ?  .           ->  c

`B` sequences of `T` steps. All of a batch have the same length, so nothing is padded.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Sequences", "associative_recall", "copy", "repeat_copy", "wrong_bits"]


class Sequences(NamedTuple):
    """What comes in, and what is to come out at the end.

    Attributes:
        inputs: `(B, T, I)`, the bits, and one channel for each mark behind them.
        answers: `(B, A, O)`, the bits that are wanted at the last `A` steps.
    """

    inputs: Float[Tensor, "B T I"]
    answers: Float[Tensor, "B A O"]


def copy(size: int, length: int, generator: torch.Generator, bits: int = 8) -> Sequences:
    """Say the sequence again, when it has ended.

    Args:
        size: `B`.
        length: of a sequence; `T = 2 length + 1`.
        generator: of the bits.
        bits: in a step; the channel behind them marks the end.

    Raises:
        ValueError: a number is below 1.

    Source:
        Graves, Wayne, Danihelka 2014, section 4.1.

    >>> batch = copy(1, length=3, generator=torch.Generator().manual_seed(0), bits=2)
    >>> batch.inputs[0].int().T
    tensor([[0, 1, 1, 0, 0, 0, 0],
            [1, 0, 1, 0, 0, 0, 0],
            [0, 0, 0, 1, 0, 0, 0]], dtype=torch.int32)
    >>> batch.answers[0].int().T
    tensor([[0, 1, 1],
            [1, 0, 1]], dtype=torch.int32)
    """
    _check(size=size, length=length, bits=bits)
    drawn = _bits(size, length, bits, generator)
    inputs = drawn.new_zeros(size, 2 * length + 1, bits + 1)
    inputs[:, :length, :bits] = drawn
    inputs[:, length, bits] = 1.0
    return Sequences(inputs, drawn)


def repeat_copy(
    size: int,
    length: int,
    repeats: int,
    generator: torch.Generator,
    bits: int = 8,
    most: int = 10,
) -> Sequences:
    """Say the sequence again a given number of times, then that it is the end.

    Args:
        size: `B`.
        length: of a sequence; `T = length + 1 + length repeats + 1`.
        repeats: how many times. It comes in on a channel of its own, less the mean and over the
            standard deviation of the numbers 1 to `most`.
        generator: of the bits.
        bits: in a step. In an answer, the channel behind them is the end.
        most: the largest number of training.

    Raises:
        ValueError: a number is below 1, or `most` below 2.

    Source:
        Graves, Wayne, Danihelka 2014, section 4.2.

    >>> batch = repeat_copy(1, 2, repeats=2, generator=torch.Generator().manual_seed(0), bits=1)
    >>> batch.inputs[0].T
    tensor([[ 0.0000,  1.0000,  0.0000,  0.0000,  0.0000,  0.0000,  0.0000,  0.0000],
            [ 0.0000,  0.0000, -1.2185,  0.0000,  0.0000,  0.0000,  0.0000,  0.0000]])
    >>> batch.answers[0].int().T
    tensor([[0, 1, 0, 1, 0],
            [0, 0, 0, 0, 1]], dtype=torch.int32)
    """
    _check(size=size, length=length, repeats=repeats, bits=bits)
    if most < 2:
        raise ValueError(f"most must be at least 2, got {most}")
    drawn = _bits(size, length, bits, generator)
    answers = drawn.new_zeros(size, length * repeats + 1, bits + 1)
    answers[:, :-1, :bits] = drawn.repeat(1, repeats, 1)
    answers[:, -1, bits] = 1.0
    inputs = drawn.new_zeros(size, length + 1 + answers.shape[1], bits + 1)
    inputs[:, :length, :bits] = drawn
    inputs[:, length, bits] = (repeats - (most + 1) / 2) / ((most**2 - 1) / 12) ** 0.5
    return Sequences(inputs, answers)


def associative_recall(
    size: int,
    items: int,
    generator: torch.Generator,
    bits: int = 6,
    width: int = 3,
) -> Sequences:
    """Say which item followed the one that is shown again.

    Args:
        size: `B`.
        items: how many are listed. Any but the last can be asked for; all differ from one another.
        generator: of the bits and of the question.
        bits: in a step; behind them come a channel that marks where an item begins, and one that
            stands before and after the question.
        width: steps of an item; `T = (width + 1) (items + 1) + 1 + width`.

    Raises:
        ValueError: a number is below 1, items is below 2, or there are fewer items that differ.

    Source:
        Graves, Wayne, Danihelka 2014, section 4.3. The paper does not say that items differ.

    >>> batch = associative_recall(1, 3, torch.Generator().manual_seed(1), bits=3, width=1)
    >>> batch.inputs[0].int().T  # the item 1 1 0 is shown again
    tensor([[0, 1, 0, 0, 0, 1, 0, 1, 0, 0],
            [0, 1, 0, 1, 0, 1, 0, 1, 0, 0],
            [0, 0, 0, 1, 0, 1, 0, 0, 0, 0],
            [1, 0, 1, 0, 1, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0, 1, 0, 1, 0]], dtype=torch.int32)
    >>> batch.answers[0].int().T  # 0 1 1 followed it
    tensor([[0],
            [1],
            [1]], dtype=torch.int32)
    """
    _check(size=size, items=items, bits=bits, width=width)
    if not 2 <= items <= 2 ** (bits * width):
        raise ValueError(f"items must be in 2..{2 ** (bits * width)}, got {items}")
    listed = _different(size, items, width, bits, generator)
    asked = torch.randint(items - 1, (size,), generator=generator)
    rows = torch.arange(size)
    inputs = listed.new_zeros(size, (width + 1) * (items + 1) + 1 + width, bits + 2)
    ends = (width + 1) * items  # of the list
    shown = torch.cat([listed, listed[rows, asked][:, None]], dim=1)
    blocks = inputs[:, : ends + width + 1].view(size, items + 1, width + 1, bits + 2)
    blocks[:, :, 1:, :bits] = shown
    blocks[:, :-1, 0, bits] = 1.0
    inputs[:, [ends, ends + width + 1], bits + 1] = 1.0
    return Sequences(inputs, listed[rows, asked + 1])


def wrong_bits(output: Float[Tensor, "B T O"], batch: Sequences) -> float:
    """The share of the bits of the answers that are wrong: 0.5 is guessing.

    Args:
        output: logits `(B, T, O)` of every step, of which the last are judged.
        batch: the sequences.

    Raises:
        ValueError: the output is not of these sequences.

    >>> batch = copy(1, length=2, generator=torch.Generator().manual_seed(0), bits=2)
    >>> batch.answers[0]
    tensor([[0., 1.],
            [1., 0.]])
    >>> output = torch.tensor([[9.0, 9.0], [9.0, 9.0], [9.0, 9.0], [-1.0, 2.0], [3.0, 1.0]])
    >>> wrong_bits(output[None], batch)
    0.25
    """
    size, steps, width = *batch.inputs.shape[:2], batch.answers.shape[2]
    if output.shape != (size, steps, width):
        raise ValueError(
            f"output must have shape ({size}, {steps}, {width}), got {tuple(output.shape)}"
        )
    said = output[:, -batch.answers.shape[1] :] > 0
    return (said != (batch.answers > 0.5)).float().mean().item()


def _bits(size: int, length: int, bits: int, generator: torch.Generator) -> Tensor:
    return torch.randint(2, (size, length, bits), generator=generator).float()


def _different(size: int, items: int, width: int, bits: int, generator: torch.Generator) -> Tensor:
    """Lists of items that all differ, `(size, items, width, bits)`; each such list is as likely."""
    if 2 * items > 2 ** (bits * width):  # most of all there are: some of each order of all
        orders = [torch.randperm(2 ** (bits * width), generator=generator) for _ in range(size)]
        places = torch.arange(bits * width - 1, -1, -1)
        digits = torch.stack(orders)[:, :items, None] >> places & 1
        return digits.view(size, items, width, bits).float()
    listed = _bits(size * items, width, bits, generator).view(size, items, width, bits)
    while bool((again := _repeated(listed)).any()):  # few rounds: a draw is more often new than not
        listed[again] = _bits(int(again.sum()), width, bits, generator)
    return listed


def _repeated(listed: Tensor) -> Tensor:
    """Which items stand before in their list, `(B, items)`."""
    flat = listed.flatten(2)
    same = (flat[:, :, None] == flat[:, None]).all(-1)
    return same.tril(-1).any(-1)


def _check(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
