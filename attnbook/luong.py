"""Luong's decoder: step first, then look, with any score, everywhere or inside a window.

Written from Luong, Pham, Manning 2015 ("the paper" below), whose symbols it uses. `B` sequences,
`S` source and `T` target positions, `n` hidden units, `m` embedding width.

    state    h_t = LSTM(h_{t-1}; y_{t-1}, h~_{t-1})    (B, n), top layer
    weights  a_t(s) = softmax_s(score(h_t, h_s))       (B, S), equation 7
    context  c_t = sum_s a_t(s) h_s                    (B, n)
    output   h~_t = tanh(W_c [c_t; h_t])               (B, n), equation 5
             p(y_t) = softmax(W_s h~_t)                (B, symbols), equation 6

Without input feeding `h~_{t-1}` is no input of the state. The query is the decoder's state
**after** the step. The paper leaves open, and we choose:

- `h~_0 = 0`, and the decoder starts from the encoder's last state and cell, layer by layer.
- Positions `s` and steps `t` are counted from 1.
- A source longer than `Location` was built for is an error; the paper ignores its last words.
- The window of `local_m` stays at the last position when `t` has passed it, as in the program that
  the authors published.
- The window of `LocalP` is centred at the real number `p_t`; that program rounds it down.
- Neither dropout nor a reversed source. Parameters start as torch starts them.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attnbook.core import Normalize, Score, aggregate, attention_weights
from attnbook.normalizers import softmax
from attnbook.recurrent import StackedEncoded, StackedEncoder
from attnbook.scores import Additive, Bilinear, Concat, dot
from attnbook.seq2seq import Decoded, Seq2Seq, Step, check_previous

__all__ = ["LocalP", "LuongDecoder", "LuongState", "Window", "local_m", "luong"]


@runtime_checkable
class Window(Protocol):
    """Where a query may look, and how its scores there become weights.

    `local_m` makes one and `LocalP` is one.
    """

    def __call__(self, query: Tensor, step: Tensor, mask: Tensor) -> tuple[Tensor, Normalize]:
        """A mask `(B, L, S)` to join with the padding's, and a normaliser.

        The queries are `(B, L, n)`, after steps `(B, L)`; the padding's mask is `(B, 1, S)`.
        """


def local_m(half_width: int) -> Window:
    """Make the monotonic window: at step `t` the positions within `half_width` of `p_t = t`.

    Args:
        half_width: `D`, at least 0. When `t` has passed the last position, `p_t` stays on it.

    Raises:
        ValueError: half_width is negative.

    Source:
        Luong, Pham, Manning 2015, section 3.2, "local-m"; `D = 10` there.

    >>> query, steps = torch.zeros(1, 4, 2), torch.arange(1, 5)[None]
    >>> three_of_four = torch.tensor([[[True, True, True, False]]])
    >>> near, _ = local_m(1)(query, steps, three_of_four)
    >>> (near & three_of_four).int()
    tensor([[[1, 1, 0, 0],
             [1, 1, 1, 0],
             [0, 1, 1, 0],
             [0, 1, 1, 0]]], dtype=torch.int32)
    """
    if not half_width >= 0:
        raise ValueError(f"half_width must not be negative, got {half_width}")

    def window(
        query: Float[Tensor, "B L n"], step: Int[Tensor, "B L"], mask: Bool[Tensor, "B 1 S"]
    ) -> tuple[Bool[Tensor, "B L S"], Normalize]:
        centre = step.minimum(mask.sum(-1))
        return _distance(centre, mask).abs() <= half_width, softmax

    return window


class LocalP(nn.Module):
    """The predicted window: positions within `half_width` of `p_t = S sigmoid(v . tanh(W h_t))`.

    The softmax over the window is multiplied by a Gaussian around `p_t` of standard deviation
    `half_width / 2`, and not normalised again: a row of weights sums to less than 1.

    Args:
        query_dim: width of a query.
        half_width: `D`, at least 1.

    Shapes:
        query `(B, L, query_dim)`, step `(B, L)`, not looked at, mask `(B, 1, S)`. The `S` of the
        formula is each source's true length.

    Raises:
        ValueError: half_width is below 1; (when called) a query is not query_dim wide.

    Source:
        Luong, Pham, Manning 2015, equations 9 and 10, "local-p"; `D = 10` there.

    >>> window, query = LocalP(query_dim=2, half_width=2), torch.zeros(1, 1, 2)  # sigmoid(0) = 1/2
    >>> near, normalize = window(query, torch.ones(1, 1).long(), torch.ones(1, 1, 6).bool())
    >>> near.int()  # within 2 of position 3
    tensor([[[1, 1, 1, 1, 1, 0]]], dtype=torch.int32)
    >>> normalize(torch.zeros(1, 1, 6).masked_fill(~near, float("-inf")))
    tensor([[[0.0271, 0.1213, 0.2000, 0.1213, 0.0271, 0.0000]]], grad_fn=<MulBackward0>)
    """

    def __init__(self, query_dim: int, half_width: int) -> None:
        super().__init__()
        if not half_width >= 1:
            raise ValueError(f"half_width must be at least 1, got {half_width}")
        self.half_width = half_width
        self.hidden = nn.Linear(query_dim, query_dim, bias=False)  # W_p
        self.v = nn.Linear(query_dim, 1, bias=False)  # v_p

    def centre(
        self, query: Float[Tensor, "B L n"], mask: Bool[Tensor, "B 1 S"]
    ) -> Float[Tensor, "B L"]:
        """`p_t`, between 0 and the length of the source; position 1 is the first."""
        if query.shape[-1] != self.hidden.in_features:
            raise ValueError(
                f"query has width {query.shape[-1]} but query_dim is {self.hidden.in_features}"
            )
        share = torch.sigmoid(self.v(torch.tanh(self.hidden(query)))).squeeze(-1)
        return mask.sum(-1) * share

    def forward(
        self, query: Float[Tensor, "B L n"], step: Int[Tensor, "B L"], mask: Bool[Tensor, "B 1 S"]
    ) -> tuple[Bool[Tensor, "B L S"], Normalize]:
        """The window `(B, L, S)` and the normaliser with its Gaussian."""
        distance = _distance(self.centre(query, mask), mask)
        gaussian = torch.exp(-2 * (distance / self.half_width).square())  # 2 sigma^2 = D^2 / 2
        return distance.abs() <= self.half_width, lambda scores: softmax(scores) * gaussian


def _distance(centre: Tensor, mask: Tensor) -> Tensor:
    """`s - centre` for the positions `s = 1, 2, ...`: `(B, L, S)`."""
    return torch.arange(1, mask.shape[-1] + 1, device=mask.device) - centre.unsqueeze(-1)


class LuongState(NamedTuple):
    """What the decoder carries from one step to the next.

    Attributes:
        hidden: `(B, layers, n)`.
        cell: `(B, layers, n)`.
        attentional: `(B, n)`, `h~_{t-1}`; stays 0 without input feeding.
        steps: `(B,)`, how many there were.
    """

    hidden: Float[Tensor, "B layers n"]
    cell: Float[Tensor, "B layers n"]
    attentional: Float[Tensor, "B n"]
    steps: Int[Tensor, " B"]


class LuongDecoder(nn.Module):
    """A stack of LSTM layers whose top state asks, and whose answer makes the output.

    Args:
        symbols: size of the target vocabulary.
        embed_dim: `m`.
        hidden_dim: `n`, the encoder's as well.
        layers: how many, as in the encoder.
        score: compares a state of the decoder with one of the encoder, both `n` wide. The paper's
            are `dot()`, `Bilinear` ("general"), `Concat` and `Location`; any other will do.
        window: `local_m(...)` or `LocalP(...)`; `None` is global attention.
        input_feeding: whether `h~_{t-1}` is an input of step `t`, beside the symbol.

    Raises:
        TypeError: window is not callable.
        ValueError: layers is below 1.

    Source:
        Luong, Pham, Manning 2015, section 3.

    >>> decoder = LuongDecoder(symbols=7, embed_dim=4, hidden_dim=3, window=local_m(1))
    >>> encoded = StackedEncoder(10, 4, 3)(torch.tensor([[5, 2, 0]]), torch.tensor([2]))
    >>> decoder(encoded, torch.tensor([[1, 4, 2]])).logits.shape
    torch.Size([1, 3, 7])
    """

    def __init__(
        self,
        symbols: int,
        embed_dim: int,
        hidden_dim: int,
        layers: int = 1,
        *,
        score: Score = dot(),  # noqa: B008  (a pure function)
        window: Window | None = None,
        input_feeding: bool = True,
    ) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"layers must be at least 1, got {layers}")
        if window is not None and not callable(window):
            raise TypeError(f"window must be callable or None, got {type(window).__name__}")
        self.hidden_dim = hidden_dim
        self.score = score
        self.window = window
        self.input_feeding = input_feeding
        self.embed = nn.Embedding(symbols, embed_dim)
        first = embed_dim + hidden_dim if input_feeding else embed_dim
        widths = [first] + [hidden_dim] * (layers - 1)
        self.cells = nn.ModuleList(nn.LSTMCell(width, hidden_dim) for width in widths)
        self.combine = nn.Linear(2 * hidden_dim, hidden_dim, bias=False)  # W_c
        self.output = nn.Linear(hidden_dim, symbols, bias=False)  # W_s

    def forward(self, encoded: StackedEncoded, previous: Int[Tensor, "B T"]) -> Decoded:
        """Teacher forcing: predict each symbol from the true one before it.

        Args:
            encoded: the source.
            previous: `(B, T)`, the symbol before each one to predict.

        Returns:
            Logits `(B, T, symbols)`, weights `(B, T, S)`, and `previous`.
        """
        check_previous(previous, len(encoded.annotations), self.embed.num_embeddings)
        score, keys = _project(self.score, encoded.annotations)
        state = self.start(encoded)
        queries, answers, weights = [], [], []
        for embedded in self.embed(previous).unbind(1):
            state = self.advance(embedded, state)
            queries.append(state.hidden[:, -1:])
            if self.input_feeding:
                answer, looked = self.look(queries[-1], state.steps[:, None], encoded, score, keys)
                state = state._replace(attentional=answer.squeeze(1))
                answers.append(answer)
                weights.append(looked)
        if self.input_feeding:
            logits = self.output(torch.cat(answers, dim=1))
            return Decoded(logits, torch.cat(weights, dim=1), previous)
        steps = torch.arange(1, previous.shape[1] + 1, device=previous.device).expand_as(previous)
        answer, looked = self.look(torch.cat(queries, dim=1), steps, encoded, score, keys)
        return Decoded(self.output(answer), looked, previous)

    def start(self, encoded: StackedEncoded) -> LuongState:
        """The state before the first step: where the encoder ended, and nothing seen."""
        layers = encoded.hidden.shape[1]
        if layers != len(self.cells):
            raise ValueError(f"encoded has {layers} layers but the decoder has {len(self.cells)}")
        nothing = torch.zeros_like(encoded.hidden[:, -1])
        steps = encoded.mask.new_zeros(len(nothing), dtype=torch.long)
        return LuongState(encoded.hidden, encoded.cell, nothing, steps)

    def step(self, symbol: Int[Tensor, " B"], state: LuongState, encoded: StackedEncoded) -> Step:
        """One step from the symbol before it: logits, the next state and the weights."""
        state = self.advance(self.embed(symbol), state)
        query, steps = state.hidden[:, -1:], state.steps[:, None]
        answer, weights = self.look(query, steps, encoded, self.score, encoded.annotations)
        attentional = answer.squeeze(1)
        if self.input_feeding:
            state = state._replace(attentional=attentional)
        return Step(self.output(attentional), state, weights.squeeze(1))

    def advance(self, embedded: Float[Tensor, "B m"], state: LuongState) -> LuongState:
        """The LSTM layers after one more symbol."""
        x = torch.cat([embedded, state.attentional], -1) if self.input_feeding else embedded
        after = []
        for cell, *before in zip(
            self.cells, state.hidden.unbind(1), state.cell.unbind(1), strict=True
        ):
            after.append(cell(x, before))
            x = after[-1][0]
        hidden, cells = (torch.stack(parts, dim=1) for parts in zip(*after, strict=True))
        return LuongState(hidden, cells, state.attentional, state.steps + 1)

    def look(
        self,
        query: Float[Tensor, "B L n"],
        step: Int[Tensor, "B L"],
        encoded: StackedEncoded,
        score: Score,
        keys: Float[Tensor, "B S K"],
    ) -> tuple[Float[Tensor, "B L n"], Float[Tensor, "B L S"]]:
        """`h~_t` for the states after steps `t`, and their weights."""
        mask = encoded.mask
        normalize: Normalize = softmax
        if self.window is not None:
            near, normalize = self.window(query, step, mask)
            mask = mask & near
        weights = attention_weights(query, keys, score=score, mask=mask, normalize=normalize)
        context = aggregate(weights, encoded.annotations)
        return torch.tanh(self.combine(torch.cat([context, query], dim=-1))), weights


def _project(score: Score, key: Float[Tensor, "B S n"]) -> tuple[Score, Float[Tensor, "B S K"]]:
    """The same score in two parts: what the keys need is done here, once for all steps."""
    if isinstance(score, Bilinear | Additive | Concat):
        score(key[:0], key[:0])  # a width that does not fit is the score's own error
    if isinstance(score, Bilinear):
        return dot(), score.key(key)
    if isinstance(score, Additive):
        return lambda query, keys: score.compare(score.query(query), keys), score.key(key)
    if isinstance(score, Concat):
        of_query, of_key = score.joint.weight.split([score.query_dim, score.key_dim], dim=1)

        def concat(query: Tensor, keys: Tensor) -> Tensor:
            hidden = torch.tanh((query @ of_query.T).unsqueeze(-2) + keys.unsqueeze(-3))
            return score.v(hidden).squeeze(-1)

        return concat, key @ of_key.T
    return score, key


def luong(
    source_symbols: int,
    target_symbols: int,
    *,
    score: Score = dot(),  # noqa: B008
    window: Window | None = None,
    input_feeding: bool = True,
    embed_dim: int = 32,
    hidden_dim: int = 96,
    layers: int = 1,
    start: int = 1,
    end: int = 2,
) -> Seq2Seq:
    """Luong's model: a stacked LSTM encoder and `LuongDecoder`.

    Source:
        Luong, Pham, Manning 2015, section 4.1 (n = m = 1000, 4 layers, D = 10).

    >>> from attnbook import Bilinear
    >>> model = luong(10, 7, score=Bilinear(4, 4), window=LocalP(4, half_width=2), hidden_dim=4)
    >>> source, lengths = torch.tensor([[5, 2, 0], [4, 4, 4]]), torch.tensor([2, 3])
    >>> model(source, lengths, torch.tensor([[3, 2], [5, 2]])).weights[0, 0, 2].item()
    0.0
    """
    encoder = StackedEncoder(source_symbols, embed_dim, hidden_dim, layers)
    decoder = LuongDecoder(
        target_symbols,
        embed_dim,
        hidden_dim,
        layers,
        score=score,
        window=window,
        input_feeding=input_feeding,
    )
    return Seq2Seq(encoder, decoder, start=start, end=end)
