"""Where a head points in a memory of slots: by what is in them, and by a step from where it was.

Written from Graves, Wayne, Danihelka 2014 ("the paper" below), whose symbols are used. `N` slots of
width `M`, and `H` heads, each with weights over the slots.

    content     w_c = softmax(beta K[k, M])                 (*b, H, N)    equations 5, 6
    gate        w_g = g w_c + (1 - g) w_before              (*b, H, N)    equation 7
    shift       w~(i) = sum_j w_g(j) s(i - j)               (*b, H, N)    equation 8
    sharpen     w = w~^gamma / sum w~^gamma                 (*b, H, N)    equation 9

Content is attention over the slots; the three steps behind it are not.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from attnbook.core import attention_weights
from attnbook.scores import cosine

__all__ = ["Head", "address", "content_weights", "interpolate", "sharpen", "shift"]


class Head(NamedTuple):
    """What the controller tells `H` heads: where to go.

    Attributes:
        key: `(*b, H, M)`, `k`, what to look for.
        strength: `(*b, H, 1)`, `beta`, above 0: how sharply.
        gate: `(*b, H, 1)`, `g` in (0, 1): 1 goes where the key is found, 0 stays where it was.
        shift: `(*b, H, K)`, `s`, a distribution over `K` steps, from `-(K // 2)` to `K // 2`.
        sharpness: `(*b, H, 1)`, `gamma`, at least 1.
    """

    key: Float[Tensor, "*b H M"]
    strength: Float[Tensor, "*b H 1"]
    gate: Float[Tensor, "*b H 1"]
    shift: Float[Tensor, "*b H K"]
    sharpness: Float[Tensor, "*b H 1"]


def content_weights(
    key: Float[Tensor, "*b H M"], memory: Float[Tensor, "*b N M"], strength: Float[Tensor, "*b H 1"]
) -> Float[Tensor, "*b H N"]:
    """Where the memory holds something like the key: attention with the cosine score.

    Args:
        key: `(*b, H, M)`, one for each head.
        memory: `(*b, N, M)`.
        strength: `(*b, H, 1)`, multiplies the cosine.

    Returns:
        Weights `(*b, H, N)`. A slot or a key of zeros has the cosine 0.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: widths or leading axes do not fit.

    Source:
        Graves, Wayne, Danihelka 2014, equations 5 and 6.

    >>> memory = torch.tensor([[2.0, 0.0], [0.0, 3.0], [0.0, 0.0]])
    >>> content_weights(torch.tensor([[0.5, 0.0]]), memory, strength=torch.tensor([[4.0]]))
    tensor([[0.9647, 0.0177, 0.0177]])
    """

    def score(query: Tensor, slots: Tensor) -> Tensor:
        return strength * cosine()(query, slots)

    return attention_weights(key, memory, score=score)


def interpolate(
    content: Float[Tensor, "*b H N"],
    before: Float[Tensor, "*b H N"],
    gate: Float[Tensor, "*b H 1"],
) -> Float[Tensor, "*b H N"]:
    """Between where the key is found and where the head was: `g w_c + (1 - g) w_before`.

    Args:
        content: `(*b, H, N)`, the weights by content.
        before: `(*b, H, N)`, the head's weights of the step before.
        gate: `(*b, H, 1)`, in [0, 1]; at 0 the content is ignored.

    Raises:
        ValueError: the number of slots differs.

    Source:
        Graves, Wayne, Danihelka 2014, equation 7.

    >>> found, before = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]])
    >>> interpolate(found, before, gate=torch.tensor([[0.25]]))
    tensor([[0.2500, 0.0000, 0.7500]])
    """
    if content.shape[-1] != before.shape[-1]:
        raise ValueError(f"content has {content.shape[-1]} slots but before has {before.shape[-1]}")
    return torch.lerp(before, content, gate)


def shift(
    weights: Float[Tensor, "*b H N"], steps: Float[Tensor, "*b H K"]
) -> Float[Tensor, "*b H N"]:
    """Move the weights along the memory, whose last slot is followed by its first.

    Args:
        weights: `(*b, H, N)`.
        steps: `(*b, H, K)`, a distribution over the steps `-(K // 2)` to `K // 2`; `K` is odd. With
            `K = 3` these are a step back, none, and a step forward, to the next higher slot.

    Returns:
        The circular convolution `(*b, H, N)`.

    Raises:
        ValueError: `K` is even.

    Source:
        Graves, Wayne, Danihelka 2014, equation 8.

    >>> shift(torch.tensor([[0.0, 0.0, 0.9, 0.1]]), steps=torch.tensor([[0.0, 0.0, 1.0]]))
    tensor([[0.1000, 0.0000, 0.0000, 0.9000]])
    """
    K = steps.shape[-1]
    if K % 2 == 0:
        raise ValueError(f"steps must hold an odd number of steps, got {K}")
    moved = [weights.roll(k - K // 2, dims=-1) for k in range(K)]
    return torch.stack([s * w for s, w in zip(steps.split(1, -1), moved, strict=True)]).sum(0)


def sharpen(
    weights: Float[Tensor, "*b H N"], sharpness: Float[Tensor, "*b H 1"]
) -> Float[Tensor, "*b H N"]:
    """Undo the blur that shifting leaves: each weight to a power, then the sum to one again.

    Args:
        weights: `(*b, H, N)`, not negative.
        sharpness: `(*b, H, 1)`, at least 1; 1 changes nothing of weights that sum to one.

    Returns:
        Weights `(*b, H, N)`; a row of zeros stays one. The largest weight is divided out first,
        which changes nothing of the result and keeps high powers above 0.

    Source:
        Graves, Wayne, Danihelka 2014, equation 9.

    >>> sharpen(torch.tensor([[0.1, 0.8, 0.1]]), sharpness=torch.tensor([[3.0]]))
    tensor([[0.0019, 0.9961, 0.0019]])
    """
    largest = weights.detach().amax(-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
    powers = (weights / largest) ** sharpness
    return powers / powers.sum(-1, keepdim=True).clamp_min(1.0)  # the largest power is 1


def address(
    memory: Float[Tensor, "*b N M"], before: Float[Tensor, "*b H N"], head: Head
) -> Float[Tensor, "*b H N"]:
    """Where the heads go: by content, gate, shift and sharpening, in this order.

    Args:
        memory: `(*b, N, M)`.
        before: `(*b, H, N)`, where the heads were.
        head: what the controller tells them.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes do not fit, or the steps of the shift are even in number.

    Source:
        Graves, Wayne, Danihelka 2014, figure 2 and section 3.3.

    >>> memory, before = torch.eye(4, 2), torch.tensor([[0.0, 0.0, 1.0, 0.0]])
    >>> one = torch.ones(1, 1)
    >>> forward = torch.tensor([[0.0, 0.0, 1.0]])
    >>> address(memory, before, Head(memory[:1], 200 * one, 0 * one, forward, one))  # from before
    tensor([[0., 0., 0., 1.]])
    >>> address(memory, before, Head(memory[:1], 200 * one, one, forward, one))  # from the key
    tensor([[0., 1., 0., 0.]])
    """
    content = content_weights(head.key, memory, head.strength)
    gated = interpolate(content, before, head.gate)
    return sharpen(shift(gated, head.shift), head.sharpness)
