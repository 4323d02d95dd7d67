"""Layers and models: each against what a user would otherwise take for the same work."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbook.bench.cases import Case, Run, Way
from attnbook.core import attend
from attnbook.layers import MultiHeadAttention, merge_heads, split_heads
from attnbook.masks import causal, padding
from attnbook.transformer import Decoder, Encoder

__all__ = ["models", "multi_head", "training"]

PEER = "x-transformers"
LAYERS = ("attnbook.layers.MultiHeadAttention",)


class Layer(NamedTuple):
    """A layer and its input `(1, L, E)`."""

    ours: MultiHeadAttention
    x: Tensor


def multi_head(length: int, passes: str, *, width: int = 512, heads: int = 8) -> Case:
    """Self-attention of one layer, without biases, on one sequence; each has the same weights."""

    def setup(device: str) -> Layer:
        torch.manual_seed(0)
        x = torch.randn(1, length, width)
        return Layer(MultiHeadAttention(width, heads, bias=False).to(device), x.to(device))

    def exactly(s: Layer) -> tuple[Tensor, ...]:
        readable = MultiHeadAttention(width, heads, bias=False, attend=attend).to(s.x.device)
        readable.double().load_state_dict(s.ours.state_dict())
        return _both(lambda x: readable(x).output, s.x.double(), passes)

    def way(make: Callable[[MultiHeadAttention], Callable[[Tensor], Tensor]]) -> Any:
        def made(s: Layer) -> Run:
            layer = make(s.ours)
            return lambda: _both(layer, s.x, passes)

        return made

    products = 8.0 * length * width**2 + 4.0 * length**2 * width
    return Case(
        "multi-head layer",
        {"B": 1, "H": heads, "L": length, "D": width // heads, "E": width},
        {
            "MultiHeadAttention": Way(
                way(lambda ours: lambda x: ours(x).output), LAYERS, peer_bar=0.97
            ),
            "nn.MultiheadAttention": Way(way(_pytorch), package="torch"),
            "nn.MultiheadAttention, weights": Way(way(_with_weights), package="torch"),
            "PyTorch SDPA, packed": Way(way(_Packed), package="torch"),
            PEER: Way(way(_their_attention), package=PEER),
        },
        "nn.MultiheadAttention",
        setup,
        passes,
        exact=exactly,
        work={"matmul": products * (1 if passes == "forward" else 3)},
    )


def _both(layer: Callable[[Tensor], Tensor], x: Tensor, passes: str) -> tuple[Tensor, ...]:
    """The output, and with backward the gradient of the input."""
    if passes == "forward":
        with torch.no_grad():
            return (layer(x),)
    x = x.detach().requires_grad_()
    output = layer(x)
    output.backward(torch.ones_like(output))
    assert x.grad is not None
    return output.detach(), x.grad


def _pytorch(ours: MultiHeadAttention) -> Callable[[Tensor], Tensor]:
    layer = ours.to_torch()  # in training: its path for evaluation is slower
    return lambda x: layer(x, x, x, need_weights=False)[0]


def _with_weights(ours: MultiHeadAttention) -> Callable[[Tensor], Tensor]:
    """As it is without options: it returns the weights, their mean over the heads."""
    layer = ours.to_torch()
    return lambda x: layer(x, x, x)[0]


class _Packed(nn.Module):
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
    theirs = theirs.to(layer.query.weight.device)
    names = {"to_q": layer.query, "to_k": layer.key, "to_v": layer.value, "to_out": layer.output}
    with torch.no_grad():
        for name, projection in names.items():
            getattr(theirs, name).weight.copy_(projection.weight)
    return theirs


class Stacks(NamedTuple):
    """Two models of the same weights, their inputs `(B, L, E)`, and which positions are there."""

    ours: nn.ModuleList
    theirs: nn.Transformer
    x: Tensor
    y: Tensor
    there: Tensor
    past: Tensor

    def run(self) -> Tensor:
        """Ours."""
        memory = self.ours[0](self.x, mask=self.there)
        return self.ours[1](self.y, memory, mask=self.past, memory_mask=self.there)

    def run_theirs(self) -> Tensor:
        """PyTorch's."""
        gone = ~self.there[:, 0]
        return self.theirs(
            self.x,
            self.y,
            tgt_mask=~self.past,
            src_key_padding_mask=gone,
            memory_key_padding_mask=gone,
            tgt_is_causal=True,
        )


def training(
    length: int = 32, *, width: int = 128, heads: int = 4, layers: int = 2, batch: int = 64
) -> Case:
    """A step of Adam on an encoder and a decoder, pre-norm, with padding, without dropout.

    Dropout would add the same random numbers to each. `x-transformers` has norms and attention
    without biases; it is of the same size to 1 %, and not the same function.
    """

    def setup(device: str) -> Stacks:
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
        ).to(device)
        ours = [Encoder.from_torch(theirs.encoder), Decoder.from_torch(theirs.decoder)]
        x, y = torch.randn(2, batch, length, width).to(device).unbind()
        there = padding(torch.randint(length // 2, length, (batch,)).to(device), length)
        past = causal(length, length, device=device)
        stacks = Stacks(nn.ModuleList(ours).to(device), theirs, x, y, there, past)
        wanted, got = stacks.run_theirs(), stacks.run()
        if not torch.allclose(got, wanted, atol=1e-5):
            raise ArithmeticError(f"nn.Transformer differs by {(got - wanted).abs().max():.1e}")
        return stacks

    def peer(s: Stacks) -> Run:
        model = _their_stacks(width, heads, layers).to(s.x.device)
        return _step(model, lambda: model(s.x, s.y, s.there[:, 0]))

    return Case(
        "training",
        {"B": batch, "L": length, "E": width, "H": heads, "layers": 2 * layers},
        {
            "Encoder, Decoder": Way(
                lambda s: _step(s.ours, s.run),
                ("attnbook.transformer.Encoder", "attnbook.transformer.Decoder"),
                bar=1.05,
            ),
            "nn.Transformer": Way(lambda s: _step(s.theirs, s.run_theirs), package="torch"),
            PEER: Way(peer, package=PEER),
        },
        "nn.Transformer",
        setup,
        "step",
    )


def _their_stacks(width: int, heads: int, layers: int) -> nn.Module:
    from x_transformers import x_transformers

    options = {"dim": width, "depth": layers, "heads": heads, "attn_dim_head": width // heads}

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = x_transformers.Encoder(**options, attn_flash=True)
            self.decoder = x_transformers.Decoder(**options, attn_flash=True, cross_attend=True)

        def forward(self, x: Tensor, y: Tensor, there: Tensor) -> Tensor:
            return self.decoder(y, context=self.encoder(x, mask=there), context_mask=there)

    return Both()


def _step(model: nn.Module, call: Callable[[], Tensor]) -> Run:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        call().square().mean().backward()
        optimizer.step()

    return step


def models(device: str) -> Iterator[Case]:
    """All of them, at their sizes."""
    for length in (256, 512, 1024) if device == "cpu" else (1024, 4096):
        for passes in ("forward", "forward + backward"):
            yield multi_head(length, passes)
    yield training()
