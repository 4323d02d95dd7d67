"""Layers and models against their peers: what a user would otherwise take for the same work.

Each contest does one thing in several ways. What can be equal is checked to be equal before
anything is timed. A peer that is not installed is left out, and said to be missing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbook.core import attend
from attnbook.language_model import LanguageModel
from attnbook.layers import MultiHeadAttention, merge_heads, split_heads
from attnbook.masks import causal, padding
from attnbook.positions import Learned
from attnbook.transformer import Decoder, Encoder, EncoderLayer

__all__ = ["Contest", "decoding", "multi_head", "training"]

OURS, PYTORCH, PEER = "attnbook", "nn", "x-transformers"
Run = Callable[[], Any]


@dataclass(frozen=True)
class Contest:
    """One piece of work, done in several ways.

    Attributes:
        name: of the work.
        runs: by name; the first is ours.
        bars: how many times our time a peer must take at least; "best" is the fastest of them.
        scale: a run that does one part in so many of the work, as re-encoding does.
        rounds: how often each runs, in turn.
        missing: peers that are not installed.
    """

    name: str
    runs: dict[str, Run]
    bars: dict[str, float]
    scale: dict[str, float] = field(default_factory=dict)
    rounds: int = 15
    missing: tuple[str, ...] = ()


def multi_head(length: int, backward: bool, *, width: int = 512, heads: int = 8) -> Contest:
    """Self-attention of one layer, without biases, on one sequence.

    Raises:
        ArithmeticError: a peer with the same weights gives something else.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, length, width, generator=generator)
    ours = MultiHeadAttention(width, heads, bias=False)
    torch_layer, fused = ours.to_torch(), _Fused(ours)  # its path for evaluation is slower
    layers: dict[str, Callable[[Tensor], Tensor]] = {
        OURS: lambda x: ours(x).output,
        f"{PYTORCH}.MultiheadAttention": lambda x: torch_layer(x, x, x, need_weights=False)[0],
        "raw SDPA, packed": fused,
    }
    if find_spec("x_transformers"):
        layers[PEER] = _their_attention(ours)
    exact = MultiHeadAttention(width, heads, bias=False, attend=attend).double()
    exact.load_state_dict(ours.state_dict())
    _check(layers, x, exact(x.double()).output.detach())
    run = _forward_and_backward if backward else _forward
    return Contest(
        f"multi-head attention, L = {length}, {'forward + backward' if backward else 'forward'}",
        {name: partial(run, layer, x) for name, layer in layers.items()},
        {"best": 0.97},
        rounds=21,
        missing=_missing(),
    )


def training(
    length: int = 32, *, width: int = 128, heads: int = 4, layers: int = 2, batch: int = 64
) -> Contest:
    """A step of Adam on an encoder and a decoder, pre-norm, with padding, without dropout.

    Dropout would add the same random numbers to each. `x-transformers` has norms and attention
    without biases; it is of the same size to 1 %, and not the same function.

    Raises:
        ArithmeticError: PyTorch's Transformer with the same weights gives something else.
    """
    torch.manual_seed(0)
    sizes: Any = (width, heads, 4 * width, 0.0)
    layer = nn.TransformerEncoderLayer(*sizes, batch_first=True, norm_first=True)
    theirs = nn.Transformer(
        width,
        heads,
        num_decoder_layers=layers,
        dim_feedforward=4 * width,
        dropout=0.0,
        custom_encoder=nn.TransformerEncoder(
            layer, layers, nn.LayerNorm(width), enable_nested_tensor=False
        ),
        batch_first=True,
        norm_first=True,
    )
    stacks = nn.ModuleList([Encoder.from_torch(theirs.encoder), Decoder.from_torch(theirs.decoder)])
    x, y = torch.randn(2, batch, length, width).unbind()
    lengths = torch.randint(length // 2, length, (batch,))
    there, past = padding(lengths, length), causal(length, length)

    def ours() -> Tensor:
        memory = stacks[0](x, mask=there)
        return stacks[1](y, memory, mask=past, memory_mask=there)

    def pytorch() -> Tensor:
        gone = ~there[:, 0]
        return theirs(
            x,
            y,
            tgt_mask=~past,
            src_key_padding_mask=gone,
            memory_key_padding_mask=gone,
            tgt_is_causal=True,
        )

    wanted, got = pytorch(), ours()
    if not torch.allclose(got, wanted, atol=1e-5):
        raise ArithmeticError(f"nn.Transformer differs by {(got - wanted).abs().max():.1e}")
    models: dict[str, tuple[nn.Module, Callable[[], Tensor]]] = {
        OURS: (stacks, ours),
        f"{PYTORCH}.Transformer": (theirs, pytorch),
    }
    if find_spec("x_transformers"):
        models[PEER] = _their_stacks(width, heads, layers, lambda f: f(x, y, there[:, 0]))
    return Contest(
        f"training {layers} + {layers} layers, width {width}, {batch} x {length} positions",
        {name: _step(model, call) for name, (model, call) in models.items()},
        {f"{PYTORCH}.Transformer": 1.05},
        rounds=25,
        missing=_missing(),
    )


def decoding(
    length: int = 1024, *, batch: int = 8, width: int = 128, heads: int = 4, layers: int = 4
) -> Contest:
    """The likeliest symbols, one after another, from one symbol on.

    Re-encoding reads everything again for each symbol. It is timed in the middle of each eighth of
    the way, which stands for the symbols of that eighth.

    Raises:
        ArithmeticError: with its cache the model writes something else than without.
    """
    torch.manual_seed(0)
    symbols, parts = 256, 8
    model = LanguageModel(
        symbols,
        width,
        Encoder(
            [EncoderLayer(width, heads, 4 * width, norm_first=True) for _ in range(layers)],
            nn.LayerNorm(width),
        ),
        positions=Learned(length, width),
    ).eval()
    prompt = torch.randint(symbols, (batch, 1))
    written = model.generate(prompt, length)[:, :length]
    middles = [max(1, (2 * i + 1) * length // (2 * parts)) for i in range(parts)]

    @torch.no_grad()
    def again() -> list[Tensor]:
        return [model(written[:, :n])[:, -1].argmax(-1) for n in middles]

    for n, symbol in zip(middles, again(), strict=True):
        if n < length and not torch.equal(symbol, written[:, n]):
            raise ArithmeticError(f"with a cache, symbol {n} is another")
    runs: dict[str, Run] = {
        OURS: lambda: model.generate(prompt, length),
        "re-encoding": again,
    }
    if find_spec("x_transformers"):
        runs[PEER] = _their_decoding(prompt, length, symbols, width, heads, layers)
    return Contest(
        f"decoding {length} symbols, {batch} at a time, {layers} layers of width {width}",
        runs,
        {"re-encoding": 40.0, PEER: 2.5} if batch > 1 else {},
        scale={"re-encoding": length / parts},
        rounds=3,
        missing=_missing(),
    )


def contests() -> Iterator[Contest]:
    """All of them, at their sizes."""
    for length in (256, 512, 1024):
        for backward in (False, True):
            yield multi_head(length, backward)
    yield training()
    yield decoding(batch=8)
    yield decoding(batch=1)


class _Fused(nn.Module):
    """The least code that does the same: one product for query, key and value."""

    def __init__(self, layer: MultiHeadAttention) -> None:
        super().__init__()
        self.heads = layer.num_heads
        parts = [layer.query.weight, layer.key.weight, layer.value.weight]
        self.packed = nn.Parameter(torch.cat(parts).detach())
        self.out = nn.Parameter(layer.output.weight.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            split_heads(part, self.heads) for part in F.linear(x, self.packed).chunk(3, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        return F.linear(merge_heads(mixed), self.out)


def _their_attention(layer: MultiHeadAttention) -> nn.Module:
    from x_transformers.x_transformers import Attention

    width, heads = layer.embed_dim, layer.num_heads
    theirs = Attention(width, heads=heads, dim_head=width // heads, flash=True)
    names = {"to_q": layer.query, "to_k": layer.key, "to_v": layer.value, "to_out": layer.output}
    with torch.no_grad():
        for name, projection in names.items():
            getattr(theirs, name).weight.copy_(projection.weight)
    return theirs


def _their_stacks(
    width: int, heads: int, layers: int, call: Callable[[nn.Module], Tensor]
) -> tuple[nn.Module, Callable[[], Tensor]]:
    from x_transformers.x_transformers import Decoder, Encoder

    options = {"dim": width, "depth": layers, "heads": heads, "attn_dim_head": width // heads}

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = Encoder(**options, attn_flash=True)
            self.decoder = Decoder(**options, attn_flash=True, cross_attend=True)

        def forward(self, x: Tensor, y: Tensor, there: Tensor) -> Tensor:
            return self.decoder(y, context=self.encoder(x, mask=there), context_mask=there)

    model = Both()
    return model, lambda: call(model)


def _their_decoding(
    prompt: Tensor, length: int, symbols: int, width: int, heads: int, layers: int
) -> Run:
    from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper

    stack = Decoder(
        dim=width, depth=layers, heads=heads, attn_dim_head=width // heads, attn_flash=True
    )
    model = TransformerWrapper(num_tokens=symbols, max_seq_len=length + 1, attn_layers=stack)
    decoder = AutoregressiveWrapper(model).eval()
    return lambda: decoder.generate(prompt, length, temperature=0.0, cache_kv=True)


def _missing() -> tuple[str, ...]:
    return () if find_spec("x_transformers") else (PEER,)


@torch.no_grad()
def _check(layers: dict[str, Callable[[Tensor], Tensor]], x: Tensor, exact: Tensor) -> None:
    """The error of each, in float32, is no more than eight roundings of the largest number."""
    budget = 8 * torch.finfo(x.dtype).eps * float(exact.abs().max())
    for name, layer in layers.items():
        error = float((layer(x) - exact).abs().max())
        if not error <= budget:
            raise ArithmeticError(f"{name} is off by {error:.1e}, more than {budget:.1e}")


@torch.no_grad()
def _forward(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return layer(x)


def _forward_and_backward(layer: Callable[[Tensor], Tensor], x: Tensor) -> None:
    output = layer(x.detach().requires_grad_())
    output.backward(torch.ones_like(output))


def _step(model: nn.Module, call: Callable[[], Tensor]) -> Run:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        call().square().mean().backward()
        optimizer.step()

    return step
