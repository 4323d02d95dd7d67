"""Texts with covered symbols, and the best guess at what was there.

BERT's rule chooses some of the symbols to be asked for. Most of them are covered by a mask, a few
are replaced by a random symbol, a few stay as they are. For a Markov source the best answer is
computed exactly, so a masked model can be set beside it.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from attnbook.recurrent import check_symbols
from attnbook.tasks.markov import Markov

__all__ = ["Cloze", "Rule", "best_guess", "cover"]


class Cloze(NamedTuple):
    """A text as a masked model gets it.

    Attributes:
        shown: `(B, T)`, symbols from 0 to `V - 1`, and `V` for the mask.
        asked: `(B, T)`, where the model has to say what was there. Not all of them are masked.
    """

    shown: Int[Tensor, "B T"]
    asked: Bool[Tensor, "B T"]


class Rule(NamedTuple):
    """How symbols are covered; the numbers are BERT's.

    Attributes:
        rate: the share of the symbols that is asked for.
        masked: of these, the share that becomes the mask.
        random: of these, the share that becomes a symbol drawn from the whole vocabulary. The rest
            is shown as it is.
    """

    rate: float = 0.15
    masked: float = 0.8
    random: float = 0.1


def cover(
    symbols: Int[Tensor, "B T"],
    vocabulary: int,
    generator: torch.Generator,
    rule: Rule = Rule(),  # noqa: B008 (immutable)
) -> Cloze:
    """Choose symbols at random, each on its own, and cover them.

    Args:
        symbols: `(B, T)`, from 0 to `V - 1`.
        vocabulary: `V`, which is the mask's symbol too.
        generator: of the random numbers.
        rule: how many, and with what.

    Raises:
        TypeError: symbols are not of integers.
        ValueError: a symbol is outside the vocabulary, or a share is not in [0, 1].

    Source:
        Devlin et al. 2019, section 3.1, task 1, and appendix A.1.

    >>> text = torch.arange(8).view(1, 8)
    >>> shown, asked = cover(text, 8, torch.Generator().manual_seed(5), Rule(rate=0.5))
    >>> shown, asked.nonzero()[:, 1]                     # place 1 is asked for and not covered
    (tensor([[0, 1, 2, 3, 4, 8, 8, 7]]), tensor([1, 5, 6]))
    """
    _check(symbols, vocabulary, rule)
    asked = torch.rand(symbols.shape, generator=generator) < rule.rate
    kind = torch.rand(symbols.shape, generator=generator)
    other = torch.randint(vocabulary, symbols.shape, generator=generator)
    shown = torch.where(asked & (kind < rule.masked), vocabulary, symbols)
    replaced = asked & (kind >= rule.masked) & (kind < rule.masked + rule.random)
    return Cloze(torch.where(replaced, other, shown), asked)


def best_guess(
    source: Markov,
    shown: Int[Tensor, "B T"],
    rule: Rule = Rule(),  # noqa: B008 (immutable)
) -> Float64[Tensor, "B T V"]:
    """What stood at each place, if it is asked for, given all that is shown.

    No model has a lower cross-entropy on average. A symbol that is shown need not be true, so the
    evidence is soft: `P(shown | true)`, which for the place in question is that of an asked one.

    Args:
        source: of order 1.
        shown: as `cover` gives it.
        rule: by which it was covered.

    Raises:
        TypeError: shown is not of integers.
        ValueError: the source is of another order, a symbol is out of range, a share is not in
            [0, 1], or the source never says what is shown.

    Source:
        The forward-backward recursions, as in Rabiner 1989.

    >>> weather = Markov(torch.tensor([[0.8, 0.2], [0.2, 0.8]]))        # 0 dry, 1 wet, 2 the mask
    >>> best_guess(weather, torch.tensor([[1, 2, 1]]), Rule(masked=1.0, random=0.0))[0, 1]
    tensor([0.0588, 0.9412], dtype=torch.float64)
    """
    if source.order != 1:
        raise ValueError(f"source must be of order 1, got {source.order}")
    V = source.symbols
    _check(shown, V + 1, rule)
    same = torch.eye(V + 1, dtype=torch.float64)[:, :V][shown]
    masked = (shown == V).unsqueeze(-1)
    stays = 1 - rule.masked - rule.random
    asked = torch.where(masked, 1.0, stays * same + rule.random / V)
    any_place = torch.where(masked, 1.0, (1 - rule.rate) * same + rule.rate * asked)
    if rule.masked == 1:  # what is shown was not asked for
        asked = any_place
    ahead = [source.stationary.expand(len(shown), V)]  # given what stands to the left
    for t in range(1, shown.shape[1]):
        ahead.append(_normal((ahead[-1] * any_place[:, t - 1]) @ source.table))
    back = [torch.ones_like(ahead[0])]  # what stands to the right, given the place
    for t in range(shown.shape[1] - 1, 0, -1):
        back.append(_normal((back[-1] * any_place[:, t]) @ source.table.T))
    return _normal(torch.stack(ahead, 1) * torch.stack(back[::-1], 1) * asked)


def _normal(weights: Tensor) -> Tensor:
    total = weights.sum(-1, keepdim=True)
    if not bool((total > 0).all()):
        raise ValueError("shown must be possible: the source and the rule never make it")
    return weights / total


def _check(symbols: Tensor, vocabulary: int, rule: Rule) -> None:
    check_symbols("symbols", symbols, vocabulary)
    shares = (*rule, rule.masked + rule.random)
    if not all(0 <= share <= 1 + 1e-12 for share in shares):
        raise ValueError(f"rule must hold shares, with masked + random at most 1, got {rule}")
