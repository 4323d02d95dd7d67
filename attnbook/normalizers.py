"""Normalisers: from a row of scores to a row of weights.

One law holds for all of them: a score of `-inf` gets weight exactly 0, and a row of nothing but
`-inf` gets a row of zeros with finite gradients. The arithmetic is done in at least float32 and
returned in the dtype of the scores. `softmax`, `sparsemax`, `sigmoid` and `hardmax` are
normalisers; `entmax`, `gumbel` and `sample` make one; `LinearChain` is a module.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = [
    "LinearChain",
    "entmax",
    "gumbel",
    "hardmax",
    "log_probability",
    "sample",
    "sigmoid",
    "softmax",
    "sparsemax",
]


def softmax(scores: Float[Tensor, "*b S"], temperature: float = 1.0) -> Float[Tensor, "*b S"]:
    """Weights in proportion to `exp(score / temperature)`.

    Args:
        scores: `(*b, S)`.
        temperature: above 0; towards 0 the largest score takes all, towards infinity the weights
            become equal.

    Returns:
        Weights `(*b, S)`, positive where the score is finite; rows sum to one.

    Raises:
        TypeError: the scores are not floating-point.
        ValueError: the temperature is not positive.

    Source:
        Bridle 1990; Bahdanau, Cho, Bengio 2015, equation 6.

    >>> softmax(torch.tensor([0.0, 1.0, float("-inf")]))
    tensor([0.2689, 0.7311, 0.0000])
    >>> softmax(torch.full((3,), float("-inf")))
    tensor([0., 0., 0.])
    """
    _check_temperature(temperature)
    return _by_row(scores, lambda z: _soften(z, temperature))


def sparsemax(scores: Float[Tensor, "*b S"]) -> Float[Tensor, "*b S"]:
    """The point of the simplex nearest to the scores; it has exact zeros.

    Args:
        scores: `(*b, S)`.

    Returns:
        Weights `max(score - tau, 0)` with `tau` such that each row sums to one.

    Raises:
        TypeError: the scores are not floating-point.

    Source:
        Martins, Astudillo 2016, section 2 and algorithm 1.

    >>> sparsemax(torch.tensor([1.0, 0.5, -1.0]))
    tensor([0.7500, 0.2500, 0.0000])
    """
    return _by_row(scores, lambda z: _entmax(z, 2.0))


def entmax(alpha: float = 1.5) -> Callable[[Tensor], Tensor]:
    """Make the alpha-entmax normaliser: softmax towards `alpha = 1`, sparsemax at `alpha = 2`.

    Args:
        alpha: in (1, 2]. The threshold is found by sorting at 1.5 and 2, by bisection elsewhere.

    Returns:
        A normaliser. Its rows sum to one and have exact zeros. Gradients are exact; second
        derivatives are not (below `alpha = 2`).

    Raises:
        ValueError: alpha is not in (1, 2].
        TypeError: alpha is not a number, or (from the normaliser) the scores are not
            floating-point.

    Source:
        Peters, Niculae, Martins 2019, algorithms 1 (bisection) and 2 (alpha = 1.5).

    >>> entmax(1.5)(torch.tensor([1.0, 0.5, -1.0]))
    tensor([0.6740, 0.3260, 0.0000])
    """
    _check_number("alpha", alpha)
    if not 1.0 < alpha <= 2.0:
        raise ValueError(f"alpha must be in (1, 2], got {alpha}")

    def normalize(scores: Float[Tensor, "*b S"]) -> Float[Tensor, "*b S"]:
        return _by_row(scores, lambda z: _entmax(z, alpha))

    return normalize


def sigmoid(scores: Float[Tensor, "*b S"]) -> Float[Tensor, "*b S"]:
    """A gate of its own for each key, `1 / (1 + exp(-score))`; rows do not sum to one.

    Args:
        scores: `(*b, S)`.

    Returns:
        Weights `(*b, S)` in [0, 1].

    Raises:
        TypeError: the scores are not floating-point.

    Source:
        Kim et al. 2017, section 3: independent binary selections.

    >>> sigmoid(torch.tensor([0.0, 2.0, float("-inf")]))
    tensor([0.5000, 0.8808, 0.0000])
    """
    return _by_row(scores, torch.sigmoid)


def hardmax(scores: Float[Tensor, "*b S"]) -> Float[Tensor, "*b S"]:
    """All weight on the largest score; the gradient is that of softmax (straight-through).

    Args:
        scores: `(*b, S)`.

    Returns:
        One-hot rows `(*b, S)`; of equal scores the first is taken.

    Raises:
        TypeError: the scores are not floating-point.

    Source:
        Bengio, Leonard, Courville 2013, the straight-through estimator.

    >>> hardmax(torch.tensor([0.0, 3.0, 1.0]))
    tensor([0., 1., 0.])
    """
    return _by_row(scores, lambda z: _straight_through(z, torch.softmax(z, dim=-1)))


def gumbel(
    temperature: float = 1.0, *, hard: bool = False, generator: torch.Generator | None = None
) -> Callable[[Tensor], Tensor]:
    """Make the Gumbel-softmax normaliser: a relaxed sample from softmax of the scores.

    Args:
        temperature: above 0; towards 0 a row becomes a one-hot sample.
        hard: return the one-hot sample, with the relaxed sample's gradient (straight-through).
        generator: source of the noise; PyTorch's own when None.

    Returns:
        A normaliser whose rows sum to one, different at each call.

    Raises:
        ValueError: the temperature is not positive.
        TypeError: (from the normaliser) the scores are not floating-point.

    Source:
        Jang, Gu, Poole 2017, equation 2; Maddison, Mnih, Teh 2017, equation 10.

    >>> _ = torch.manual_seed(0)
    >>> gumbel(hard=True)(torch.tensor([0.0, 0.0, float("-inf")]))[2]
    tensor(0.)
    """
    _check_temperature(temperature)

    def normalize(scores: Float[Tensor, "*b S"]) -> Float[Tensor, "*b S"]:
        def rule(z: Tensor) -> Tensor:
            noisy = z + _gumbel_noise(z, generator)
            soft = _soften(noisy, temperature)
            return _straight_through(noisy, soft) if hard else soft

        return _by_row(scores, rule)

    return normalize


def sample(generator: torch.Generator | None = None) -> Callable[[Tensor], Tensor]:
    """Make the hard normaliser: one key drawn from softmax of the scores.

    No gradient passes through the draw. `log_probability` of the drawn weights has one: it is what
    the REINFORCE estimator multiplies with the reward.

    Args:
        generator: source of the noise; PyTorch's own when None.

    Returns:
        A normaliser with one-hot rows, different at each call.

    Raises:
        TypeError: (from the normaliser) the scores are not floating-point.

    Source:
        Xu et al. 2015, section 4.1, "hard" attention; Williams 1992.

    >>> scores = torch.tensor([[0.0, float("-inf")]])
    >>> sample()(scores)
    tensor([[1., 0.]])
    """

    def normalize(scores: Float[Tensor, "*b S"]) -> Float[Tensor, "*b S"]:
        return _by_row(scores, lambda z: _one_hot(z.detach() + _gumbel_noise(z, generator)))

    return normalize


def log_probability(
    scores: Float[Tensor, "*b S"], choice: Float[Tensor, "*b S"]
) -> Float[Tensor, "*b"]:
    """The log-probability, under softmax of the scores, of one-hot choices such as `sample` draws.

    Args:
        scores: `(*b, S)`, masked as they were for the draw.
        choice: `(*b, S)`, one-hot rows; a row of zeros chooses nothing.

    Returns:
        `(*b,)`, in nats; 0 where nothing was chosen, `-inf` where a forbidden key was.

    Raises:
        TypeError: the scores or the choice are not floating-point.
        ValueError: the shapes differ.

    Source:
        Williams 1992, section 4: the characteristic eligibility is this quantity's gradient.

    >>> log_probability(torch.zeros(1, 4), torch.tensor([[0.0, 1.0, 0.0, 0.0]])).exp()
    tensor([0.2500])
    """
    _check_floating("scores", scores)
    _check_floating("choice", choice)
    if scores.shape != choice.shape:
        raise ValueError(
            f"choice has shape {tuple(choice.shape)} but scores have {tuple(scores.shape)}"
        )
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
    forbidden = wide == float("-inf")
    dead = forbidden.all(dim=-1, keepdim=True)
    log_weights = torch.log_softmax(wide.masked_fill(dead, 0.0), dim=-1)
    log_weights = log_weights.masked_fill(forbidden, float("-inf"))
    return log_weights.masked_fill(choice == 0, 0.0).sum(-1).to(scores.dtype)


class LinearChain(nn.Module):
    """Structured attention: marginals of a binary chain in which neighbours influence each other.

    Each key has a tag, 1 for selected. A tagging of the keys has probability in proportion to
    `exp(sum of the scores of the selected keys + sum of transition[tag, next tag])`; a weight is
    the marginal probability that its key is selected. With `transition = 0` this is `sigmoid`. A
    key with score `-inf` is out of the chain: it is not selected, and its two links carry no
    potential, so padding changes nothing.

    Attributes:
        transition: `(2, 2)`, potential of a tag (row) followed by a tag (column); learnt, from 0.

    Shapes:
        scores `(*b, S)`, weights `(*b, S)` in [0, 1]; rows do not sum to one. `2 S` steps, in
        sequence.

    Raises:
        TypeError: (when called) the scores are not floating-point.

    Source:
        Kim, Denton, Hoang, Rush 2017, section 3.1 and figure 2 (forward-backward algorithm).

    >>> LinearChain()(torch.tensor([0.0, 2.0, float("-inf")])).detach()
    tensor([0.5000, 0.8808, 0.0000])
    """

    def __init__(self) -> None:
        super().__init__()
        self.transition = nn.Parameter(torch.zeros(2, 2))

    def forward(self, scores: Float[Tensor, "*b S"]) -> Float[Tensor, "*b S"]:
        """Marginals `(*b, S)`."""
        return _by_row(scores, self._marginals)

    def _marginals(self, scores: Tensor) -> Tensor:
        inside = scores > float("-inf")
        linked = (inside[..., 1:] & inside[..., :-1])[..., None, None]
        links = linked * self.transition.to(scores.dtype)  # (*b, S - 1, 2, 2)
        unary = torch.stack([torch.zeros_like(scores), scores], dim=-1)  # (*b, S, 2)
        last = scores.shape[-1] - 1

        # Each message is brought back to log-probabilities, or it would grow along the chain.
        forward = [unary[..., 0, :]]
        for i in range(last):
            arrivals = forward[-1].unsqueeze(-1) + links[..., i, :, :]
            forward.append((unary[..., i + 1, :] + arrivals.logsumexp(-2)).log_softmax(-1))
        backward = [torch.zeros_like(unary[..., 0, :])]
        for i in reversed(range(last)):
            departures = links[..., i, :, :] + (unary[..., i + 1, :] + backward[-1]).unsqueeze(-2)
            backward.append(departures.logsumexp(-1).log_softmax(-1))
        joint = torch.stack(forward, dim=-2) + torch.stack(backward[::-1], dim=-2)
        return torch.softmax(joint, dim=-1)[..., 1]


def _by_row(scores: Tensor, rule: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply `rule` in at least float32 and keep the law: -inf gets 0, a row of -inf gets zeros."""
    _check_floating("scores", scores)
    if scores.shape[-1] == 0:
        return scores.clone()
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
    forbidden = wide == float("-inf")
    dead = forbidden.all(dim=-1, keepdim=True)
    weights = rule(wide.masked_fill(dead, 0.0))
    return weights.masked_fill(forbidden, 0.0).to(scores.dtype)


def _entmax(scores: Tensor, alpha: float) -> Tensor:
    """`_power(score - largest score - c)`, with `c >= 0` such that rows sum to one.

    In the terms of Peters, Niculae, Martins, `tau = (alpha - 1) (largest score + c) - 1`.
    """
    z = scores - scores.amax(dim=-1, keepdim=True).detach()
    with torch.no_grad():
        c = _offset(z, alpha)
        weights = _power(z - c, alpha)
        slope = torch.where(weights > 0, weights ** (2 - alpha), 0.0).sum(dim=-1, keepdim=True)
    # One Newton step from there: it polishes the value, and, as the equation that defines c is
    # solved to first order in z, it also carries c's exact gradient.
    excess = _power(z - c, alpha).sum(dim=-1, keepdim=True) - 1
    return _power(z - (c + excess / slope), alpha)


def _power(x: Tensor, alpha: float) -> Tensor:
    """`max(1 + (alpha - 1) x, 0) ^ (1 / (alpha - 1))`: becomes `exp(x)` as alpha falls to 1."""
    base = (alpha - 1) * x
    positive = ~(base <= -1)  # so that NaN stays NaN
    log = base.masked_fill(~positive, 0.0).log1p() / (alpha - 1)
    return log.exp().masked_fill(~positive, 0.0)


def _offset(z: Tensor, alpha: float) -> Tensor:
    """The `c` of `_entmax` for rows whose largest entry is 0."""
    if alpha not in (1.5, 2.0):
        low, high = torch.zeros_like(z[..., :1]), z.logsumexp(dim=-1, keepdim=True)
        for _ in range(torch.finfo(z.dtype).bits):
            middle = (low + high) / 2
            heavy = _power(z - middle, alpha).sum(dim=-1, keepdim=True) >= 1
            low, high = torch.where(heavy, middle, low), torch.where(heavy, high, middle)
        return low
    scaled = ((alpha - 1) * z).clamp_min(-1.0)  # tau >= -1: what lies below has weight 0
    top = scaled.sort(dim=-1, descending=True).values
    count = torch.arange(1, z.shape[-1] + 1, dtype=z.dtype, device=z.device)
    mean = top.cumsum(dim=-1) / count
    if alpha == 2.0:
        tau = mean - 1 / count
    else:
        spread = (top.square().cumsum(dim=-1) / count - mean.square()) * count
        tau = mean - ((1 - spread) / count).clamp_min(0.0).sqrt()
    support = (tau < top).sum(dim=-1, keepdim=True).clamp_min(1)  # 0 in a row with NaN
    return (1 + tau.gather(-1, support - 1)) / (alpha - 1)


def _one_hot(scores: Tensor) -> Tensor:
    chosen = torch.zeros_like(scores).scatter(-1, scores.argmax(dim=-1, keepdim=True), 1.0)
    return chosen.masked_fill(scores.amax(dim=-1, keepdim=True).isnan(), float("nan"))


def _straight_through(scores: Tensor, soft: Tensor) -> Tensor:
    """The largest score's one-hot in the forward pass, `soft` in the backward pass."""
    return _one_hot(scores) + (soft - soft.detach())


def _soften(scores: Tensor, temperature: float) -> Tensor:
    """Softmax at a temperature, however low: the largest score is taken off before dividing."""
    if temperature != 1.0:
        limits = torch.finfo(scores.dtype)  # beyond them 0 / 0 and inf / inf would be NaN
        divisor = min(max(temperature, limits.tiny), limits.max)
        scores = (scores - scores.amax(dim=-1, keepdim=True).detach()) / divisor
    return torch.softmax(scores, dim=-1)


def _gumbel_noise(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return -torch.empty_like(like).exponential_(generator=generator).log()


def _check_floating(name: str, x: Tensor) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name} must be a floating-point tensor, got {got}")
    if x.ndim == 0:
        raise ValueError(f"{name} must have at least one axis, got a single number")


def _check_number(name: str, x: float) -> None:
    if not isinstance(x, int | float):
        raise TypeError(f"{name} must be a number, got {type(x).__name__}")


def _check_temperature(temperature: float) -> None:
    _check_number("temperature", temperature)
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
