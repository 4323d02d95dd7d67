"""RNNencdec and RNNsearch: the encoder-decoder without attention, and the first one with it.

Written from appendix A of Bahdanau, Cho, Bengio 2015 ("the paper" below), whose symbols it uses.
`B` sequences, `S` source and `T` target positions, `n` hidden units, `m` embedding width.

    annotations  h_j = [forward state; backward state]             (B, S, 2n)
    weights      alpha_i = softmax_j(v . tanh(W s_{i-1} + U h_j))  (B, S)
    context      c_i = sum_j alpha_ij h_j                          (B, 2n)
    output       p(y_i) from s_{i-1}, y_{i-1}, c_i                 (B, symbols)
    state        s_i = GRU(s_{i-1}; y_{i-1}, c_i)                  (B, n)

The query is the decoder's state **before** the step. Without attention `c_i` is one fixed vector.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attnbook.core import Attended, attend
from attnbook.recurrent import Encoded, Encoder, GatedUnit
from attnbook.scores import Additive
from attnbook.seq2seq import Decoded, Seq2Seq, Step, check_previous, stack

__all__ = [
    "Alignment",
    "BahdanauAttention",
    "BahdanauDecoder",
    "BahdanauState",
    "rnn_encdec",
    "rnn_search",
]


class BahdanauState(NamedTuple):
    """What the decoder carries from one step to the next.

    Attributes:
        hidden: `(B, n)`, `s_{i-1}`.
        keys: `(B, S, K)`, the projected annotations, the same at every step.
    """

    hidden: Float[Tensor, "B n"]
    keys: Float[Tensor, "B S K"]


@runtime_checkable
class Alignment(Protocol):
    """What a decoder asks of its attention: keys once, then a context at each step.

    `BahdanauAttention` is one, and shows the shapes.
    """

    def project(self, annotations: Tensor) -> Tensor:
        """The keys, the same for every step."""

    def __call__(
        self, state: Tensor, keys: Tensor, annotations: Tensor, mask: Tensor | None
    ) -> Attended:
        """The context and its weights, for the state before the step."""


class BahdanauAttention(nn.Module):
    """The paper's alignment model: which annotations does the state before this step ask for?

    Args:
        state_dim: `n`, width of a decoder state, the query.
        annotation_dim: `2n`, width of an annotation, both key and value.
        hidden_dim: `n'`, units of the alignment model.

    Source:
        Bahdanau, Cho, Bengio 2015, equations 5 and 6 and appendix A.1.2, which also says to compute
        `U h_j` once: `project` does.

    >>> attention = BahdanauAttention(state_dim=3, annotation_dim=6, hidden_dim=4)
    >>> annotations = torch.zeros(2, 5, 6)
    >>> keys = attention.project(annotations)
    >>> attention(torch.zeros(2, 3), keys, annotations, None).weights[0, 0]
    tensor([0.2000, 0.2000, 0.2000, 0.2000, 0.2000], grad_fn=<SelectBackward0>)
    """

    def __init__(self, state_dim: int, annotation_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.score = Additive(state_dim, annotation_dim, hidden_dim)

    def project(self, annotations: Float[Tensor, "B S A"]) -> Float[Tensor, "B S H"]:
        """The keys `U h_j`, the same for every step."""
        return self.score.key(annotations)

    def forward(
        self,
        state: Float[Tensor, "B n"],
        keys: Float[Tensor, "B S H"],
        annotations: Float[Tensor, "B S A"],
        mask: Bool[Tensor, "B 1 S"] | None,
    ) -> Attended:
        """The context `(B, 1, 2n)` and the weights `(B, 1, S)`."""
        query = self.score.query(state).unsqueeze(1)
        return attend(query, keys, annotations, score=self.score.compare, mask=mask)


class BahdanauDecoder(nn.Module):
    """The decoder, with the context that `attention` finds at each step, or with a fixed one.

    Args:
        symbols: size of the target vocabulary.
        embed_dim: `m`.
        hidden_dim: `n`, the encoder's as well.
        maxout_dim: `l`, units of the deep output layer.
        attention: finds the context; a module with parameters of its own. `None` is the RNN
            encoder-decoder, "if we fix `c_i` to `h_S` forward" as the paper notes; the first state
            still comes from the backward direction, so that both ends of the source are known.

    Source:
        Bahdanau, Cho, Bengio 2015, appendix A.2.2; Cho et al. 2014, section 2.2.

    >>> decoder = BahdanauDecoder(symbols=7, embed_dim=4, hidden_dim=3, maxout_dim=5)
    >>> encoded = Encoder(10, 4, 3)(torch.tensor([[5, 2, 0]]), torch.tensor([2]))
    >>> decoder(encoded, torch.tensor([[1, 4, 2]])).logits.shape
    torch.Size([1, 3, 7])
    """

    def __init__(
        self,
        symbols: int,
        embed_dim: int,
        hidden_dim: int,
        maxout_dim: int,
        attention: Alignment | None = None,
    ) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.attention = attention
        context_dim = hidden_dim if attention is None else 2 * hidden_dim
        self.embed = nn.Embedding(symbols, embed_dim)
        self.first_state = nn.Linear(hidden_dim, hidden_dim)  # W_s
        self.symbol_drive = nn.Linear(embed_dim, 3 * hidden_dim)  # W_z, W_r, W
        self.context_drive = nn.Linear(context_dim, 3 * hidden_dim, bias=False)  # C_z, C_r, C
        self.unit = GatedUnit(hidden_dim)
        self.state_output = nn.Linear(hidden_dim, 2 * maxout_dim)  # U_o
        self.symbol_output = nn.Linear(embed_dim, 2 * maxout_dim, bias=False)  # V_o
        self.context_output = nn.Linear(context_dim, 2 * maxout_dim, bias=False)  # C_o
        self.output = nn.Linear(maxout_dim, symbols)  # W_o

    def forward(self, encoded: Encoded, previous: Int[Tensor, "B T"]) -> Decoded:
        """Teacher forcing: predict each symbol from the true one before it.

        Args:
            encoded: the source.
            previous: `(B, T)`, the symbol before each one to predict.

        Returns:
            Logits `(B, T, symbols)`, weights `(B, T, S)` or `None`, and `previous`.
        """
        check_previous(previous, len(encoded.annotations), self.embed.num_embeddings)
        embedded = self.embed(previous)
        drive = self.symbol_drive(embedded)
        state, keys = self.start(encoded)
        states, contexts, weights = [], [], []
        for step_drive in drive.unbind(1):
            context, looked = self.look(state, keys, encoded)
            states.append(state)
            contexts.append(context)
            weights.append(looked)
            state = self.unit(step_drive + self.context_drive(context), state)
        logits = self.deep_output(torch.stack(states, 1), embedded, torch.stack(contexts, 1))
        return Decoded(logits, stack(weights), previous)

    def start(self, encoded: Encoded) -> BahdanauState:
        """The first state, `tanh(W_s h_1 backward)`, and the keys for every step."""
        state = torch.tanh(self.first_state(encoded.first_backward))
        if self.attention is None:
            return BahdanauState(state, encoded.annotations)  # never looked at
        return BahdanauState(state, self.attention.project(encoded.annotations))

    def look(
        self, state: Float[Tensor, "B n"], keys: Float[Tensor, "B S K"], encoded: Encoded
    ) -> tuple[Float[Tensor, "B A"], Float[Tensor, "B S"] | None]:
        """The context `c_i` for the state before step `i`, and its weights."""
        if self.attention is None:
            return encoded.last_forward, None
        context, weights = self.attention(state, keys, encoded.annotations, encoded.mask)
        return context.squeeze(1), None if weights is None else weights.squeeze(1)

    def step(self, symbol: Int[Tensor, " B"], state: BahdanauState, encoded: Encoded) -> Step:
        """One step from the symbol before it: logits, the next state and the weights."""
        embedded = self.embed(symbol)
        context, weights = self.look(*state, encoded)
        logits = self.deep_output(state.hidden, embedded, context)
        drive = self.symbol_drive(embedded) + self.context_drive(context)
        return Step(logits, state._replace(hidden=self.unit(drive, state.hidden)), weights)

    def deep_output(
        self,
        state: Float[Tensor, "*b n"],
        embedded: Float[Tensor, "*b m"],
        context: Float[Tensor, "*b A"],
    ) -> Float[Tensor, "*b V"]:
        """`W_o t` with `t` the larger of each pair of `U_o s_{i-1} + V_o E y_{i-1} + C_o c_i`."""
        pairs = (
            self.state_output(state) + self.symbol_output(embedded) + self.context_output(context)
        )
        return self.output(pairs.unflatten(-1, (-1, 2)).amax(dim=-1))


def rnn_search(
    source_symbols: int,
    target_symbols: int,
    *,
    embed_dim: int = 32,
    hidden_dim: int = 96,
    start: int = 1,
    end: int = 2,
) -> Seq2Seq:
    """RNNsearch: with attention. The alignment model has `n` units and the maxout layer `n / 2`.

    Source:
        Bahdanau, Cho, Bengio 2015, appendix A.2.3 (`n = n' = 1000`, `m = 620`, `l = 500`).

    >>> model = rnn_search(source_symbols=10, target_symbols=7, hidden_dim=4)
    >>> model.decoder.attention
    BahdanauAttention(
      (score): Additive(
        (query): Linear(in_features=4, out_features=4, bias=False)
        (key): Linear(in_features=8, out_features=4, bias=False)
        (v): Linear(in_features=4, out_features=1, bias=False)
      )
    )
    """
    attention = BahdanauAttention(hidden_dim, 2 * hidden_dim, hidden_dim)
    encoder = Encoder(source_symbols, embed_dim, hidden_dim)
    decoder = BahdanauDecoder(
        target_symbols, embed_dim, hidden_dim, max(1, hidden_dim // 2), attention
    )
    return Seq2Seq(encoder, decoder, start=start, end=end)


def rnn_encdec(
    source_symbols: int,
    target_symbols: int,
    *,
    embed_dim: int = 32,
    hidden_dim: int = 96,
    start: int = 1,
    end: int = 2,
) -> Seq2Seq:
    """RNNencdec: the same model without attention; one fixed context for all steps.

    Source:
        Cho et al. 2014; Bahdanau, Cho, Bengio 2015, section 4.2 and the note in appendix A.2.2.

    >>> rnn_encdec(source_symbols=10, target_symbols=7).decoder.attention is None
    True
    """
    encoder = Encoder(source_symbols, embed_dim, hidden_dim)
    decoder = BahdanauDecoder(target_symbols, embed_dim, hidden_dim, max(1, hidden_dim // 2))
    return Seq2Seq(encoder, decoder, start=start, end=end)
