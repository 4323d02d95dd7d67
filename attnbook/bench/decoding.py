"""Decoding: the likeliest symbols, one after another, with a cache and without."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from attnbook.bench.cases import Case, Run, Way
from attnbook.bench.models import PEER
from attnbook.language_model import LanguageModel
from attnbook.positions import Learned
from attnbook.transformer import Encoder, EncoderLayer

__all__ = ["decoding", "writing"]

SYMBOLS = 256
PARTS = 8
"""Reading all again is timed in the middle of so many parts of the way, and stands for the part."""


class Model(NamedTuple):
    """A language model and a prompt `(B, 1)`."""

    model: LanguageModel
    prompt: Tensor


def decoding(
    length: int = 1024, *, batch: int = 8, width: int = 128, heads: int = 4, layers: int = 4
) -> Case:
    """So many symbols from one on; the bars are for several texts at a time."""

    def setup(device: str) -> Model:
        torch.manual_seed(0)
        stack = [EncoderLayer(width, heads, 4 * width, norm_first=True) for _ in range(layers)]
        encoder = Encoder(stack, nn.LayerNorm(width))
        model = LanguageModel(SYMBOLS, width, encoder, positions=Learned(length, width))
        prompt = torch.randint(SYMBOLS, (batch, 1))
        return Model(model.eval().to(device), prompt.to(device))

    def again(s: Model) -> Run:
        """Raises ArithmeticError where the cache writes something else."""
        written = s.model.generate(s.prompt, length)[:, :length]
        middles = [max(1, (2 * i + 1) * length // (2 * PARTS)) for i in range(PARTS)]

        @torch.no_grad()
        def read() -> list[Tensor]:
            return [s.model(written[:, :n])[:, -1].argmax(-1) for n in middles]

        for n, symbol in zip(middles, read(), strict=True):
            if n < length and not torch.equal(symbol, written[:, n]):
                raise ArithmeticError(f"with a cache, symbol {n} is another")
        return read

    def peer(s: Model) -> Run:
        from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper

        stack = Decoder(
            dim=width, depth=layers, heads=heads, attn_dim_head=width // heads, attn_flash=True
        )
        model = TransformerWrapper(num_tokens=SYMBOLS, max_seq_len=length + 1, attn_layers=stack)
        decoder = AutoregressiveWrapper(model).eval().to(s.prompt.device)
        return lambda: decoder.generate(s.prompt, length, temperature=0.0, cache_kv=True)

    many = batch > 1
    return Case(
        "decoding",
        {"B": batch, "L": length, "E": width, "H": heads, "layers": layers},
        {
            "LanguageModel.generate": Way(
                lambda s: lambda: s.model.generate(s.prompt, length),
                ("attnbook.language_model.LanguageModel",),
                bar=40.0 if many else None,
                peer_bar=2.5 if many else None,
            ),
            "reading all again": Way(
                again, ("attnbook.language_model.LanguageModel",), scale=length / PARTS
            ),
            PEER: Way(peer, package=PEER),
        },
        "reading all again",
        setup,
        "decode",
        peak=False,
    )


def writing() -> Iterator[Case]:
    """All of them, at their sizes."""
    yield decoding(batch=8)
    yield decoding(batch=1)
