"""Transformers of one stack: the next symbol (GPT), or the symbols behind a mask (BERT).

Both are a stack of `attnbook.transformer.EncoderLayer`. A causal mask makes it a language model;
without one each position sees both sides. `B` sequences of `T` positions, `V` symbols.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attnbook.layers import check_dropout, check_sizes
from attnbook.masks import causal
from attnbook.normalizers import softmax
from attnbook.recurrent import check_symbols
from attnbook.transformer import Caches, Encoder, kept, new_embedding

__all__ = ["LanguageModel", "MaskedModel"]


class _OneStack(nn.Module):
    """What both models are: symbols, embedded and placed, through a stack, to logits."""

    _bias = False

    def __init__(
        self,
        symbols: int,
        embed_dim: int,
        stack: Encoder,
        *,
        positions: nn.Module | None = None,
        tied: bool = True,
        scale: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not isinstance(stack, Encoder):
            raise TypeError(f"stack must be an Encoder, got {type(stack).__name__}")
        check_dropout(dropout)
        self.embed, self.positions = new_embedding(symbols, embed_dim), positions
        self.stack, self.scale, self.dropout = stack, scale, dropout
        self.output = nn.Linear(embed_dim, symbols, bias=self._bias)
        if tied:
            self.output.weight = self.embed.weight

    def _logits(
        self,
        symbols: Tensor,
        mask: Tensor | None,
        caches: Caches | None = None,
        offset: int = 0,
    ) -> Tensor:
        x = self.scale * self.embed(symbols)
        x = x if self.positions is None else self.positions(x, offset)
        x = torch.dropout(x, self.dropout, self.training)
        return self.output(self.stack(x, mask=mask, caches=caches))


class LanguageModel(_OneStack):
    """A decoder-only Transformer: the probability of each symbol, given those before it.

    Args:
        symbols: `V`, size of the vocabulary.
        embed_dim: `E`.
        stack: the layers; `norm` at its end where they are pre-norm, as in GPT-2.
        positions: adds a position to each embedding; None where the layers' path has them, or
            where there are to be none.
        tied: whether the logits are dot products with the embeddings; if not, a linear map.
        scale: multiplies the embeddings, which have variance `1 / E` at first: 1 in GPT-2 and BERT,
            `sqrt(E)` beside `Sinusoidal` positions, as in the first Transformer.
        dropout: of the sums of embeddings and positions.

    Source:
        Radford et al. 2018, section 3.1; Radford et al. 2019, section 2.3.

    >>> from attnbook.positions import Learned
    >>> from attnbook.transformer import EncoderLayer
    >>> layers = [EncoderLayer(8, 2, 32, norm_first=True) for _ in range(2)]
    >>> stack = Encoder(layers, nn.LayerNorm(8))
    >>> model = LanguageModel(50, 8, stack, positions=Learned(16, 8)).eval()
    >>> model(torch.tensor([[3, 1, 4]])).shape
    torch.Size([1, 3, 50])
    >>> model.generate(torch.tensor([[3, 1, 4]]), max_steps=5).shape
    torch.Size([1, 8])
    """

    def forward(
        self, symbols: Int[Tensor, "B T"], caches: Caches | None = None
    ) -> Float[Tensor, "B T V"]:
        """Logits of the symbol after each position.

        Args:
            symbols: `(B, T)`.
            caches: of the positions before these, one for each layer; these are appended.

        Returns:
            `(B, T, V)`; position `t` has seen symbols up to and with `t`.

        Raises:
            TypeError: symbols are not integers.
            ValueError: a symbol is out of range.
        """
        check_symbols("symbols", symbols, self.embed.num_embeddings)
        return self._next(symbols, caches)

    def _next(self, symbols: Tensor, caches: Caches | None) -> Tensor:
        T, seen = symbols.shape[1], caches.length if caches else 0
        mask = causal(T, seen + T, offset=seen, device=symbols.device) if T > 1 else None
        return self._logits(symbols, mask, caches, seen)

    def generate(
        self,
        prompt: Int[Tensor, "B P"],
        max_steps: int,
        *,
        temperature: float = 0.0,
        end: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, "B T"]:
        """Continue the prompt, one symbol after another, reading each position once.

        Args:
            prompt: `(B, P)`, at least one symbol.
            max_steps: symbols to add, at most; at least 1.
            temperature: 0 takes the likeliest symbol; else symbols are drawn from
                `softmax(logits / temperature)`.
            end: a symbol that ends a sequence; the rest of it is filled up with this symbol.
            generator: of the draws.

        Returns:
            `(B, P + steps)`, the prompt and what follows it. Attention maps recorded meanwhile are
            inference tensors: clone them before any gradient is taken of them.

        Raises:
            TypeError: the prompt is not of integers.
            ValueError: a number or a symbol is out of range.

        Source:
            Radford et al. 2019, section 2; decoding with a cache is equal to reading everything
            again at each step.
        """
        size = self.embed.num_embeddings
        check_symbols("prompt", prompt, size)
        check_sizes(max_steps=max_steps)
        if not 0 <= temperature < math.inf:
            raise ValueError(f"temperature must be at least 0 and finite, got {temperature}")
        if end is not None and not 0 <= end < size:
            raise ValueError(f"end must be a symbol 0..{size - 1}, got {end}")
        with torch.inference_mode():  # an eighth faster than no_grad, one symbol at a time
            written = self._generated(prompt, max_steps, temperature, end, generator)
        return written.clone()  # of an inference tensor no gradient could be taken later

    def _generated(
        self,
        prompt: Tensor,
        max_steps: int,
        temperature: float,
        end: int | None,
        generator: torch.Generator | None,
    ) -> Tensor:
        caches = Caches.empty(len(self.stack.layers))
        written, new = [prompt], prompt
        ended = torch.zeros(len(prompt), 1, dtype=torch.bool, device=prompt.device)
        for _ in range(max_steps):
            logits = self._next(new, caches)[:, -1]
            if temperature:
                chances = softmax(logits, temperature)
                new = torch.multinomial(chances, 1, generator=generator)
            else:
                new = logits.argmax(-1, keepdim=True)
            if end is not None:
                new = new.masked_fill(ended, end)
                ended = ended | (new == end)
            written.append(new)
            if end is not None and bool(ended.all()):
                break
        return torch.cat(written, dim=1)


class MaskedModel(_OneStack):
    """An encoder-only Transformer: the symbol at each position, given both sides.

    It does not know which symbols are masks: put the mask's symbol where a symbol is to be guessed.

    Args: as `LanguageModel`.

    Source:
        Devlin et al. 2019, sections 3 and 3.1, task 1. BERT adds segment embeddings and a layer
        before the logits: `attnbook.pretrained`.

    >>> from attnbook.positions import Learned
    >>> from attnbook.transformer import EncoderLayer
    >>> stack = Encoder([EncoderLayer(8, 2, 32) for _ in range(2)])
    >>> model = MaskedModel(50, 8, stack, positions=Learned(16, 8)).eval()
    >>> model(torch.tensor([[3, 1, 4], [1, 5, 0]]), torch.tensor([3, 2])).shape
    torch.Size([2, 3, 50])
    """

    _bias = True

    def forward(
        self, symbols: Int[Tensor, "B T"], lengths: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B T V"]:
        """Logits of the symbol at each position.

        Args:
            symbols: `(B, T)`, with padding at the end.
            lengths: `(B,)`, true lengths; None: no padding.

        Returns:
            `(B, T, V)`.

        Raises:
            TypeError: symbols or lengths are not integers.
            ValueError: a symbol or a length is out of range.
        """
        check_symbols("symbols", symbols, self.embed.num_embeddings)
        return self._logits(symbols, kept(symbols, lengths))
