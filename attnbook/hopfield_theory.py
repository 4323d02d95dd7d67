r"""How well a large Hopfield network recalls: the mean-field theory of Hebb's rule.

`N` units hold `P` random patterns by Hebb's rule; their ratio `P / N` is the load, written `a`. As
`N` grows, the state to which a stored pattern settles is described by three numbers: its overlap
`m` with that pattern, the noise `r` that the other patterns make, and the response `C` of the
state to a small field. At zero temperature they solve

    m = erf(m / sqrt(2 a r))                                    (1)
    C = sqrt(2 / (pi a r)) exp(-m^2 / (2 a r))                  (2)
    r = 1 / (1 - C)^2                                           (3)

**Where they come from.** Let the state be near pattern 1. The field of a unit, times its bit of
pattern 1, is `m` plus the sum over the other patterns of bit times overlap. That sum is of many
small terms, so it is taken to be Gaussian; its variance is the sum of the squares of the other
overlaps, which is called `a r`. A bit is right when `m` plus this noise is positive; the mean of
the sign gives (1). A small field shifts the mean of the signs by `C` times that field, where `C` is
twice the density of the noisy field at zero: (2). So a small overlap `m_k` makes itself larger:
`m_k = z_k + C m_k`, where `z_k` is what it would be by chance, of variance `1 / N`. Then
`m_k = z_k / (1 - C)`, and the sum of the `P` squares is `a / (1 - C)^2`: (3).

Without the feedback, `C = 0` and `r = 1`, the noise is that of the first update alone:
`first_error`. With it, errors make errors, and beyond a critical load the only solution is `m = 0`.

**One unknown.** With `y = m / sqrt(2 a r)`, (1) says `m = erf(y)`, (2) says
`m C = (2 / sqrt(pi)) y exp(-y^2)`, and (3) says `m (1 - C) = y sqrt(2 a)`. Add the last two:

    sqrt(2 a) = erf(y) / y - (2 / sqrt(pi)) exp(-y^2)           (4)

So the load is a function of `y`, which first rises, then falls. Its top is the critical load. Below
it two `y` solve (4): the larger is the state of recall, the smaller is not stable.

**What it leaves out.** In the argument above: a unit's own share in the small overlaps, which pulls
it towards the sign that it has. The replica calculation, which has it, comes to the same equations.
That calculation takes all replicas to be alike; to break this symmetry moves the critical load by
little, from 0.1379 to 0.1382 as reported. And it is about equilibrium, while a network that starts
at a pattern stops in the first state from which no single unit wants to flip. How near the two are
is measured in the lab `hopfield`.

The equations are those of Amit, Gutfreund, Sompolinsky 1985 and 1987, as reported; the argument
above is shorter than theirs, and their own numbers of equations were not seen.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Critical", "Retrieval", "critical", "first_error", "load_at", "overlap", "solve"]

_SLOPE = 2 / math.sqrt(math.pi)  # of erf at zero
_HALVINGS = 80  # of an interval: more than float64 can tell apart


class Critical(NamedTuple):
    """The last load at which there is recall, and the overlap there.

    Attributes:
        load: patterns a unit.
        overlap: between the recalled state and the stored pattern.
    """

    load: float
    overlap: float


class Retrieval(NamedTuple):
    """The state to which a stored pattern settles; all zero overlap beyond the critical load.

    Attributes:
        overlap: `m`, of the state with the pattern; `(1 - m) / 2` of the bits are wrong.
        noise: `r`: the variance of the crosstalk is `a r`.
        response: `C`, how much of a small field comes back through the state.
    """

    overlap: Float[Tensor, "*b"]
    noise: Float[Tensor, "*b"]
    response: Float[Tensor, "*b"]


def load_at(signal: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """The load at which the overlap stands this far above the noise, equation (4).

    Args:
        signal: `(*b)`, positive: `y = m / sqrt(2 a r)`, the overlap in units of the noise's
            standard deviation, divided by the root of 2.

    Returns:
        The load `a`, of the same shape and dtype. The overlap there is `erf(y)`.

    Raises:
        TypeError: signal is not a floating-point tensor.
        ValueError: signal is not positive everywhere.

    Source:
        Amit, Gutfreund, Sompolinsky 1987, as reported; derived in this module's introduction.

    >>> load_at(torch.tensor([1.0, 1.5112, 2.0]))
    tensor([0.0914, 0.1379, 0.1138])
    """
    _check("signal", signal)
    if not bool((signal > 0).all()):
        raise ValueError(f"signal must be positive, got {float(signal.min()):g}")
    y = signal.double()
    return ((torch.erf(y) / y - _SLOPE * torch.exp(-y * y)) ** 2 / 2).to(signal.dtype)


def critical() -> Critical:
    """The critical load, and the overlap at which recall breaks off there.

    The slope of equation (4) is zero where `erf(y) = (2 / sqrt(pi)) y (1 + 2 y^2) exp(-y^2)`.

    Returns:
        Both numbers, to the precision of a Python float.

    Source:
        Amit, Gutfreund, Sompolinsky 1985 print 0.14, later 0.138, as reported.

    >>> load, overlap = critical()
    >>> print(f"{load:.6f} {overlap:.4f}")
    0.137906 0.9674
    """
    y = _critical_signal()
    return Critical(float(load_at(torch.tensor(y, dtype=torch.float64))), math.erf(y))


@torch.no_grad()
def solve(load: Float[Tensor, "*b"]) -> Retrieval:
    """Overlap, noise and response at each load: equations (1) to (3).

    The larger solution of equation (4) is found by halving an interval: from the critical signal,
    where the load is highest, to `1 / sqrt(2 a)`, which no solution exceeds. No gradient goes
    through that: the three carry none, also where the load asks for one.

    Args:
        load: `(*b)`, patterns a unit, not negative.

    Returns:
        Three tensors, each `(*b)`. Beyond the critical load the overlap is zero, and noise and
        response are those of the state without recall, the spin glass: (2) and (3) at `m = 0`.

    Raises:
        TypeError: load is not a floating-point tensor.
        ValueError: a load is negative or not finite.

    Source:
        Amit, Gutfreund, Sompolinsky 1985, as reported; derived in this module's introduction.

    >>> solve(torch.tensor([0.05, 0.1379, 0.2])).overlap
    tensor([1.0000, 0.9681, 0.0000])
    """
    _check("load", load)
    if not bool(((load >= 0) & load.isfinite()).all()):
        raise ValueError(f"load must be finite and not negative, got {load.flatten().tolist()}")
    a = load.double().clamp_min(1e-6)  # so that the interval ends; there the overlap is 1
    low, high = torch.full_like(a, _critical_signal()), (2 * a).rsqrt()
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        too_low = load_at(middle) > a
        low, high = torch.where(too_low, middle, low), torch.where(too_low, high, middle)
    recalls = a <= critical().load
    m = torch.where(recalls, torch.erf(low), 0.0)
    # Without recall (2) and (3) say C = c (1 - C), where c = sqrt(2 / (pi a)).
    c = (2 / (math.pi * a)).sqrt()
    response = torch.where(recalls, _SLOPE * low * torch.exp(-low * low) / m, c / (1 + c))
    noise = (1 - response) ** -2
    return Retrieval(*(x.to(load.dtype) for x in (m, noise, response)))


def overlap(load: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """The overlap of the recalled state with the stored pattern; zero beyond the critical load.

    It carries no gradient, as in `solve`.

    Args:
        load: `(*b)`, patterns a unit.

    Returns:
        `m`, of the same shape and dtype.

    Raises:
        TypeError: load is not a floating-point tensor.
        ValueError: a load is negative or not finite.

    Source:
        Amit, Gutfreund, Sompolinsky 1985, as reported; derived in this module's introduction.

    >>> overlap(torch.tensor([0.1, 0.12, 0.13, 0.14]))
    tensor([0.9980, 0.9932, 0.9872, 0.0000])
    """
    return solve(load).overlap


def first_error(load: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """The share of wrong bits after one update of all units, begun at a stored pattern.

    The noise is then that of chance, `r = 1`, and the overlap still `m = 1`: a bit goes wrong when
    a Gaussian of variance `a` exceeds 1.

    Args:
        load: `(*b)`, patterns a unit.

    Returns:
        A probability, of the same shape and dtype.

    Raises:
        TypeError: load is not a floating-point tensor.
        ValueError: a load is negative or not finite.

    Source:
        Derived in this module's introduction.

    >>> first_error(torch.tensor([0.1, 0.138, 0.185]))
    tensor([0.0008, 0.0036, 0.0100])
    """
    _check("load", load)
    if not bool(((load >= 0) & load.isfinite()).all()):
        raise ValueError(f"load must be finite and not negative, got {load.flatten().tolist()}")
    return (torch.erfc((2 * load.double()).rsqrt()) / 2).to(load.dtype)


def _critical_signal() -> float:
    """Where equation (4) is highest."""
    low, high = 1.0, 3.0
    for _ in range(_HALVINGS):
        y = (low + high) / 2
        rising = math.erf(y) < _SLOPE * y * (1 + 2 * y * y) * math.exp(-y * y)
        low, high = (y, high) if rising else (low, y)
    return low


def _check(name: str, numbers: Tensor) -> None:
    if not isinstance(numbers, Tensor) or not numbers.is_floating_point():
        got = numbers.dtype if isinstance(numbers, Tensor) else type(numbers).__name__
        raise TypeError(f"{name} must be a floating-point tensor, got {got}")
