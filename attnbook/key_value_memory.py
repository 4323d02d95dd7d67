"""Key-value memory networks: what a memory is found by and what it says may be different words.

Written from Miller et al. 2016 ("the paper" below), whose symbols are used. `B` questions, each
with `S` memories, a key of `J` words and a value of `N`; `K` hops, `D` numbers for a bag of words,
`V` symbols, of which 0 is padding.

    hop       p_i = softmax_i(q . A k_i),   o = sum_i p_i A v_i,   q <- R_k (q + o)     (B, D)
    answer    softmax_y(q . B y)                                                        (B, V)

A hop is that of `attnbook.memory_network`, turned by a matrix of its own.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attnbook.layers import check_sizes
from attnbook.memory_network import Answered, hop
from attnbook.sentences import check_words

__all__ = ["KeyValueMemoryNetwork", "shared_words"]


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
        TypeError: a number, or (when called) keys, values or questions are not of integers.

    Source:
        Miller et al. 2016, section 3.

    >>> model = KeyValueMemoryNetwork(symbols=9, embed_dim=4, hops=2)
    >>> keys, values = torch.tensor([[[3, 1], [4, 1]]]), torch.tensor([[[5], [6]]])
    >>> model(keys, values, torch.tensor([[1, 3]])).logits.shape
    torch.Size([1, 9])
    """

    def __init__(self, symbols: int, embed_dim: int, hops: int) -> None:
        super().__init__()
        check_sizes(symbols=symbols, embed_dim=embed_dim, hops=hops)
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
        check_words(self.symbols, **words)
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
