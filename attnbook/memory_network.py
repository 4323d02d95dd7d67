"""End-to-end memory networks: a question is asked of stored sentences, several times in a row.

Written from Sukhbaatar et al. 2015 ("the paper" below), whose symbols are used. `B` questions, each
with a story of `S` sentences of `J` words, in the order as told; `K` hops, `D` numbers for a
sentence, `V` symbols, of which 0 is padding. `attnbook.sentences` makes vectors of sentences.

    memories  m_i = sum_j l_j * A x_ij + T_A(i),   c_i = sum_j l_j * C x_ij + T_C(i)    (B, S, D)
    hop       p_i = softmax_i(u . m_i),   o = sum_i p_i c_i,   u <- u + o               (B, D)
    answer    softmax(W u)                                                              (B, V)

A hop is one `attend`: the state is the query, one embedding of the story the keys, another the
values.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attnbook.core import Normalize, attend
from attnbook.layers import check_sizes
from attnbook.normalizers import softmax
from attnbook.scores import dot
from attnbook.sentences import SentenceTable, check_integers, check_words, told_after

__all__ = [
    "Answered",
    "Hop",
    "MemoryNetwork",
    "Tables",
    "adjacent",
    "hop",
    "layerwise",
    "linear",
    "untied",
]


class Hop(NamedTuple):
    """What a hop leaves.

    Attributes:
        state: `(*b, D)`, the next `u`.
        weights: `(*b, S)`, how much of each memory was read.
    """

    state: Float[Tensor, "*b D"]
    weights: Float[Tensor, "*b S"]


class Answered(NamedTuple):
    """What a memory network returns.

    Attributes:
        logits: `(B, V)`, a score for each symbol as the answer.
        weights: `(B, K, S)`, how much of each sentence each hop read.
    """

    logits: Float[Tensor, "B V"]
    weights: Float[Tensor, "B K S"]


class Tables(NamedTuple):
    """Which embedding is used where; to tie two of them is to put the same one in both places.

    Attributes:
        inputs: `A^k`, one for each hop, makes the keys.
        outputs: `C^k`, one for each hop, makes the values.
        question: `B`.
        answer: the transpose of `W`.
        carry: what is kept of the state from hop to hop.
    """

    inputs: list[SentenceTable]
    outputs: list[SentenceTable]
    question: SentenceTable
    answer: SentenceTable
    carry: nn.Module


def adjacent(symbols: int, embed_dim: int, hops: int, slots: int) -> Tables:
    """Adjacent tying: what is read at a hop is what the next one compares, `A^{k+1} = C^k`.

    The question is embedded as the first keys, `B = A^1`, and the answer is compared with the last
    values, `W^T = C^K`: `K + 1` tables in all.

    Source:
        Sukhbaatar et al. 2015, section 2.2.

    >>> tables = adjacent(symbols=9, embed_dim=4, hops=2, slots=5)
    >>> tables.inputs[1] is tables.outputs[0]
    True
    """
    made = [SentenceTable(symbols, embed_dim, slots) for _ in range(hops + 1)]
    return Tables(made[:-1], made[1:], made[0], made[-1], nn.Identity())


def layerwise(symbols: int, embed_dim: int, hops: int, slots: int) -> Tables:
    """Layer-wise tying: every hop has the same two tables, as a recurrent network would.

    A matrix `H` turns the state before the reading is added, `u <- H u + o`.

    Source:
        Sukhbaatar et al. 2015, section 2.2.

    >>> tables = layerwise(symbols=9, embed_dim=4, hops=3, slots=5)
    >>> tables.inputs[2] is tables.inputs[0], tables.inputs[0] is tables.outputs[0]
    (True, False)
    """
    A, C = (SentenceTable(symbols, embed_dim, slots) for _ in range(2))
    B, W = (SentenceTable(symbols, embed_dim) for _ in range(2))
    return Tables([A] * hops, [C] * hops, B, W, nn.Linear(embed_dim, embed_dim, bias=False))


def untied(symbols: int, embed_dim: int, hops: int, slots: int) -> Tables:
    """No tying: two tables for each hop, one for the question and one for the answer.

    >>> len(set(untied(symbols=9, embed_dim=4, hops=3, slots=5).inputs))
    3
    """
    A, C = ([SentenceTable(symbols, embed_dim, slots) for _ in range(hops)] for _ in range(2))
    B, W = (SentenceTable(symbols, embed_dim) for _ in range(2))
    return Tables(A, C, B, W, nn.Identity())


class MemoryNetwork(nn.Module):
    """End-to-end memory network: embeds a story and a question, reads in hops, names the answer.

    Args:
        symbols: `V`, with 0 for padding.
        embed_dim: `D`.
        hops: `K`.
        slots: the number of ages that are told apart; a story has at most as many sentences.
        tying: `adjacent`, `layerwise`, `untied`, or another function that makes the tables.

    Parameters start normal with standard deviation 0.1.

    Raises:
        ValueError: a number is below 1; (when called) shapes do not fit, a symbol is not in
            0..V - 1, or the age of a sentence is negative or more than the slots allow.
        TypeError: a number, or (when called) stories, questions or ages, are not of integers.

    Source:
        Sukhbaatar et al. 2015, sections 2 and 4.1.

    >>> model = MemoryNetwork(symbols=9, embed_dim=4, hops=2, slots=5)
    >>> story = torch.tensor([[[3, 1, 2], [4, 1, 5], [0, 0, 0]]])  # two sentences
    >>> answered = model(story, torch.tensor([[6, 3]]))
    >>> answered.logits.shape, answered.weights.shape
    (torch.Size([1, 9]), torch.Size([1, 2, 3]))
    >>> answered.weights[0, :, 2]
    tensor([0., 0.], grad_fn=...)
    """

    def __init__(
        self,
        symbols: int,
        embed_dim: int,
        hops: int,
        slots: int,
        *,
        tying: Callable[[int, int, int, int], Tables] = adjacent,
    ) -> None:
        super().__init__()
        check_sizes(symbols=symbols, embed_dim=embed_dim, hops=hops, slots=slots)
        self.symbols, self.slots = symbols, slots
        tables = tying(symbols, embed_dim, hops, slots)
        self.inputs, self.outputs = nn.ModuleList(tables.inputs), nn.ModuleList(tables.outputs)
        self.question, self.answer, self.carry = tables.question, tables.answer, tables.carry
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.1)

    def forward(
        self,
        stories: Int[Tensor, "B S J"],
        questions: Int[Tensor, "B Q"],
        *,
        ages: Int[Tensor, "B S"] | None = None,
        normalize: Normalize = softmax,
    ) -> Answered:
        """Answer each question from its story.

        Args:
            stories: `(B, S, J)`, sentences in the order in which they were told.
            questions: `(B, Q)`.
            ages: how old each sentence is, 0 for the newest; None counts the sentences after it.
            normalize: of every hop; `linear` leaves the softmax out.
        """
        check_words(self.symbols, stories=(stories, 3), questions=(questions, 2))
        if not stories.shape[2]:  # sentences without a word, which are padding
            stories = stories.new_zeros(*stories.shape[:2], 1)
        mask = (stories != 0).any(-1)
        ages = told_after(mask) if ages is None else self._aged(ages, mask)
        if ages.numel() and ages.max() >= self.slots:
            raise ValueError(f"a sentence has age {int(ages.max())} but slots is {self.slots}")
        # A batch says the same sentences again and again: each is embedded once, by each table.
        sentences, which = stories.flatten(0, 1).unique(dim=0, return_inverse=True)
        which = which.view(mask.shape)
        memory = {
            table: nn.functional.embedding(which, table(sentences)) + table.age(ages)
            for table in dict.fromkeys([*self.inputs, *self.outputs])
        }
        state, read = self.question(questions), []
        for A, C in zip(self.inputs, self.outputs, strict=True):
            found = hop(state, memory[A], memory[C], self.carry, mask=mask, normalize=normalize)
            state = found.state
            read.append(found.weights)
        return Answered(state @ self.answer.word.weight.T, torch.stack(read, dim=1))

    def _aged(self, ages: Tensor, mask: Tensor) -> Tensor:
        check_integers("ages", ages)
        if ages.shape != mask.shape:
            raise ValueError(f"ages must be {tuple(mask.shape)}, got {tuple(ages.shape)}")
        if ages.numel() and ages.min() < 0:
            raise ValueError(f"ages must not be negative, got {int(ages.min())}")
        return ages


def hop(
    state: Float[Tensor, "*b D"],
    key: Float[Tensor, "*b S D"],
    value: Float[Tensor, "*b S D"],
    carry: Callable[[Tensor], Tensor] = nn.Identity(),  # noqa: B008
    *,
    mask: Bool[Tensor, "*b S"] | None = None,
    normalize: Normalize = softmax,
) -> Hop:
    """One look into the memory: the state is the query, and what was read is added to it.

    Args:
        state: `(*b, D)`, `u`.
        key: `(*b, S, D)`, `m_i`, what the state is compared with.
        value: `(*b, S, D)`, `c_i`, what is read.
        carry: what is kept of the state; all of it, unless given.
        mask: `(*b, S)`, True where a memory is. Without any, nothing is read.
        normalize: over the memories.

    Source:
        Sukhbaatar et al. 2015, sections 2.1 and 2.2.

    >>> key = value = torch.tensor([[3.0, 0.0], [0.0, 3.0]])
    >>> hop(torch.tensor([1.0, 0.0]), key, value)
    Hop(state=tensor([3.8577, 0.1423]), weights=tensor([0.9526, 0.0474]))
    """
    where = None if mask is None else mask.unsqueeze(-2)
    read = attend(state.unsqueeze(-2), key, value, score=dot(), mask=where, normalize=normalize)
    assert read.weights is not None  # `attend` always returns them
    return Hop(carry(state) + read.output.squeeze(-2), read.weights.squeeze(-2))


def linear(scores: Float[Tensor, "*b S"]) -> Float[Tensor, "*b S"]:
    """No normaliser: the scores are the weights, with 0 where the mask forbids.

    A network that begins its training so ("linear start") is spared the softmax while its scores
    mean nothing yet.

    Source:
        Sukhbaatar et al. 2015, section 4.1.

    >>> linear(torch.tensor([2.0, -1.0, float("-inf")]))
    tensor([ 2., -1.,  0.])
    """
    return scores.masked_fill(scores == float("-inf"), 0.0)
