"""An encoder and a decoder joined: teacher forcing, greedy decoding, beam search.

`Seq2Seq` does not know the mechanism inside: `attnbook.bahdanau` and `attnbook.luong` build one.
`B` sequences, `S` source and `T` target positions.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attnbook.recurrent import check_symbols

__all__ = ["Decoded", "Decoder", "Seq2Seq", "Step"]


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
class Decoder(Protocol):
    """What `Seq2Seq` asks of a decoder. `BahdanauDecoder` and `LuongDecoder` are two.

    `encoded` is what the encoder returns. It and the state are named tuples of tensors whose first
    axis is the batch, so that a search can pick rows of them.
    """

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
        encoder: reads the source: a module called with the source `(B, S)` and its lengths `(B,)`.
        decoder: writes the target, from what the encoder returns.
        start: the symbol before the first one, `y_0`.
        end: the symbol that ends a target.

    Source:
        Bahdanau, Cho, Bengio 2015, figure 1.

    >>> from attnbook.bahdanau import rnn_search
    >>> model = rnn_search(source_symbols=10, target_symbols=7, hidden_dim=3)
    >>> source, lengths = torch.tensor([[5, 2, 0], [4, 4, 4]]), torch.tensor([2, 3])
    >>> model(source, lengths, torch.tensor([[3, 2], [5, 2]])).logits.shape
    torch.Size([2, 2, 7])
    >>> model.greedy(source, lengths, max_steps=4).weights[0, 0, 2].item()  # on padding
    0.0
    """

    def __init__(
        self,
        encoder: Callable[[Tensor, Tensor], Any],
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
        if len(target) != len(source):
            raise ValueError(f"source has {len(source)} sequences but target has {len(target)}")
        decoded = self.decoder(self.encoder(source, lengths), self._previous(target))
        return decoded._replace(symbols=target)

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
        if max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, got {max_steps}")
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


def check_previous(previous: Tensor, sources: int, symbols: int) -> None:
    """Raise a clear error unless a decoder of so many symbols could take these, for the sources."""
    check_symbols("previous", previous, symbols)
    if len(previous) != sources:
        raise ValueError(f"encoded has {sources} sequences but previous has {len(previous)}")


def stack(steps: list[Tensor | None]) -> Tensor | None:
    """The weights of all steps, `(B, T, S)`, or `None` where there are none."""
    found = [step for step in steps if step is not None]
    return torch.stack(found, dim=1) if found else None
