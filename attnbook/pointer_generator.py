"""The pointer-generator: a decoder that writes a word, or copies one from the source.

Written from See, Liu, Manning 2017 ("the paper" below), whose symbols it uses. `B` sources, `S`
source positions, `T` steps, `n` hidden units, `V` words of the vocabulary.

    weights   a_t = softmax(v . tanh(W_h h_i + W_s s_t + w_c c_i + b))   (B, S), equation 11
    coverage  c_t = sum of the weights of all steps before               (B, S), equation 10
    context   h*_t = sum_i a_ti h_i                                      (B, 2n), equation 3
    written   P_vocab = softmax(V' (V [s_t; h*_t] + b) + b')             (B, V), equation 4
    switch    p_gen = sigmoid(w_h* . h*_t + w_s . s_t + w_x . x_t + b)   (B,), equation 8
    result    P(w) = p_gen P_vocab(w) + (1 - p_gen) sum_{i: w_i = w} a_ti      equation 9

A source word that the vocabulary lacks has a number from `V` on, its own in each source: the same
word has the same number wherever it stands. The model can copy such a word and cannot read it: on
its way into the encoder or back into the decoder it is the unknown word.

The paper leaves open, and the authors' program settles, so that the parameters are as many as the
paper counts in section 5:

- The vocabulary's embeddings are shared by encoder and decoder.
- `x_t` is one linear layer on the embedded word and the context before, `h*_{t-1}`; `h*_0 = 0`.
- The first state is `relu` of one linear layer on the last states of both directions; so is the
  first memory cell.
- `s_t` is state and memory cell side by side, after the step; in equation 4 it is the state alone.
- The attention's hidden layer is as wide as an annotation.

Parameters start as torch starts them.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from attnbook.core import Attended, attend
from attnbook.masks import padding
from attnbook.recurrent import check_lengths, check_symbols
from attnbook.scores import Additive
from attnbook.seq2seq import Seq2Seq, Step, check_previous

__all__ = [
    "CopyDecoder",
    "CopyEncoded",
    "CopyEncoder",
    "CopyState",
    "CoverageAttention",
    "PointerGenerator",
    "Written",
    "coverage_loss",
    "pointer_generator",
]


class Written(NamedTuple):
    """What the model returns for `W` words: the vocabulary's and those that the sources add.

    Attributes:
        logits: `(B, T, W)`, log-probabilities already; `-inf` for another source's words.
        weights: `(B, T, S)`, where it looked; what it copies, it copies from there.
        symbols: `(B, T)`, the words that were given.
        p_gen: `(B, T)`, the share of the vocabulary; the rest is copied. 1 without copying.
    """

    logits: Float[Tensor, "B T W"]
    weights: Float[Tensor, "B T S"]
    symbols: Int[Tensor, "B T"]
    p_gen: Float[Tensor, "B T"]


class CopyEncoded(NamedTuple):
    """What the encoder leaves for the decoder.

    Attributes:
        annotations: `(B, S, 2n)`, the states of both directions side by side; 0 on padding.
        mask: `(B, 1, S)`, True where a source word is, False on padding.
        words: `(B, S)`, the source itself, with numbers from `V` on; 0 on padding.
        hidden: `(B, 2n)`, the last state of each direction.
        cell: `(B, 2n)`, the last memory cell of each direction.
    """

    annotations: Float[Tensor, "B S A"]
    mask: Bool[Tensor, "B 1 S"]
    words: Int[Tensor, "B S"]
    hidden: Float[Tensor, "B A"]
    cell: Float[Tensor, "B A"]


class CopyState(NamedTuple):
    """What the decoder carries from one step to the next.

    Attributes:
        hidden: `(B, n)`.
        cell: `(B, n)`.
        context: `(B, 2n)`, `h*_{t-1}`.
        coverage: `(B, S)`, `c_t`.
        keys: `(B, S, 2n)`, the projected annotations, the same at every step.
    """

    hidden: Float[Tensor, "B n"]
    cell: Float[Tensor, "B n"]
    context: Float[Tensor, "B A"]
    coverage: Float[Tensor, "B S"]
    keys: Float[Tensor, "B S A"]


def coverage_loss(weights: Float[Tensor, "B T S"]) -> Float[Tensor, "B T"]:
    """How much each step looks again at what was looked at before, `sum_i min(a_ti, c_ti)`.

    Args:
        weights: `(B, T, S)`, rows that sum to one.

    Returns:
        `(B, T)`, between 0 and 1; the first step's is 0. The paper adds it to `-log P(w_t)` with a
        factor of 1 (equation 13). Leave out the steps behind the end of a target.

    Source:
        See, Liu, Manning 2017, equation 12.

    >>> coverage_loss(torch.tensor([[[0.9, 0.1], [0.0, 1.0], [0.5, 0.5]]]))
    tensor([[0.0000, 0.1000, 1.0000]])
    """
    before = F.pad(weights[:, :-1].cumsum(1), (0, 0, 1, 0))
    return torch.minimum(weights, before).sum(-1)


class CoverageAttention(nn.Module):
    """Additive attention whose keys also say how much they have been looked at.

    Args:
        state_dim: width of a state, the query.
        annotation_dim: `2n`, width of an annotation, key and value, and of the hidden layer.
        coverage: whether the coverage has a part in the score; without it this is equation 1.

    Source:
        See, Liu, Manning 2017, equations 1, 2, 3 and 11.

    >>> attention = CoverageAttention(state_dim=3, annotation_dim=4)
    >>> annotations, coverage = torch.ones(1, 2, 4), torch.tensor([[0.0, 1.0]])
    >>> keys = attention.project(annotations)
    >>> weights = attention(torch.ones(1, 3), keys, annotations, None, coverage).weights
    >>> bool(weights[0, 0, 0] == weights[0, 0, 1])  # two equal words, one of them covered
    False
    """

    def __init__(self, state_dim: int, annotation_dim: int, *, coverage: bool = True) -> None:
        super().__init__()
        self.score = Additive(state_dim, annotation_dim, annotation_dim)  # W_s, W_h, v
        self.bias = nn.Parameter(torch.zeros(annotation_dim))  # b_attn
        self.coverage = nn.Linear(1, annotation_dim, bias=False) if coverage else None  # w_c

    def project(self, annotations: Float[Tensor, "B S A"]) -> Float[Tensor, "B S A"]:
        """The part of the keys that is the same for every step, `W_h h_i + b`."""
        return self.score.key(annotations) + self.bias

    def forward(
        self,
        state: Float[Tensor, "B s"],
        keys: Float[Tensor, "B S A"],
        annotations: Float[Tensor, "B S A"],
        mask: Bool[Tensor, "B 1 S"] | None,
        coverage: Float[Tensor, "B S"],
    ) -> Attended:
        """The context `(B, 1, 2n)` and the weights `(B, 1, S)`."""
        if self.coverage is not None:
            keys = keys + self.coverage(coverage.unsqueeze(-1))
        query = self.score.query(state).unsqueeze(1)
        return attend(query, keys, annotations, score=self.score.compare, mask=mask)


class CopyEncoder(nn.Module):
    """A bidirectional LSTM that keeps the words beside what it read.

    Args:
        embed: of the vocabulary, the decoder's as well.
        hidden_dim: `n`, units of each direction.
        unknown: the symbol that a word beyond the vocabulary is read as.

    Shapes:
        source `(B, S)`, lengths `(B,)`, annotations `(B, S, 2n)`. Padding changes nothing.

    Raises:
        TypeError: source or lengths are not integer tensors.
        ValueError: a symbol is negative, or beyond the `V + S` that there can be; a length is not
            in 1..S.

    Source:
        See, Liu, Manning 2017, section 2.1.

    >>> encoder = CopyEncoder(nn.Embedding(10, 4), hidden_dim=3, unknown=3)
    >>> a, b = encoder(torch.tensor([[5, 10], [5, 3]]), torch.tensor([2, 2])).annotations
    >>> torch.equal(a, b)  # 10 is the source's first word that the vocabulary of 10 lacks
    True
    """

    def __init__(self, embed: nn.Embedding, hidden_dim: int, unknown: int) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.embed = embed
        self.unknown = unknown
        self.lstm = nn.LSTM(embed.embedding_dim, hidden_dim, batch_first=True, bidirectional=True)

    def forward(self, source: Int[Tensor, "B S"], lengths: Int[Tensor, " B"]) -> CopyEncoded:
        """Read the source in both directions."""
        V = self.embed.num_embeddings
        S = source.shape[-1] if isinstance(source, Tensor) and source.ndim else 0
        check_symbols("source", source, V + S)
        check_lengths(lengths, source)
        mask = padding(lengths, S)
        words = source.masked_fill(~mask.squeeze(1), 0)
        packed = pack_padded_sequence(
            self.embed(_known(words, V, self.unknown)),
            lengths.cpu(),
            batch_first=True,
            enforce_sorted=False,
        )
        states, last = self.lstm(packed)
        annotations, _ = pad_packed_sequence(states, batch_first=True, total_length=S)
        hidden, cell = (part.transpose(0, 1).flatten(1) for part in last)
        return CopyEncoded(annotations, mask, words, hidden, cell)


class CopyDecoder(nn.Module):
    """An LSTM that steps, looks, and then mixes what it would write with what it would copy.

    Args:
        embed: of the vocabulary, the encoder's as well.
        hidden_dim: `n`, the encoder's as well.
        unknown: the symbol that a word beyond the vocabulary is read as.
        copy: whether it may copy; without it `p_gen` is 1 and it writes the vocabulary alone, as
            the paper's baseline.
        coverage: whether what was looked at before has a part in the score.

    Source:
        See, Liu, Manning 2017, sections 2.1 to 2.3.

    >>> embed = nn.Embedding(10, 4)
    >>> encoded = CopyEncoder(embed, 3, unknown=3)(torch.tensor([[5, 10]]), torch.tensor([2]))
    >>> decoder = CopyDecoder(embed, 3, unknown=3)
    >>> decoder(encoded, torch.tensor([[1, 10]])).logits.exp().sum(-1).round(decimals=4)
    tensor([[1., 1.]], grad_fn=<RoundBackward1>)
    """

    def __init__(
        self,
        embed: nn.Embedding,
        hidden_dim: int,
        unknown: int,
        *,
        copy: bool = True,
        coverage: bool = True,
    ) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        m, V = embed.embedding_dim, embed.num_embeddings
        self.embed = embed
        self.unknown = unknown
        self.attention = CoverageAttention(2 * hidden_dim, 2 * hidden_dim, coverage=coverage)
        self.first_hidden = nn.Linear(2 * hidden_dim, hidden_dim)
        self.first_cell = nn.Linear(2 * hidden_dim, hidden_dim)
        self.drive = nn.Linear(m + 2 * hidden_dim, m)  # to x_t
        self.unit = nn.LSTMCell(m, hidden_dim)
        self.combine = nn.Linear(3 * hidden_dim, hidden_dim)  # V, b
        self.output = nn.Linear(hidden_dim, V)  # V', b'
        self.switch = nn.Linear(4 * hidden_dim + m, 1) if copy else None  # w_h*, w_s, w_x, b_ptr

    def forward(self, encoded: CopyEncoded, previous: Int[Tensor, "B T"]) -> Written:
        """Teacher forcing: predict each word from the true one before it.

        Args:
            encoded: the source.
            previous: `(B, T)`, the word before each one to predict.

        Returns:
            Log-probabilities `(B, T, W)`, weights `(B, T, S)`, `previous` and `p_gen` `(B, T)`.
        """
        check_previous(previous, len(encoded.words), self.words(encoded))
        state, seen, weights = self.start(encoded), [], []
        for symbol in previous.unbind(1):
            state, x, looked = self.advance(symbol, state, encoded)
            seen.append(torch.cat([state.hidden, state.context, state.cell, x], dim=-1))
            weights.append(looked)
        stacked = torch.stack(weights, dim=1)
        logits, p_gen = self.mix(torch.stack(seen, dim=1), stacked, encoded)
        return Written(logits, stacked, previous, p_gen)

    def words(self, encoded: CopyEncoded) -> int:
        """`W`: the vocabulary and, where it can copy, what the sources add."""
        V = self.embed.num_embeddings
        return V if self.switch is None else max(V, 1 + int(encoded.words.max()))

    def start(self, encoded: CopyEncoded) -> CopyState:
        """The state before the first step, when nothing has been looked at."""
        return CopyState(
            torch.relu(self.first_hidden(encoded.hidden)),
            torch.relu(self.first_cell(encoded.cell)),
            torch.zeros_like(encoded.hidden),
            torch.zeros_like(encoded.annotations[..., 0]),
            self.attention.project(encoded.annotations),
        )

    def step(self, symbol: Int[Tensor, " B"], state: CopyState, encoded: CopyEncoded) -> Step:
        """One step from the word before it: log-probabilities, the next state and the weights."""
        state, x, weights = self.advance(symbol, state, encoded)
        seen = torch.cat([state.hidden, state.context, state.cell, x], dim=-1)
        logits, _ = self.mix(seen.unsqueeze(1), weights.unsqueeze(1), encoded)
        return Step(logits.squeeze(1), state, weights)

    def advance(
        self, symbol: Int[Tensor, " B"], state: CopyState, encoded: CopyEncoded
    ) -> tuple[CopyState, Float[Tensor, "B m"], Float[Tensor, "B S"]]:
        """The state after one more word, the `x_t` it read, and where it then looked."""
        embedded = self.embed(_known(symbol, self.embed.num_embeddings, self.unknown))
        x = self.drive(torch.cat([embedded, state.context], dim=-1))
        hidden, cell = self.unit(x, (state.hidden, state.cell))
        context, looked = self.attention(
            torch.cat([hidden, cell], dim=-1),
            state.keys,
            encoded.annotations,
            encoded.mask,
            state.coverage,
        )
        weights = looked.squeeze(1)
        covered = state.coverage + weights
        return CopyState(hidden, cell, context.squeeze(1), covered, state.keys), x, weights

    def mix(
        self,
        seen: Float[Tensor, "B T F"],
        weights: Float[Tensor, "B T S"],
        encoded: CopyEncoded,
    ) -> tuple[Float[Tensor, "B T W"], Float[Tensor, "B T"]]:
        """Equations 4, 8 and 9 in logarithms, from `[s_t; h*_t; cell; x_t]` and the weights."""
        n = self.unit.hidden_size
        logits = self.output(self.combine(seen[..., : 3 * n])).log_softmax(-1)
        if self.switch is None:
            return logits, torch.ones_like(logits[..., 0])
        balance = self.switch(seen)
        W = self.words(encoded)
        written = F.logsigmoid(balance) + logits
        written = F.pad(written, (0, W - logits.shape[-1]), value=float("-inf"))

        # Words that stand in the source have a finite logarithm, even if no weight is left of them.
        there = logits.new_zeros(len(weights), W)
        there = there.scatter_add(1, encoded.words, encoded.mask.squeeze(1).to(there)) > 0
        where = encoded.words.unsqueeze(1).expand_as(weights)
        copied = weights.new_zeros(*weights.shape[:2], W).scatter_add(2, where, weights)
        copied = copied.clamp_min(torch.finfo(copied.dtype).tiny).log() + F.logsigmoid(-balance)
        copied = copied.masked_fill(~there.unsqueeze(1), float("-inf"))
        return torch.logaddexp(written, copied), torch.sigmoid(balance).squeeze(-1)


class PointerGenerator(Seq2Seq):
    """An encoder and a decoder that copies; greedy decoding and beam search are `Seq2Seq`'s.

    Sources and targets hold symbols of the vocabulary and, for words that it lacks, numbers from
    `V` on; so do the symbols that `greedy` and `beam` find. `forward` on those gives the `p_gen`
    and the weights with which each was written. `pointer_generator` builds one.

    >>> model = pointer_generator(10, embed_dim=4, hidden_dim=3)
    >>> source, lengths = torch.tensor([[5, 10, 5], [11, 10, 0]]), torch.tensor([3, 2])
    >>> found = model.beam(source, lengths, max_steps=4, width=2)
    >>> model(source, lengths, found.symbols).p_gen.shape == found.symbols.shape
    True
    """

    decoder: CopyDecoder

    def forward(  # type: ignore[override]  # it says more than Decoded does
        self, source: Int[Tensor, "B S"], lengths: Int[Tensor, " B"], target: Int[Tensor, "B T"]
    ) -> Written:
        """Teacher forcing: log-probabilities of every word at each step of the target.

        Args:
            source: `(B, S)` with padding at the end.
            lengths: `(B,)`, true lengths of the sources, at least 1.
            target: `(B, T)`, without the start symbol, with the end symbol.

        Returns:
            Log-probabilities `(B, T, W)`, weights `(B, T, S)`, the target and `p_gen` `(B, T)`.

        Raises:
            TypeError: a tensor is not of integers.
            ValueError: shapes do not fit, or a symbol or a length is out of range; a target has a
                word that neither the vocabulary nor any source has.
        """
        encoded = self.encoder(source, lengths)
        check_symbols("target", target, self.decoder.words(encoded))
        if len(target) != len(source):
            raise ValueError(f"source has {len(source)} sequences but target has {len(target)}")
        return self.decoder(encoded, self._previous(target))._replace(symbols=target)


def pointer_generator(
    symbols: int,
    *,
    embed_dim: int = 32,
    hidden_dim: int = 96,
    copy: bool = True,
    coverage: bool = True,
    start: int = 1,
    end: int = 2,
    unknown: int = 3,
) -> PointerGenerator:
    """The paper's model; without `copy` and `coverage` it is the paper's baseline.

    Args:
        symbols: `V`, words of the vocabulary, of sources and targets alike.
        embed_dim: width of an embedding.
        hidden_dim: `n`, units of the decoder and of each direction of the encoder.
        copy: whether it may copy words of the source.
        coverage: whether the attention knows what was looked at before.
        start: the symbol before the first word.
        end: the symbol that ends a target.
        unknown: the symbol that a word beyond the vocabulary is read as.

    Raises:
        ValueError: start, end or unknown is not a symbol of the vocabulary.

    Source:
        See, Liu, Manning 2017, section 5 (V = 50,000, n = 256, m = 128).

    >>> copying, baseline = pointer_generator(10), pointer_generator(10, copy=False)
    >>> sum(p.numel() for p in copying.parameters()) - sum(p.numel() for p in baseline.parameters())
    417
    """
    if not 0 <= unknown < symbols:
        raise ValueError(f"unknown must be in the vocabulary's 0..{symbols - 1}, got {unknown}")
    embed = nn.Embedding(symbols, embed_dim)
    encoder = CopyEncoder(embed, hidden_dim, unknown)
    decoder = CopyDecoder(embed, hidden_dim, unknown, copy=copy, coverage=coverage)
    return PointerGenerator(encoder, decoder, start=start, end=end)


def _known(words: Int[Tensor, "*b"], symbols: int, unknown: int) -> Int[Tensor, "*b"]:
    """Words as the vocabulary has them: those beyond it are the unknown word."""
    return words.masked_fill(words >= symbols, unknown)
