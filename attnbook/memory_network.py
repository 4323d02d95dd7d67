"""Memory networks: a question is asked of stored sentences, several times in a row.

Written from Sukhbaatar et al. 2015 ("the paper" below), whose symbols are used, and Miller et al.
2016. `B` questions, each with a story of `S` sentences of `J` words, in the order as told; `K`
hops, `D` numbers for a sentence, `V` symbols. Symbol 0 is padding: a word that is not there, and a
sentence of nothing else, count for nothing.

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
from attnbook.normalizers import softmax
from attnbook.scores import dot

__all__ = [
    "Answered",
    "Hop",
    "KeyValueMemoryNetwork",
    "MemoryNetwork",
    "SentenceTable",
    "Tables",
    "adjacent",
    "ages",
    "hop",
    "layerwise",
    "linear",
    "position_encoding",
    "shared_words",
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
            0..V - 1, or a sentence is older than the slots allow.
        TypeError: (when called) stories or questions are not of integers.

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
        _check_sizes(symbols=symbols, embed_dim=embed_dim, hops=hops, slots=slots)
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
        _check_words(self.symbols, stories=(stories, 3), questions=(questions, 2))
        mask = (stories != 0).any(-1)
        ages = _told_after(mask) if ages is None else self._aged(ages, mask)
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
        if ages.shape != mask.shape:
            raise ValueError(f"ages must be {tuple(mask.shape)}, got {tuple(ages.shape)}")
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
    _check_sizes(words=words, dim=dim)
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
    told_after, length = _told_after(mask), mask.sum(-1, keepdim=True)
    if not empty or not mask.numel():
        return told_after
    most = (empty * length).ceil()
    drawn = torch.rand(len(mask), 1, generator=generator).to(mask.device)
    blanks = ((most + 1) * drawn).long().minimum(most.long())
    places = torch.arange(mask.shape[1] + int(most.max()), device=mask.device)
    noise = torch.rand(len(mask), len(places), generator=generator).to(mask.device)
    within = places < length + blanks
    order = noise.masked_fill(~within, 2.0).argsort(-1).argsort(-1)
    free = within & (order >= blanks)  # as many as the story has sentences
    by_age = torch.where(free, places, len(places)).sort(-1).values
    return by_age.gather(-1, told_after).masked_fill(~mask, 0)


class KeyValueMemoryNetwork(nn.Module):
    """Key-value memory network: keys are compared with the state, values are read.

    Args:
        symbols: `V`, with 0 for padding.
        embed_dim: `D`.
        hops: `K`.

    Questions, keys and values are bags of words, embedded by one matrix; another embeds the
    answers. After each hop a matrix of its own turns the sum, `q <- R_k (q + o)`.

    Raises:
        ValueError: a number is below 1; (when called) shapes do not fit, or a symbol is not in
            0..V - 1.
        TypeError: (when called) keys, values or questions are not of integers.

    Source:
        Miller et al. 2016, section 3.

    >>> model = KeyValueMemoryNetwork(symbols=9, embed_dim=4, hops=2)
    >>> keys, values = torch.tensor([[[3, 1], [4, 1]]]), torch.tensor([[[5], [6]]])
    >>> model(keys, values, torch.tensor([[1, 3]])).logits.shape
    torch.Size([1, 9])
    """

    def __init__(self, symbols: int, embed_dim: int, hops: int) -> None:
        super().__init__()
        _check_sizes(symbols=symbols, embed_dim=embed_dim, hops=hops)
        self.symbols = symbols
        self.word, self.answer = (nn.Embedding(symbols, embed_dim) for _ in range(2))
        self.turns = nn.ModuleList(nn.Linear(embed_dim, embed_dim, bias=False) for _ in range(hops))
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.1)

    def forward(
        self,
        keys: Int[Tensor, "B S J"],
        values: Int[Tensor, "B S N"],
        questions: Int[Tensor, "B Q"],
        *,
        mask: Bool[Tensor, "B S"] | None = None,
    ) -> Answered:
        """Answer each question from its memory.

        Args:
            keys: `(B, S, J)`.
            values: `(B, S, N)`, one for each key.
            questions: `(B, Q)`.
            mask: True where a memory may be read, such as `shared_words`; None allows every key
                that has a word.
        """
        words = {"keys": (keys, 3), "values": (values, 3), "questions": (questions, 2)}
        _check_words(self.symbols, **words)
        mask = (keys != 0).any(-1) if mask is None else mask
        key, value = self._bag(keys), self._bag(values)
        state, read = self._bag(questions), []
        for turn in self.turns:
            found = hop(state, key, value, mask=mask)
            state = turn(found.state)
            read.append(found.weights)
        return Answered(state @ self.answer.weight.T, torch.stack(read, dim=1))

    def _bag(self, words: Int[Tensor, "*b J"]) -> Float[Tensor, "*b D"]:
        return (self.word(words) * (words != 0)[..., None]).sum(-2)


def shared_words(
    keys: Int[Tensor, "B S J"],
    questions: Int[Tensor, "B Q"],
    common: Int[Tensor, " N"] | None = None,
) -> Bool[Tensor, "B S"]:
    """Key hashing: which keys share a word with the question.

    Args:
        keys: `(B, S, J)`.
        questions: `(B, Q)`.
        common: words that do not count, since too many keys have them.

    Returns:
        A mask `(B, S)`. Of a large memory only these are embedded and compared.

    Source:
        Miller et al. 2016, section 3.1.

    >>> shared_words(torch.tensor([[[3, 1], [4, 1]]]), torch.tensor([[1, 3]]), torch.tensor([1]))
    tensor([[ True, False]])
    """
    asked = questions.masked_fill(questions == 0, -1)
    if common is not None:
        asked = asked.masked_fill(torch.isin(questions, common), -1)
    return (keys[..., None] == asked[:, None, None, :]).any(-1).any(-1)


def _told_after(mask: Bool[Tensor, "B S"]) -> Int[Tensor, "B S"]:
    """How many sentences follow each; 0 where none is."""
    return (mask.sum(-1, keepdim=True) - mask.cumsum(-1)).masked_fill(~mask, 0)


def _places(real: Bool[Tensor, "*b J"], dim: int, dtype: torch.dtype) -> Float[Tensor, "*b J D"]:
    """The position encoding of sentences whose words are there where `real` is True."""
    k = torch.arange(1, dim + 1, device=real.device, dtype=dtype) / dim
    place = (real.cumsum(-1).to(dtype) / real.sum(-1, keepdim=True).clamp_min(1))[..., None]
    return ((1 - place) - k * (1 - 2 * place)) * real[..., None]


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")


def _check_words(symbols: int, **words: tuple[Tensor, int]) -> None:
    batch = len(next(iter(words.values()))[0])
    for name, (tensor, axes) in words.items():
        if tensor.is_floating_point() or tensor.dtype is torch.bool:
            raise TypeError(f"{name} must be of integers, got {tensor.dtype}")
        if tensor.ndim != axes or len(tensor) != batch:
            raise ValueError(
                f"{name} must have {axes} axes, the first of {batch}, got {tuple(tensor.shape)}"
            )
        if tensor.numel() and not 0 <= tensor.min() <= tensor.max() < symbols:
            raise ValueError(
                f"{name} must be in 0..{symbols - 1}, got {int(tensor.min())}..{int(tensor.max())}"
            )
