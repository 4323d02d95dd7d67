"""Random sources of symbols whose best predictor is known: Markov chains of any order.

The probability of a symbol depends on the `k` symbols before it and on nothing else. So the best
guess at the next symbol, the best guess at a hidden one, and the perplexity that no model can
beat are all computed exactly. Everything is in float64.
"""

import math

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from attnbook.recurrent import check_symbols

__all__ = ["Markov", "draw"]


class Markov:
    """A stationary Markov source of order `k` over `V` symbols.

    Args:
        table: `k + 1` axes of length `V`: `table[a, b, c]` is the probability of `c` after `a, b`
            (here `k` is 2). Every row sums to one.

    Attributes:
        table: the same, in float64.
        symbols: `V`.
        order: `k`.
        stationary: `k` axes of length `V`, the probability that a context is met.

    Raises:
        TypeError: the table is not floating-point.
        ValueError: the shape is not `(V, ..., V)` with at least two axes, an entry is negative or
            not finite, a row does not sum to one, or several stationary distributions exist.

    Source:
        Shannon 1948, for such a process as a source of information, and for its entropy.

    >>> coin = Markov(torch.tensor([[0.9, 0.1], [0.3, 0.7]]))
    >>> coin.stationary
    tensor([0.7500, 0.2500], dtype=torch.float64)
    >>> round(coin.perplexity(), 3)
    1.487
    """

    def __init__(self, table: Float64[Tensor, "..."] | Tensor) -> None:
        if not isinstance(table, Tensor) or not table.is_floating_point():
            got = table.dtype if isinstance(table, Tensor) else type(table).__name__
            raise TypeError(f"table must be a floating-point tensor, got {got}")
        if table.ndim < 2 or len(set(table.shape)) != 1 or not table.numel():
            raise ValueError(f"table must have shape (V, ..., V), got {tuple(table.shape)}")
        table = table.detach().double()
        if not bool(((table >= 0) & table.isfinite()).all()):
            raise ValueError("table must hold probabilities, got a negative or non-finite number")
        off = float((table.sum(-1) - 1).abs().max())
        if off > 1e-6:
            raise ValueError(f"table's rows must sum to 1, one is off by {off:.2g}")
        self.table = table / table.sum(-1, keepdim=True)
        self.symbols, self.order = table.shape[-1], table.ndim - 1
        self.stationary = self._stationary().view(table.shape[:-1])

    def sample(self, n: int, length: int, generator: torch.Generator) -> Int[Tensor, "n length"]:
        """Sequences that begin anywhere: their first symbols follow the stationary distribution.

        Raises:
            ValueError: n or length is below 1.
        """
        if n < 1 or length < 1:
            raise ValueError(f"n and length must be at least 1, got {n} and {length}")
        V, k = self.symbols, self.order
        context = self.stationary.flatten().multinomial(n, replacement=True, generator=generator)
        found = [context // V ** (k - 1 - i) % V for i in range(k)]
        rows = self.table.view(-1, V)
        while len(found) < length:
            drawn = rows[context].multinomial(1, generator=generator)[:, 0]
            found.append(drawn)
            context = (context * V + drawn) % V**k
        return torch.stack(found[:length], dim=1)

    def entropy_rate(self) -> float:
        """Nats that a symbol brings on average, once the `k` before it are known."""
        surprise = -torch.xlogy(self.table, self.table).sum(-1)
        return float((self.stationary * surprise).sum())

    def perplexity(self) -> float:
        """`exp(entropy_rate())`: no model does better on average after the first `k` symbols."""
        return math.exp(self.entropy_rate())

    def log_prob(self, sequences: Int[Tensor, "B T"]) -> Float64[Tensor, " B"]:
        """The log-probability of whole sequences; `-inf` for what the source never says.

        Raises:
            TypeError: sequences are not of integers.
            ValueError: the shape is not `(B, T)` with `T >= 1`, or a symbol is not in the source.
        """
        check_symbols("sequences", sequences, self.symbols)
        first = self._opening(min(self.order, sequences.shape[1]))
        total = first[tuple(sequences[:, : first.ndim].T)].log()
        if sequences.shape[1] > self.order:
            said = sequences[:, self.order :, None]
            total = total + self._after(sequences).gather(-1, said)[..., 0].log().sum(1)
        return total

    def conditional(self, sequences: Int[Tensor, "B T"]) -> Float64[Tensor, "B T V"]:
        """The distribution of every symbol given those before it: the best next-symbol model.

        Row `t` uses `sequences[:, :t]` alone; row 0 is the same for all.

        Raises:
            TypeError: sequences are not of integers.
            ValueError: as for `log_prob`; or a sequence opens as the source never does.
        """
        check_symbols("sequences", sequences, self.symbols)
        rows = []
        for t in range(min(self.order, sequences.shape[1])):
            joint = self._opening(t + 1)[tuple(sequences[:, :t].T)]
            joint = joint.expand(len(sequences), -1)
            _check_possible(joint.sum(-1))
            rows.append(joint / joint.sum(-1, keepdim=True))
        opening = torch.stack(rows, dim=1)
        if sequences.shape[1] <= self.order:
            return opening
        return torch.cat([opening, self._after(sequences)], dim=1)

    def posterior(
        self, sequences: Int[Tensor, "B T"], masked: Bool[Tensor, "B T"]
    ) -> Float64[Tensor, "B T V"]:
        """The distribution of every symbol given all that is not masked, on both sides.

        It is the best that a masked model can say. Where nothing is masked it is certain. What
        stands at a masked place is not looked at.

        Raises:
            TypeError: sequences are not of integers, or masked is not boolean.
            ValueError: as for `log_prob`; masked has another shape; or what can be seen of a
                sequence is never said by the source.

        Source:
            The forward-backward recursions, as in Rabiner 1989.

        >>> coin = Markov(torch.tensor([[0.9, 0.1], [0.3, 0.7]]))
        >>> coin.posterior(torch.tensor([[0, 1, 0]]), torch.tensor([[False, True, False]]))[0, 1]
        tensor([0.9643, 0.0357], dtype=torch.float64)
        """
        if not isinstance(masked, Tensor) or masked.dtype is not torch.bool:
            got = masked.dtype if isinstance(masked, Tensor) else type(masked).__name__
            raise TypeError(f"masked must be a boolean tensor, got {got}")
        if isinstance(sequences, Tensor):
            if masked.shape != sequences.shape:
                raise ValueError(
                    f"masked must have the sequences' shape {tuple(sequences.shape)}, "
                    f"got {tuple(masked.shape)}"
                )
            sequences = sequences.masked_fill(masked, 0)
        check_symbols("sequences", sequences, self.symbols)
        V, k, (B, T) = self.symbols, self.order, sequences.shape
        seen = torch.nn.functional.one_hot(sequences.long(), V).double()
        seen = torch.where(masked[..., None], 1.0, seen)
        if k > T:  # a sequence shorter than a context: the rest of it is hidden
            seen = torch.cat([seen, seen.new_ones(B, k - T, V)], dim=1)
        forward = [self._evidence(seen[:, :k])]
        for t in range(k, T):
            ahead = torch.einsum("bam,amc->bmc", forward[-1].view(B, V, -1), self._steps())
            forward.append(_normal((ahead * seen[:, t, None]).reshape(B, -1)))
        backward, rows = torch.ones_like(forward[-1]), []
        for t in range(max(T, k) - 1, k - 1, -1):
            both = (forward[t - k + 1] * backward).view(B, -1, V).sum(1)
            rows.append(_normal(both))
            back = seen[:, t, None] * backward.view(B, -1, V)
            backward = _normal(torch.einsum("amc,bmc->bam", self._steps(), back).reshape(B, -1))
        both = (forward[0] * backward).view(B, *(V,) * k)
        for i in reversed(range(k)):
            others = tuple(axis + 1 for axis in range(k) if axis != i)
            rows.append(_normal(both.sum(others) if others else both))
        return torch.stack(rows[::-1], dim=1)[:, :T]

    def _stationary(self) -> Tensor:
        """The one distribution of contexts that a step leaves as it is."""
        V, k = self.symbols, self.order
        N = V**k
        step = torch.zeros(N, N, dtype=torch.float64)
        contexts = torch.arange(N)[:, None]
        step[contexts, (contexts * V + torch.arange(V)) % N] = self.table.view(N, V)
        # Regular exactly if there is one: its kernel would hold the difference of two.
        system = torch.eye(N, dtype=torch.float64) - step.T + 1 / N
        inverse, failed = torch.linalg.inv_ex(system)
        if failed or float(system.abs().sum(0).max() * inverse.abs().sum(0).max()) > 1e12:
            raise ValueError("table has several stationary distributions: parts never meet")
        found = inverse.mean(dim=1).clamp_min(0)
        found[found < 1e-15] = 0.0  # a context that is left for ever
        return found / found.sum()

    def _opening(self, count: int) -> Tensor:
        """The probability of the first `count <= k` symbols."""
        axes = tuple(range(count, self.order))
        return self.stationary.sum(axes) if axes else self.stationary

    def _after(self, sequences: Tensor) -> Tensor:
        """The rows of the table for the symbols after the first `k`, `(B, T - k, V)`."""
        k, T = self.order, sequences.shape[1]
        return self.table[tuple(sequences[:, i : T - k + i] for i in range(k))]

    def _steps(self) -> Tensor:
        """The table as `(V, V^(k-1), V)`: the oldest symbol, those between, the next."""
        return self.table.view(self.symbols, -1, self.symbols)

    def _evidence(self, seen: Tensor) -> Tensor:
        """The probability of each first context, with what is seen of it, `(B, V^k)`."""
        joint = self.stationary.expand(len(seen), *self.stationary.shape)
        for i in range(self.order):
            shape = [len(seen)] + [1] * self.order
            shape[i + 1] = self.symbols
            joint = joint * seen[:, i].view(shape)
        return _normal(joint.reshape(len(seen), -1))


def draw(
    symbols: int,
    order: int = 1,
    *,
    followers: int | None = None,
    spread: float = 1.0,
    generator: torch.Generator,
) -> Markov:
    """A random source.

    Args:
        symbols: `V`.
        order: `k`; the table has `V^(k+1)` entries, and `V^k` contexts are solved for at once.
        followers: how many symbols may follow a context; all others have probability 0. None
            allows all.
        spread: standard deviation of the log-odds of the followers; 0 makes them equally likely.
        generator: of the random numbers.

    Raises:
        ValueError: a number is out of range, or what was drawn has several stationary
            distributions, which happens where there are few followers.

    >>> source = draw(8, order=2, followers=3, generator=torch.Generator().manual_seed(0))
    >>> source.sample(1, 5, torch.Generator().manual_seed(0)).shape, source.perplexity() < 3
    (torch.Size([1, 5]), True)
    """
    followers = symbols if followers is None else followers
    if symbols < 1 or order < 1:
        raise ValueError(f"symbols and order must be at least 1, got {symbols} and {order}")
    if not 1 <= followers <= symbols:
        raise ValueError(f"followers must be in 1..{symbols}, got {followers}")
    if not spread >= 0 or math.isinf(spread):
        raise ValueError(f"spread must be finite and not negative, got {spread}")
    shape = (symbols,) * (order + 1)
    rank = torch.rand(shape, generator=generator).argsort(-1).argsort(-1)
    odds = spread * torch.randn(shape, generator=generator, dtype=torch.float64)
    return Markov(odds.masked_fill(rank >= followers, -math.inf).softmax(-1))


def _normal(weights: Tensor) -> Tensor:
    """Weights `(B, n)` that sum to one."""
    total = weights.sum(-1, keepdim=True)
    _check_possible(total)
    return weights / total


def _check_possible(probability: Tensor) -> None:
    if not bool((probability > 0).all()):
        raise ValueError("sequences must be possible: the source never says one of them")
