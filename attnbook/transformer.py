"""The Transformer: attention and a feed-forward network, each with residual and norm, in a stack.

Layers are stacked by `Encoder` and `Decoder`; `transformer` joins the two with embeddings and
positions into a `Seq2Seq`, which trains, decodes greedily and searches. A stack of encoder layers
under a causal mask is a decoder-only model: `attnbook.language_model`.
`B` sequences, `S` source and `T` target positions, `E` the width of the model.
"""

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attnbook.fused import sdpa
from attnbook.layers import Attend, KVCache, MultiHeadAttention, check_dropout, check_sizes
from attnbook.masks import causal, padding
from attnbook.positions import Sinusoidal
from attnbook.recurrent import check_lengths, check_symbols
from attnbook.seq2seq import Decoded, Seq2Seq, Step, check_previous

__all__ = [
    "AddNorm",
    "Caches",
    "Decoder",
    "DecoderLayer",
    "Encoder",
    "EncoderLayer",
    "FeedForward",
    "Memory",
    "SourceEncoder",
    "TargetDecoder",
    "TransformerState",
    "transformer",
    "warmup_rate",
]

Activation = Callable[[Tensor], Tensor]


class FeedForward(nn.Module):
    """Two linear maps with a non-linearity between them, at each position on its own.

    Args:
        embed_dim: `E`.
        hidden_dim: width between them; the paper has `4 E`.
        activation: the non-linearity.
        dropout: probability with which a hidden unit is dropped in training.
        bias: whether the maps have one.

    Raises:
        TypeError: activation is not callable, or a width is not an integer.
        ValueError: a width is below 1, or dropout is not in [0, 1).

    Source:
        Vaswani et al. 2017, equation 2.

    >>> FeedForward(4, 16)(torch.rand(2, 3, 4)).shape
    torch.Size([2, 3, 4])
    """

    def __init__(
        self,
        embed_dim: int,
        hidden_dim: int,
        *,
        activation: Activation = F.relu,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_sizes(embed_dim=embed_dim, hidden_dim=hidden_dim)
        check_dropout(dropout)
        if not callable(activation):
            raise TypeError(f"activation must be callable, got {type(activation).__name__}")
        self.up = nn.Linear(embed_dim, hidden_dim, bias)
        self.down = nn.Linear(hidden_dim, embed_dim, bias)
        self.activation, self.dropout = activation, dropout

    def forward(self, x: Float[Tensor, "*b E"]) -> Float[Tensor, "*b E"]:
        """The same network for every position."""
        hidden = self.activation(self.up(x))
        return self.down(torch.dropout(hidden, self.dropout, self.training))


class AddNorm(nn.Module):
    """A residual connection round a sublayer, with layer normalisation after it or before it.

    Args:
        embed_dim: `E`.
        norm_first: False is the paper's `norm(x + sublayer(x))`, post-norm; True is pre-norm,
            `x + sublayer(norm(x))`.
        dropout: probability with which an entry of the sublayer's output is dropped in training.
        eps: added to the variance.
        bias: whether the norm has one.

    Raises:
        TypeError: embed_dim is not an integer.
        ValueError: embed_dim is below 1, or dropout is not in [0, 1).

    Source:
        Vaswani et al. 2017, sections 3.1 and 5.4; Xiong et al. 2020 for pre-norm.

    >>> add = AddNorm(4)
    >>> add(torch.rand(2, 4), nn.Identity()).mean(-1).abs().max().item() < 1e-6
    True
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        norm_first: bool = False,
        dropout: float = 0.0,
        eps: float = 1e-5,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_sizes(embed_dim=embed_dim)
        check_dropout(dropout)
        self.norm = nn.LayerNorm(embed_dim, eps=eps, bias=bias)
        self.norm_first, self.dropout = norm_first, dropout

    def forward(self, x: Float[Tensor, "*b E"], sublayer: Activation) -> Float[Tensor, "*b E"]:
        """`x` with what the sublayer adds to it."""
        if self.norm_first:
            return x + torch.dropout(sublayer(self.norm(x)), self.dropout, self.training)
        return self.norm(x + torch.dropout(sublayer(x), self.dropout, self.training))


class EncoderLayer(nn.Module):
    """Self-attention, then a feed-forward network.

    Args:
        embed_dim: `E`.
        num_heads: `H`.
        hidden_dim: width inside the feed-forward network.
        norm_first: pre-norm; False is post-norm, as in the paper.
        activation: of the feed-forward network.
        dropout: of attention weights, hidden units and sublayers' outputs.
        eps: of the norms.
        bias: whether projections and norms have one.
        attend: the path of attention.
        attention: any other argument of `MultiHeadAttention`.

    Source:
        Vaswani et al. 2017, section 3.1 and figure 1, left.

    >>> layer = EncoderLayer(embed_dim=8, num_heads=2, hidden_dim=32)
    >>> layer(torch.rand(3, 5, 8)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        hidden_dim: int,
        *,
        norm_first: bool = False,
        activation: Activation = F.relu,
        dropout: float = 0.0,
        eps: float = 1e-5,
        bias: bool = True,
        attend: Attend = sdpa,
        **attention: Any,
    ) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(
            embed_dim, num_heads, dropout=dropout, bias=bias, attend=attend, **attention
        )
        self.feed_forward = FeedForward(
            embed_dim, hidden_dim, activation=activation, dropout=dropout, bias=bias
        )
        self.add_attention, self.add_feed_forward = (
            AddNorm(embed_dim, norm_first=norm_first, dropout=dropout, eps=eps, bias=bias)
            for _ in range(2)
        )

    def forward(
        self,
        x: Float[Tensor, "B L E"],
        *,
        mask: Bool[Tensor, "..."] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "B L E"]:
        """One layer further.

        Args:
            x: `(B, L, E)`.
            mask: True = may attend, as `MultiHeadAttention` takes it.
            cache: of earlier positions; the new ones are appended.
        """
        x = self.add_attention(x, lambda y: self.attention(y, mask=mask, cache=cache).output)
        return self.add_feed_forward(x, self.feed_forward)

    @classmethod
    def from_torch(
        cls, layer: nn.TransformerEncoderLayer, *, attend: Attend = sdpa
    ) -> "EncoderLayer":
        """The same layer with copies of the weights of PyTorch's."""
        _check_kind("layer", layer, nn.TransformerEncoderLayer)
        made = _like(cls, layer, attend)
        made.attention = MultiHeadAttention.from_torch(layer.self_attn, attend=attend)
        _copy_feed_forward(layer, made.feed_forward)
        made.add_attention.norm.load_state_dict(layer.norm1.state_dict())
        made.add_feed_forward.norm.load_state_dict(layer.norm2.state_dict())
        return made


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention to the encoder's states, then a feed-forward network.

    Arguments are those of `EncoderLayer`; `attend` and `attention` are for both attentions, unless
    `cross_attend` gives the path of cross-attention, with neither a score nor a normaliser. Where
    self-attention has positions, in its path or in a score such as `ALiBi`, give it: they take the
    last query to stand at the last key, and source and target are two sequences. Without it,
    writing step by step differs from training.

    Source:
        Vaswani et al. 2017, section 3.1 and figure 1, right.

    >>> layer = DecoderLayer(embed_dim=8, num_heads=2, hidden_dim=32)
    >>> layer(torch.rand(3, 5, 8), torch.rand(3, 7, 8), mask=causal(5, 5)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        hidden_dim: int,
        *,
        norm_first: bool = False,
        activation: Activation = F.relu,
        dropout: float = 0.0,
        eps: float = 1e-5,
        bias: bool = True,
        attend: Attend = sdpa,
        cross_attend: Attend | None = None,
        **attention: Any,
    ) -> None:
        super().__init__()
        across = {"attend": attend, **attention}
        if cross_attend is not None:
            across |= {"attend": cross_attend, "score": None, "normalize": None}
        self.attention, self.cross = (
            MultiHeadAttention(embed_dim, num_heads, dropout=dropout, bias=bias, **each)
            for each in ({"attend": attend, **attention}, across)
        )
        self.feed_forward = FeedForward(
            embed_dim, hidden_dim, activation=activation, dropout=dropout, bias=bias
        )
        self.add_attention, self.add_cross, self.add_feed_forward = (
            AddNorm(embed_dim, norm_first=norm_first, dropout=dropout, eps=eps, bias=bias)
            for _ in range(3)
        )

    def forward(
        self,
        x: Float[Tensor, "B T E"],
        memory: Float[Tensor, "B S E"] | KVCache,
        *,
        mask: Bool[Tensor, "..."] | None = None,
        memory_mask: Bool[Tensor, "..."] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "B T E"]:
        """One layer further.

        Args:
            x: `(B, T, E)`.
            memory: `(B, S, E)`, the encoder's states; or a cache of `cross.project` of them.
            mask: which target positions a target position may attend to.
            memory_mask: which source positions it may attend to.
            cache: of earlier target positions; the new ones are appended.

        Raises:
            TypeError: there is no memory, or it is not a tensor or a cache.
        """
        if not isinstance(memory, Tensor | KVCache):  # None would be self-attention once more
            got = type(memory).__name__
            raise TypeError(f"memory must be a floating-point tensor or a cache, got {got}")
        x = self.add_attention(x, lambda y: self.attention(y, mask=mask, cache=cache).output)
        x = self.add_cross(x, lambda y: self.cross(y, memory, mask=memory_mask).output)
        return self.add_feed_forward(x, self.feed_forward)

    @classmethod
    def from_torch(
        cls, layer: nn.TransformerDecoderLayer, *, attend: Attend = sdpa
    ) -> "DecoderLayer":
        """The same layer with copies of the weights of PyTorch's."""
        _check_kind("layer", layer, nn.TransformerDecoderLayer)
        made = _like(cls, layer, attend)
        made.attention = MultiHeadAttention.from_torch(layer.self_attn, attend=attend)
        made.cross = MultiHeadAttention.from_torch(layer.multihead_attn, attend=attend)
        _copy_feed_forward(layer, made.feed_forward)
        made.add_attention.norm.load_state_dict(layer.norm1.state_dict())
        made.add_cross.norm.load_state_dict(layer.norm2.state_dict())
        made.add_feed_forward.norm.load_state_dict(layer.norm3.state_dict())
        return made


class Caches(list[KVCache]):
    """One cache for each layer of a stack."""

    @classmethod
    def empty(cls, layers: int) -> "Caches":
        """So many, with nothing in them."""
        return cls(KVCache() for _ in range(layers))

    @property
    def length(self) -> int:
        """Positions held."""
        return self[0].length if self else 0

    def index_select(self, dim: int, index: Int[Tensor, " R"]) -> "Caches":
        """Caches of these sequences."""
        return Caches(cache.index_select(dim, index) for cache in self)


class Encoder(nn.Module):
    """A stack of encoder layers, with a norm at the end where the layers are pre-norm.

    Args:
        layers: each an `EncoderLayer`.
        norm: at the end; None, as in the paper, for post-norm layers.

    Raises:
        ValueError: there is no layer.

    Source:
        Vaswani et al. 2017, section 3.1.

    >>> stack = Encoder([EncoderLayer(8, 2, 32) for _ in range(6)])
    >>> stack(torch.rand(3, 5, 8)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(self, layers: Iterable[EncoderLayer], norm: nn.Module | None = None) -> None:
        super().__init__()
        self.layers, self.norm = _stack(layers), norm

    def forward(
        self,
        x: Float[Tensor, "B L E"],
        *,
        mask: Bool[Tensor, "..."] | None = None,
        caches: Caches | None = None,
    ) -> Float[Tensor, "B L E"]:
        """All layers; each gets the mask, and its own cache."""
        for layer, cache in zip(self.layers, _each(caches, len(self.layers)), strict=True):
            x = layer(x, mask=mask, cache=cache)
        return x if self.norm is None else self.norm(x)

    @classmethod
    def from_torch(cls, stack: nn.TransformerEncoder, *, attend: Attend = sdpa) -> "Encoder":
        """The same stack with copies of the weights of PyTorch's, the final norm included."""
        _check_kind("stack", stack, nn.TransformerEncoder)
        layers = [EncoderLayer.from_torch(layer, attend=attend) for layer in stack.layers]
        return cls(layers, copy.deepcopy(stack.norm)).train(stack.training)


class Decoder(nn.Module):
    """A stack of decoder layers, each of which reads the encoder's last states.

    Args: as `Encoder`.

    Source:
        Vaswani et al. 2017, section 3.1.

    >>> stack = Decoder([DecoderLayer(8, 2, 32) for _ in range(6)])
    >>> stack(torch.rand(3, 5, 8), torch.rand(3, 7, 8), mask=causal(5, 5)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(self, layers: Iterable[DecoderLayer], norm: nn.Module | None = None) -> None:
        super().__init__()
        self.layers, self.norm = _stack(layers), norm

    def forward(
        self,
        x: Float[Tensor, "B T E"],
        memory: Float[Tensor, "B S E"] | Caches,
        *,
        mask: Bool[Tensor, "..."] | None = None,
        memory_mask: Bool[Tensor, "..."] | None = None,
        caches: Caches | None = None,
    ) -> Float[Tensor, "B T E"]:
        """All layers; each gets both masks, the memory, and its own cache."""
        depth = len(self.layers)
        memories = _each(memory, depth) if isinstance(memory, Caches) else [memory] * depth
        for layer, read, cache in zip(self.layers, memories, _each(caches, depth), strict=True):
            x = layer(x, read, mask=mask, memory_mask=memory_mask, cache=cache)
        return x if self.norm is None else self.norm(x)

    def remember(self, memory: Float[Tensor, "B S E"]) -> Caches:
        """The encoder's states projected once for every layer, instead of at each step."""
        caches = Caches.empty(len(self.layers))
        for layer, cache in zip(self.layers, caches, strict=True):
            cache.append(*layer.cross.project(memory, memory))  # type: ignore[operator, union-attr]
        return caches

    @classmethod
    def from_torch(cls, stack: nn.TransformerDecoder, *, attend: Attend = sdpa) -> "Decoder":
        """The same stack with copies of the weights of PyTorch's, the final norm included."""
        _check_kind("stack", stack, nn.TransformerDecoder)
        layers = [DecoderLayer.from_torch(layer, attend=attend) for layer in stack.layers]
        return cls(layers, copy.deepcopy(stack.norm)).train(stack.training)


class Memory(NamedTuple):
    """What the source encoder leaves for the decoder.

    Attributes:
        states: `(B, S, E)`.
        mask: `(B, 1, S)`, True where a source symbol is, False on padding.
    """

    states: Float[Tensor, "B S E"]
    mask: Bool[Tensor, "B 1 S"]


class SourceEncoder(nn.Module):
    """Symbols, embedded and placed, through an encoder.

    Args:
        embed: of the source symbols; scaled by `sqrt(E)`, as in section 3.4 of the paper.
        stack: the layers.
        positions: adds a position to each embedding; None where the layers' path has them.
        dropout: of the sums of embeddings and positions.

    >>> encoder = SourceEncoder(nn.Embedding(10, 8), Encoder([EncoderLayer(8, 2, 32)]), None)
    >>> encoder(torch.tensor([[5, 2, 0]]), torch.tensor([2])).states.shape
    torch.Size([1, 3, 8])
    """

    def __init__(
        self,
        embed: nn.Embedding,
        stack: Encoder,
        positions: nn.Module | None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_dropout(dropout)
        self.hidden_dim = embed.embedding_dim
        self.embed, self.positions, self.stack = embed, positions, stack
        self.dropout = dropout

    def forward(self, source: Int[Tensor, "B S"], lengths: Int[Tensor, " B"]) -> Memory:
        """Read the source; nothing attends to padding."""
        check_symbols("source", source, self.embed.num_embeddings)
        check_lengths(lengths, source)
        mask = padding(lengths, source.shape[1])
        x = embedded(source, self.embed, self.positions)
        x = torch.dropout(x, self.dropout, self.training)
        return Memory(self.stack(x, mask=mask), mask)


class TransformerState(NamedTuple):
    """What is kept between two steps.

    Attributes:
        own: each layer's keys and values of the target so far. A step appends to them.
        memory: each layer's keys and values of the source.
    """

    own: Caches
    memory: Caches


class TargetDecoder(nn.Module):
    """Symbols, embedded and placed, through a decoder, to logits.

    Args:
        embed: of the target symbols; scaled by `sqrt(E)`.
        stack: the layers.
        positions: adds a position to each embedding; None where the layers' path has them.
        tied: whether the logits are dot products with the embeddings; if not, a linear map.
        dropout: of the sums of embeddings and positions.

    Source:
        Vaswani et al. 2017, section 3.4; Press, Wolf 2017 for the tying.

    >>> decoder = TargetDecoder(nn.Embedding(7, 8), Decoder([DecoderLayer(8, 2, 32)]), None)
    >>> memory = Memory(torch.rand(1, 3, 8), torch.ones(1, 1, 3, dtype=torch.bool))
    >>> decoder(memory, torch.tensor([[1, 4]])).logits.shape
    torch.Size([1, 2, 7])
    """

    def __init__(
        self,
        embed: nn.Embedding,
        stack: Decoder,
        positions: nn.Module | None,
        *,
        tied: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_dropout(dropout)
        self.hidden_dim = embed.embedding_dim
        self.embed, self.positions, self.stack = embed, positions, stack
        self.dropout = dropout
        self.output = nn.Linear(embed.embedding_dim, embed.num_embeddings, bias=False)
        if tied:
            self.output.weight = embed.weight

    def forward(self, encoded: Memory, previous: Int[Tensor, "B T"]) -> Decoded:
        """Teacher forcing: each position attends to itself and to those before it.

        Args:
            encoded: the source.
            previous: `(B, T)`, the symbol before each one to predict.

        Returns:
            Logits `(B, T, symbols)`, `None` for the weights, since there is a map for every head
            of every layer (`attnbook.layers.attention_maps` has them), and `previous`.
        """
        check_previous(previous, len(encoded.states), self.embed.num_embeddings)
        T = previous.shape[1]
        x = embedded(previous, self.embed, self.positions)
        x = torch.dropout(x, self.dropout, self.training)
        mask = causal(T, T, device=previous.device)
        x = self.stack(x, encoded.states, mask=mask, memory_mask=encoded.mask)
        return Decoded(self.output(x), None, previous)

    def start(self, encoded: Memory) -> TransformerState:
        """Empty caches for the target, full ones for the source."""
        return TransformerState(
            Caches.empty(len(self.stack.layers)), self.stack.remember(encoded.states)
        )

    def step(self, symbol: Int[Tensor, " B"], state: TransformerState, encoded: Memory) -> Step:
        """One step from the symbol before it. The caches in `state` grow by one position."""
        x = embedded(symbol.unsqueeze(1), self.embed, self.positions, state.own.length)
        x = torch.dropout(x, self.dropout, self.training)
        x = self.stack(x, state.memory, memory_mask=encoded.mask, caches=state.own)
        return Step(self.output(x).squeeze(1), state, None)


def transformer(
    source_symbols: int,
    target_symbols: int,
    *,
    embed_dim: int = 512,
    num_heads: int = 8,
    hidden_dim: int = 2048,
    layers: int = 6,
    dropout: float = 0.1,
    norm_first: bool = False,
    shared: bool = False,
    start: int = 1,
    end: int = 2,
) -> Seq2Seq:
    """The Transformer, at the size of the paper's base model unless told otherwise.

    Args:
        source_symbols: size of the source vocabulary.
        target_symbols: size of the target vocabulary.
        embed_dim: `E`.
        num_heads: `H`.
        hidden_dim: width inside the feed-forward networks.
        layers: of the encoder, and of the decoder.
        dropout: of attention weights, hidden units, sublayers' outputs, and embeddings.
        norm_first: pre-norm; False is post-norm, as in the paper.
        shared: whether source and target are one vocabulary with one table of embeddings, as in
            the paper. The output is tied to the target's table either way.
        start: the symbol before the first one.
        end: the symbol that ends a target.

    Raises:
        ValueError: shared, but the vocabularies differ in size; or a part cannot be made.

    Source:
        Vaswani et al. 2017, section 3 and table 3, "base".

    >>> model = transformer(10, 7, embed_dim=8, num_heads=2, hidden_dim=16, layers=2).eval()
    >>> source, lengths = torch.tensor([[5, 2, 0], [4, 4, 4]]), torch.tensor([2, 3])
    >>> model(source, lengths, torch.tensor([[3, 2], [5, 2]])).logits.shape
    torch.Size([2, 2, 7])
    >>> model.beam(source, lengths, max_steps=4, width=3).log_prob.shape
    torch.Size([2])
    """
    if shared and source_symbols != target_symbols:
        raise ValueError(
            f"shared embeddings need one vocabulary, got {source_symbols} source and "
            f"{target_symbols} target symbols"
        )
    check_sizes(layers=layers)
    each: dict[str, Any] = {"norm_first": norm_first, "dropout": dropout}
    sizes = (embed_dim, num_heads, hidden_dim)

    def norm() -> nn.Module | None:
        return nn.LayerNorm(embed_dim) if norm_first else None

    source_embed, target_embed = (
        new_embedding(symbols, embed_dim) for symbols in (source_symbols, target_symbols)
    )
    encoder = SourceEncoder(
        target_embed if shared else source_embed,
        Encoder([EncoderLayer(*sizes, **each) for _ in range(layers)], norm()),
        Sinusoidal(embed_dim),
        dropout,
    )
    decoder = TargetDecoder(
        target_embed,
        Decoder([DecoderLayer(*sizes, **each) for _ in range(layers)], norm()),
        Sinusoidal(embed_dim),
        dropout=dropout,
    )
    return Seq2Seq(encoder, decoder, start=start, end=end)


def warmup_rate(step: int, embed_dim: int, warmup: int = 4000) -> float:
    """The paper's learning rate: up in a straight line, then down with the root of the step.

    Args:
        step: counted from 1.
        embed_dim: `E`.
        warmup: steps of the rise.

    Returns:
        `E^-0.5 min(step^-0.5, step warmup^-1.5)`.

    Raises:
        ValueError: an argument is below 1.

    Source:
        Vaswani et al. 2017, equation 3.

    >>> f"{warmup_rate(4000, embed_dim=512):.1e}"
    '7.0e-04'
    """
    for name, count in (("step", step), ("embed_dim", embed_dim), ("warmup", warmup)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    return embed_dim**-0.5 * min(step**-0.5, step * warmup**-1.5)


def embedded(
    symbols: Int[Tensor, "B T"], embed: nn.Embedding, positions: nn.Module | None, offset: int = 0
) -> Float[Tensor, "B T E"]:
    """Embeddings times `sqrt(E)`, and positions from `offset` on."""
    x = math.sqrt(embed.embedding_dim) * embed(symbols)
    return x if positions is None else positions(x, offset)


def kept(symbols: Int[Tensor, "B T"], lengths: Int[Tensor, " B"] | None) -> Tensor | None:
    """The mask `(B, 1, T)` that keeps what is no padding; None without lengths, which keeps all."""
    if lengths is None:
        return None
    check_lengths(lengths, symbols)
    return padding(lengths, symbols.shape[1])


def new_embedding(symbols: int, embed_dim: int) -> nn.Embedding:
    """Embeddings of variance `1 / E`: of variance 1 once scaled, and fit to be tied to logits."""
    check_sizes(symbols=symbols, embed_dim=embed_dim)
    embed = nn.Embedding(symbols, embed_dim)
    nn.init.normal_(embed.weight, std=embed_dim**-0.5)
    return embed


def _stack(layers: Iterable[nn.Module]) -> nn.ModuleList:
    made = nn.ModuleList(layers)
    if not len(made):
        raise ValueError("layers must hold at least one layer")
    return made


def _each(caches: Caches | None, layers: int) -> list[KVCache] | list[None]:
    if caches is None:
        return [None] * layers
    if len(caches) != layers:
        raise ValueError(f"there are {layers} layers but {len(caches)} caches")
    return caches


def _check_kind(name: str, given: Any, kind: type) -> None:
    if not isinstance(given, kind):
        raise TypeError(f"{name} must be an nn.{kind.__name__}, got {type(given).__name__}")


def _like(cls: Any, layer: Any, attend: Attend) -> Any:
    """A layer of `cls` of the sizes of PyTorch's, of its type and where it is."""
    attention = layer.self_attn
    made = cls(
        attention.embed_dim,
        attention.num_heads,
        layer.linear1.out_features,
        norm_first=layer.norm_first,
        activation=copy.deepcopy(layer.activation),  # a PReLU has a weight
        dropout=layer.dropout.p,
        eps=layer.norm1.eps,
        bias=layer.linear1.bias is not None,
        attend=attend,
    )
    weight = layer.linear1.weight
    return made.to(weight.device, weight.dtype).train(layer.training)


def _copy_feed_forward(layer: Any, made: FeedForward) -> None:
    made.up.load_state_dict(layer.linear1.state_dict())
    made.down.load_state_dict(layer.linear2.state_dict())
