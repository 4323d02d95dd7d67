"""Sentences as vectors: which words, in which order, and how long ago they were told.

Written from Sukhbaatar et al. 2015, section 4.1 ("the paper" below), whose symbols are used.
Stories of `S` sentences of `J` words, `D` numbers for a sentence. Symbol 0 is padding: a word that
is not there, and a sentence of nothing else, count for nothing.

    order of words   l_kj = (1 - j/J) - (k/D) (1 - 2 j/J)           (J, D)
    sentence         sum_j l_j * A x_j                              (*b, D)
    age              how many sentences, or empty memories, follow  (B, S)
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attnbook.layers import check_sizes

__all__ = ["SentenceTable", "ages", "position_encoding"]


class SentenceTable(nn.Module):
    """One embedding of sentences: a vector for each word, and one for each age.

    Args:
        symbols: `V`.
        embed_dim: `D`.
        slots: how many ages there are; 0 where none is needed, as for questions.

    >>> table = SentenceTable(symbols=9, embed_dim=4)
    >>> table(torch.tensor([[3, 1, 2], [3, 0, 0]])).shape
    torch.Size([2, 4])
    """

    def __init__(self, symbols: int, embed_dim: int, slots: int = 0) -> None:
        super().__init__()
        self.word = nn.Embedding(symbols, embed_dim)
        self.age = nn.Embedding(slots, embed_dim)

    def forward(self, words: Int[Tensor, "*b J"]) -> Float[Tensor, "*b D"]:
        """Sentences `(*b, J)` as sums of their words, each weighted by its place."""
        each = self.word(words)
        return (each * _places(words != 0, each.shape[-1], each.dtype)).sum(-2)


def position_encoding(words: int, dim: int) -> Float[Tensor, "J D"]:
    """The weights `l_kj = (1 - j/J) - (k/D)(1 - 2 j/J)` of the words of a sentence.

    Args:
        words: `J`; words are counted by j, from 1.
        dim: `D`; coordinates are counted by k, from 1.

    Returns:
        Weights `(J, D)`. In the first coordinates early words weigh more, in the last late ones.

    Raises:
        ValueError: a number is below 1.

    Source:
        Sukhbaatar et al. 2015, section 4.1.

    >>> position_encoding(words=4, dim=2)
    tensor([[0.5000, 0.2500],
            [0.5000, 0.5000],
            [0.5000, 0.7500],
            [0.5000, 1.0000]])
    """
    check_sizes(words=words, dim=dim)
    return _places(torch.ones(words, dtype=torch.bool), dim, torch.get_default_dtype())


def ages(
    mask: Bool[Tensor, "B S"], *, empty: float = 0.0, generator: torch.Generator | None = None
) -> Int[Tensor, "B S"]:
    """How old each sentence is, 0 for the newest, as if empty ones had been told in between.

    Args:
        mask: `(B, S)`, True where a sentence is.
        empty: the largest share of empty sentences. For each story their number is drawn from 0 to
            that share of its length, rounded up, then their places.
        generator: of the random numbers.

    Returns:
        `(B, S)`, falling along a story; 0 where no sentence is.

    Raises:
        ValueError: the share is negative.

    Source:
        Sukhbaatar et al. 2015, section 4.1 ("random noise", 10 % of empty memories). Nothing is
        left of an empty memory but the gap in the ages, as in the authors' program.

    >>> ages(torch.tensor([[True, True, True, False]]))
    tensor([[2, 1, 0, 0]])
    >>> ages(torch.ones(1, 4, dtype=torch.bool), empty=0.5,
    ...      generator=torch.Generator().manual_seed(1))
    tensor([[5, 4, 2, 1]])
    """
    if empty < 0:
        raise ValueError(f"empty must not be negative, got {empty}")
    following, length = told_after(mask), mask.sum(-1, keepdim=True)
    if not empty or not mask.numel():
        return following
    most = (empty * length).ceil()
    drawn = torch.rand(len(mask), 1, generator=generator).to(mask.device)
    blanks = ((most + 1) * drawn).long().minimum(most.long())
    places = torch.arange(mask.shape[1] + int(most.max()), device=mask.device)
    noise = torch.rand(len(mask), len(places), generator=generator).to(mask.device)
    within = places < length + blanks
    order = noise.masked_fill(~within, 2.0).argsort(-1).argsort(-1)
    free = within & (order >= blanks)  # as many as the story has sentences
    by_age = torch.where(free, places, len(places)).sort(-1).values
    return by_age.gather(-1, following).masked_fill(~mask, 0)


def told_after(mask: Bool[Tensor, "B S"]) -> Int[Tensor, "B S"]:
    """How many sentences follow each; 0 where none is."""
    return (mask.sum(-1, keepdim=True) - mask.cumsum(-1)).masked_fill(~mask, 0)


def _places(real: Bool[Tensor, "*b J"], dim: int, dtype: torch.dtype) -> Float[Tensor, "*b J D"]:
    """The position encoding of sentences whose words are there where `real` is True."""
    k = torch.arange(1, dim + 1, device=real.device, dtype=dtype) / dim
    place = (real.cumsum(-1).to(dtype) / real.sum(-1, keepdim=True).clamp_min(1))[..., None]
    return ((1 - place) - k * (1 - 2 * place)) * real[..., None]


def check_integers(name: str, x: Tensor) -> None:
    """Raise a clear error unless this tensor is of integers."""
    if x.is_floating_point() or x.dtype is torch.bool:
        raise TypeError(f"{name} must be of integers, got {x.dtype}")


def check_words(symbols: int, **words: tuple[Tensor, int]) -> None:
    """Raise a clear error unless each tensor is of symbols, of one batch, and has its axes."""
    batch = len(next(iter(words.values()))[0])
    for name, (tensor, axes) in words.items():
        check_integers(name, tensor)
        if tensor.ndim != axes or len(tensor) != batch:
            raise ValueError(
                f"{name} must have {axes} axes, the first of {batch}, got {tuple(tensor.shape)}"
            )
        if tensor.numel() and not 0 <= tensor.min() <= tensor.max() < symbols:
            raise ValueError(
                f"{name} must be in 0..{symbols - 1}, got {int(tensor.min())}..{int(tensor.max())}"
            )
