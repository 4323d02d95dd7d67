"""An encoder and a decoder joined: teacher forcing, greedy decoding, beam search.

`Seq2Seq` does not know the mechanism inside: `attnbook.bahdanau` and `attnbook.luong` build one.
`B` sequences, `S` source and `T` target positions.
"""

import math
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attnbook.recurrent import check_symbols

__all__ = ["Decoded", "Decoder", "Encoder", "Found", "Seq2Seq", "Step"]


class Decoded(NamedTuple):
    """What the decoder returns.

    Attributes:
        logits: `(B, T, symbols)`, before the softmax.
        weights: `(B, T, S)`, where each output symbol looked; `None` without attention.
        symbols: `(B, T)`, the output symbols: those given when training, those chosen when greedy.
    """

    logits: Float[Tensor, "B T V"]
    weights: Float[Tensor, "B T S"] | None
    symbols: Int[Tensor, "B T"]


class Found(NamedTuple):
    """What beam search returns: the best sequence of each source.

    Attributes:
        symbols: `(B, T)`, filled up with the end symbol.
        log_prob: `(B,)`, `log P(symbols | source)`, up to and with the first end symbol.
        weights: `(B, T, S)`, where each symbol looked; `None` without attention.
    """

    symbols: Int[Tensor, "B T"]
    log_prob: Float[Tensor, " B"]
    weights: Float[Tensor, "B T S"] | None


class Step(NamedTuple):
    """What a decoder returns for one step.

    Attributes:
        logits: `(B, symbols)`, before the softmax.
        state: for the next step, a named tuple of tensors with the batch first.
        weights: `(B, S)`, where it looked; `None` without attention.
    """

    logits: Float[Tensor, "B V"]
    state: Any
    weights: Float[Tensor, "B S"] | None


@runtime_checkable
class Encoder(Protocol):
    """What `Seq2Seq` asks of an encoder: `attnbook.recurrent` has two."""

    hidden_dim: int
    """Units of a state."""

    def __call__(self, source: Tensor, lengths: Tensor) -> Any:
        """Read the source `(B, S)` of `lengths` `(B,)`: a named tuple, the batch first."""


@runtime_checkable
class Decoder(Protocol):
    """What `Seq2Seq` asks of a decoder. `BahdanauDecoder` and `LuongDecoder` are two.

    `encoded` is what the encoder returns. It and the state are named tuples of tensors whose first
    axis is the batch, so that a search can pick rows of them.
    """

    hidden_dim: int
    """Units of a state: the encoder's as well."""

    embed: nn.Embedding
    """Of the target symbols: `embed.num_embeddings` is the size of the vocabulary."""

    def __call__(self, encoded: Any, previous: Tensor) -> Decoded:
        """Teacher forcing: all steps, given the symbols `(B, T)` before each."""

    def start(self, encoded: Any) -> Any:
        """The state before the first step."""

    def step(self, symbol: Tensor, state: Any, encoded: Any) -> Step:
        """One step, given the symbols `(B,)` before it: what `__call__` does `T` times."""


class Seq2Seq(nn.Module):
    """An encoder and a decoder, trained on pairs and then decoding on its own.

    Args:
        encoder: reads the source.
        decoder: writes the target, from what the encoder returns.
        start: the symbol before the first one, `y_0`.
        end: the symbol that ends a target.

    Raises:
        ValueError: start or end is not in the target's vocabulary, or the widths differ.

    Source:
        Bahdanau, Cho, Bengio 2015, figure 1.

    >>> from attnbook.bahdanau import rnn_search
    >>> model = rnn_search(source_symbols=10, target_symbols=7, hidden_dim=3)
    >>> source, lengths = torch.tensor([[5, 2, 0], [4, 4, 4]]), torch.tensor([2, 3])
    >>> model(source, lengths, torch.tensor([[3, 2], [5, 2]])).logits.shape
    torch.Size([2, 2, 7])
    >>> model.greedy(source, lengths, max_steps=4).weights[0, 0, 2].item()  # on padding
    0.0
    >>> model.beam(source, lengths, max_steps=4, width=3).log_prob.shape
    torch.Size([2])
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        *,
        start: int = 1,
        end: int = 2,
    ) -> None:
        super().__init__()
        for name, symbol in (("start", start), ("end", end)):
            if not 0 <= symbol < decoder.embed.num_embeddings:
                size = decoder.embed.num_embeddings
                raise ValueError(f"{name} must be in the target's 0..{size - 1}, got {symbol}")
        if encoder.hidden_dim != decoder.hidden_dim:
            raise ValueError(
                f"encoder has hidden_dim {encoder.hidden_dim} but decoder has hidden_dim "
                f"{decoder.hidden_dim}"
            )
        self.encoder = encoder
        self.decoder = decoder
        self.start = start
        self.end = end

    def forward(
        self, source: Int[Tensor, "B S"], lengths: Int[Tensor, " B"], target: Int[Tensor, "B T"]
    ) -> Decoded:
        """Teacher forcing: logits for every symbol of the target, given those before it.

        Args:
            source: `(B, S)` with padding at the end.
            lengths: `(B,)`, true lengths of the sources, at least 1.
            target: `(B, T)`, without the start symbol, with the end symbol.

        Returns:
            Logits `(B, T, symbols)`, weights `(B, T, S)` or `None`, and the target.

        Raises:
            TypeError: a tensor is not of integers.
            ValueError: shapes do not fit, or a symbol or a length is out of range.
        """
        check_symbols("target", target, self.decoder.embed.num_embeddings)
        encoded = self.encoder(source, lengths)  # says what is wrong with a source
        if len(target) != len(source):
            raise ValueError(f"source has {len(source)} sequences but target has {len(target)}")
        return self.decoder(encoded, self._previous(target))._replace(symbols=target)

    def _previous(self, target: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
        first = target.new_full((len(target), 1), self.start)
        return torch.cat([first, target[:, :-1]], dim=1)

    @torch.no_grad()
    def greedy(
        self, source: Int[Tensor, "B S"], lengths: Int[Tensor, " B"], max_steps: int
    ) -> Decoded:
        """Decode with the likeliest symbol at each step, until every sequence has ended.

        Args:
            source: `(B, S)` with padding at the end.
            lengths: `(B,)`, true lengths of the sources.
            max_steps: the most symbols to write, at least 1.

        Returns:
            Symbols `(B, T)` with `T <= max_steps`, filled up with the end symbol; their logits
            `(B, T, symbols)`; weights `(B, T, S)` or `None`.

        Raises:
            TypeError: a tensor is not of integers.
            ValueError: max_steps is below 1, or as in `forward`.
        """
        _check_search(max_steps)
        encoded = self.encoder(source, lengths)
        state = self.decoder.start(encoded)
        symbol = source.new_full((len(source),), self.start)
        ended = torch.zeros_like(symbol, dtype=torch.bool)
        all_logits, weights, symbols = [], [], []
        for _ in range(max_steps):
            logits, state, looked = self.decoder.step(symbol, state, encoded)
            symbol = logits.argmax(dim=-1).masked_fill(ended, self.end)
            ended = ended | (symbol == self.end)
            all_logits.append(logits)
            weights.append(looked)
            symbols.append(symbol)
            if bool(ended.all()):
                break
        return Decoded(torch.stack(all_logits, 1), stack(weights), torch.stack(symbols, 1))

    @torch.no_grad()
    def beam(
        self,
        source: Int[Tensor, "B S"],
        lengths: Int[Tensor, " B"],
        max_steps: int,
        *,
        width: int = 4,
        length_penalty: float = 0.0,
    ) -> Found:
        """Search for the sequence of the highest score, `log P / ((5 + length) / 6)^penalty`.

        At each step every open sequence is continued by every symbol. Of the `width` best
        continuations those that end are set aside; the `width` best that do not are the open ones
        of the next step. It goes on until no open sequence could still win, or for `max_steps`
        symbols; those open then count as they are. Among equals the first found wins.

        Args:
            source: `(B, S)` with padding at the end.
            lengths: `(B,)`, true lengths of the sources.
            max_steps: the most symbols to write, at least 1.
            width: open sequences of each source. 1, without a penalty, is `greedy`.
            length_penalty: 0 ranks by probability, and so favours the short; 1 is close to the mean
                over the symbols, of which the end symbol is one.

        Returns:
            Symbols `(B, T)` with `T <= max_steps`, their log-probability `(B,)`, and the weights
            `(B, T, S)` with which teacher forcing reads them, or `None`.

        Raises:
            TypeError: a tensor is not of integers.
            ValueError: a number is out of range, or as in `forward`.

        Source:
            Wu et al. 2016, equation 14, without the coverage penalty.
        """
        _check_search(max_steps, width, length_penalty)
        encoded = self.encoder(source, lengths)
        B, device = len(source), source.device
        owner = torch.arange(B, device=device).repeat_interleave(width)  # the source of each row
        spread, state = _pick(encoded, owner), _pick(self.decoder.start(encoded), owner)
        symbols = source.new_full((B, width, 1 + max_steps), self.end)
        symbols[..., 0] = self.start
        log_prob = torch.full((B, width), -math.inf, device=device)
        log_prob[:, 0] = 0.0  # the one open sequence before the first step
        best = best_score = torch.full((B,), -math.inf, device=device)
        best_symbols = symbols[:, 0]
        for t in range(1, max_steps + 1):
            # Continue each open sequence with each symbol: the best 2 width hold width open ones.
            logits, state, _ = self.decoder.step(symbols[..., t - 1].flatten(), state, spread)
            step = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
            every = log_prob.unsqueeze(-1) + step.view(B, width, -1)
            every = every.masked_fill(log_prob.isneginf().unsqueeze(-1), -math.inf).flatten(1)
            chosen = _best(every, min(2 * width, every.shape[1]))
            log_prob, parent = every.gather(1, chosen), chosen // step.shape[-1]
            symbols = _rows(symbols, parent)
            symbols[..., t] = chosen % step.shape[-1]
            ended = symbols[..., t] == self.end

            # Set aside the best that has ended, if it is better than the one before.
            score = log_prob / ((5 + t) / 6) ** length_penalty
            if t < max_steps:
                score = score.masked_fill(~ended, -math.inf)
            winner = score[:, :width].argmax(dim=1, keepdim=True)
            score = score.gather(1, winner).squeeze(1)
            better = score > best_score
            best_score = torch.where(better, score, best_score)
            best = torch.where(better, log_prob.gather(1, winner).squeeze(1), best)
            best_symbols = torch.where(better[:, None], _rows(symbols, winner)[:, 0], best_symbols)

            # Go on with the best that have not, while one of them could still win.
            going = ended.int().argsort(dim=1, stable=True)[:, :width]
            log_prob = log_prob.masked_fill(ended, -math.inf).gather(1, going)
            symbols = _rows(symbols, going)
            state = _pick(state, owner * width + parent.gather(1, going).flatten())
            hope = log_prob[:, 0] / ((5 + max_steps) / 6) ** length_penalty
            if bool((best_score >= hope).all()):
                break
        written = best_symbols[:, 1:]
        T = min(max_steps, 1 + int(((written == self.end).cumsum(1) == 0).sum(1).max()))
        weights = self.decoder(encoded, best_symbols[:, :T]).weights
        return Found(written[:, :T], best, weights)


def check_previous(previous: Tensor, sources: int, symbols: int) -> None:
    """Raise a clear error unless a decoder of so many symbols could take these, for the sources."""
    check_symbols("previous", previous, symbols)
    if len(previous) != sources:
        raise ValueError(f"encoded has {sources} sequences but previous has {len(previous)}")


def stack(steps: list[Tensor | None]) -> Tensor | None:
    """The weights of all steps, `(B, T, S)`, or `None` where there are none."""
    found = [step for step in steps if step is not None]
    return torch.stack(found, dim=1) if found else None


def _check_search(max_steps: int, width: int = 1, length_penalty: float = 0.0) -> None:
    for name, count in (("max_steps", max_steps), ("width", width)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    if not length_penalty >= 0:
        raise ValueError(f"length_penalty must not be negative, got {length_penalty}")


def _pick(parts: Any, rows: Int[Tensor, " R"]) -> Any:
    """A named tuple of tensors with these rows of each."""
    return type(parts)(*(part.index_select(0, rows) for part in parts))


def _rows(x: Int[Tensor, "B N T"], index: Int[Tensor, "B K"]) -> Int[Tensor, "B K T"]:
    """Rows `index` of the matrix of each source."""
    return x.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def _best(scores: Float[Tensor, "B N"], k: int) -> Int[Tensor, "B {k}"]:
    """Where the `k` largest of each row are, largest first; among equals the lowest place first."""
    least = scores.topk(k).values[:, -1:]  # topk itself leaves open which of its equals it takes
    above, level = scores > least, scores == least
    taken = above | (level & (level.cumsum(1) <= k - above.sum(1, keepdim=True)))
    places = taken.nonzero()[:, 1].view(-1, k)
    order = scores.gather(1, places).argsort(dim=1, descending=True, stable=True)
    return places.gather(1, order)
