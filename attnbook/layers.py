"""Multi-head attention: several attentions side by side, each on projections of its own.

    head_i = attend(query W_i^Q, key W_i^K, value W_i^V)       (*b, L, Dv), for each of H heads
    output = Concat(head_1, ..., head_H) W^O                   (*b, L, E)

Heads are one more leading axis: after `split_heads` the one equation does the rest. `L` queries,
`S` keys, `E` the width of the model; a layer holds four projections and no other parameters.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attnbook import core
from attnbook.core import Attended, Normalize, Score
from attnbook.fused import sdpa, tiled

__all__ = [
    "Attend",
    "KVCache",
    "MultiHeadAttention",
    "attention_maps",
    "merge_heads",
    "split_heads",
]

Attend = Callable[..., Attended]
"""A path: `attend(query, key, value, *, mask=None, dropout=0.0)`, such as `attnbook.attend`."""


def split_heads(x: Float[Tensor, "*b L HD"], heads: int) -> Float[Tensor, "*b {heads} L D"]:
    """Cut the width into heads and make them a leading axis.

    Args:
        x: `(*b, L, H D)`.
        heads: `H`.

    Returns:
        `(*b, H, L, D)`; head `i` holds columns `i D` to `(i + 1) D`.

    Raises:
        ValueError: heads does not divide the width.

    Source:
        Vaswani et al. 2017, section 3.2.2.

    >>> x = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])
    >>> split_heads(x, heads=2).tolist()
    [[[1.0, 2.0], [5.0, 6.0]], [[3.0, 4.0], [7.0, 8.0]]]
    """
    if heads < 1 or x.shape[-1] % heads:
        raise ValueError(f"heads must divide the width {x.shape[-1]}, got {heads}")
    return x.view(*x.shape[:-1], heads, x.shape[-1] // heads).transpose(-3, -2)


def merge_heads(x: Float[Tensor, "*b H L D"]) -> Float[Tensor, "*b L HD"]:
    """Put the heads side by side again: what `split_heads` did, undone.

    Args:
        x: `(*b, H, L, D)`.

    Returns:
        `(*b, L, H D)`. The heads go back behind the positions first; flattening `(H, L, D)` as it
        lies would mix positions.

    Raises:
        ValueError: x has fewer than three axes.

    Source:
        Vaswani et al. 2017, section 3.2.2, "Concat".

    >>> x = torch.arange(8.0).view(2, 4)
    >>> torch.equal(merge_heads(split_heads(x, heads=2)), x)
    True
    """
    if x.ndim < 3:
        raise ValueError(f"x must have shape (*b, heads, positions, width), got {tuple(x.shape)}")
    return x.transpose(-3, -2).flatten(-2)


class KVCache:
    """The keys and values of the positions seen so far, for decoding one step after another.

    Room is doubled when it runs out, so that a step does not copy what came before. It holds no
    gradients: decode under `torch.no_grad()`. What `append` and `read` return are views of it.

    >>> cache = KVCache()
    >>> key, value = cache.append(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 5))
    >>> key, value = cache.append(torch.zeros(1, 2, 1, 4), torch.zeros(1, 2, 1, 5))
    >>> key.shape, value.shape, cache.length
    (torch.Size([1, 2, 4, 4]), torch.Size([1, 2, 4, 5]), 4)
    """

    def __init__(self) -> None:
        self.length = 0
        self._key: Tensor | None = None
        self._value: Tensor | None = None

    def append(
        self, key: Float[Tensor, "*b H s D"], value: Float[Tensor, "*b H s Dv"]
    ) -> tuple[Float[Tensor, "*b H S D"], Float[Tensor, "*b H S Dv"]]:
        """Add keys `(*b, H, s, D)` and values; all keys `(*b, H, S, D)` and values so far.

        Raises:
            RuntimeError: a gradient is asked for.
            TypeError: key or value is not a floating-point tensor.
            ValueError: batch, heads, width, type or device differ from those held; nothing is
                appended then.
        """
        _check_floating("key", key)
        _check_floating("value", value)
        if torch.is_grad_enabled() and (key.requires_grad or value.requires_grad):
            raise RuntimeError("a cache holds no gradients: decode under torch.no_grad()")
        if key.ndim < 3 or key.shape[:-1] != value.shape[:-1]:
            raise ValueError(
                "key and value must have shapes (*b, heads, positions, width) that differ in width "
                f"only, got {tuple(key.shape)} and {tuple(value.shape)}"
            )
        start, end = self.length, self.length + key.shape[-2]
        if self._key is None or self._value is None:
            self._key, self._value = key.clone(), value.clone()
        else:
            _check_held("key", key, self._key)
            _check_held("value", value, self._value)
            if end > self._key.shape[-2]:
                room = max(end, 2 * self._key.shape[-2])
                self._key, self._value = (_larger(x, room) for x in (self._key, self._value))
            self._key.narrow(-2, start, end - start).copy_(key)
            self._value.narrow(-2, start, end - start).copy_(value)
        self.length = end
        return self._key.narrow(-2, 0, end), self._value.narrow(-2, 0, end)

    def cut(self, length: int) -> None:
        """Forget what was appended after the first `length` positions.

        Raises:
            ValueError: there are not so many.
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"length must be between 0 and {self.length}, got {length}")
        self.length = length
        if not length:
            self._key = self._value = None

    def read(self) -> tuple[Float[Tensor, "*b H S D"], Float[Tensor, "*b H S Dv"]]:
        """All keys and values held.

        Raises:
            ValueError: nothing has been appended.
        """
        if self._key is None or self._value is None:
            raise ValueError("the cache is empty: append keys and values first")
        return self._key.narrow(-2, 0, self.length), self._value.narrow(-2, 0, self.length)

    def index_select(self, dim: int, index: Int[Tensor, " R"]) -> "KVCache":
        """A cache of these sequences: what a beam search goes on with.

        Args:
            dim: 0, the batch; as in `Tensor.index_select`, so that it picks from either.
            index: `(R,)`, the sequences; one may be asked for more than once.

        Raises:
            ValueError: dim is not 0.
        """
        if dim != 0:
            raise ValueError(f"dim must be 0, the batch, got {dim}")
        picked = KVCache()
        picked.length = self.length
        if self._key is not None and self._value is not None:
            picked._key = self._key.index_select(dim, index)
            picked._value = self._value.index_select(dim, index)
        return picked


class MultiHeadAttention(nn.Module):
    """Multi-head attention: self, cross, grouped-query or multi-query.

    Args:
        embed_dim: `E`, width of the queries and of the output.
        num_heads: `H`.
        num_kv_heads: heads of keys and values, each shared by `H / num_kv_heads` heads of queries.
            None: as many as heads; 1: multi-query; between: grouped-query attention.
        key_dim: width of the keys that come in; None: `embed_dim`.
        value_dim: width of the values that come in; None: `embed_dim`.
        head_dim: `d_k`, width of a query and of a key in one head; None: `E / H`.
        value_head_dim: `d_v`, width of a value in one head; None: `head_dim`.
        bias: whether the four projections have one.
        dropout: probability with which a weight is dropped in training.
        attend: the path. `fused.sdpa` is fast and keeps no weights; `attnbook.attend` is the
            readable one, with weights, and takes any score and normaliser. A module of the same
            signature may stand here, such as those of `attnbook.positions`.
        score: for the readable path; None is `scaled_dot`. It compares vectors of width `d_k`.
        normalize: for the readable path; None is `softmax`.

    Raises:
        TypeError: attend, score or normalize is not callable, or a size is not an integer.
        ValueError: a width or a number of heads does not fit, dropout is not in [0, 1), or a score
            or normaliser is given to a path that has its own.

    Source:
        Vaswani et al. 2017, section 3.2.2; Shazeer 2019 for multi-query, Ainslie et al. 2023 for
        grouped-query attention. Projections start from Glorot's uniform distribution.

    >>> layer = MultiHeadAttention(embed_dim=8, num_heads=2, attend=core.attend)
    >>> output, weights = layer(torch.rand(3, 5, 8))
    >>> output.shape, weights.shape
    (torch.Size([3, 5, 8]), torch.Size([3, 2, 5, 5]))
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        key_dim: int | None = None,
        value_dim: int | None = None,
        head_dim: int | None = None,
        value_head_dim: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        attend: Attend = sdpa,
        score: Score | None = None,
        normalize: Normalize | None = None,
    ) -> None:
        super().__init__()
        key_dim = embed_dim if key_dim is None else key_dim
        value_dim = embed_dim if value_dim is None else value_dim
        shared = num_heads if num_kv_heads is None else num_kv_heads
        check_sizes(embed_dim=embed_dim, num_heads=num_heads, num_kv_heads=shared)
        check_sizes(key_dim=key_dim, value_dim=value_dim)
        if head_dim is None:
            if embed_dim % num_heads:
                raise ValueError(f"num_heads must divide embed_dim = {embed_dim}, got {num_heads}")
            head_dim = embed_dim // num_heads
        value_head_dim = head_dim if value_head_dim is None else value_head_dim
        check_sizes(head_dim=head_dim, value_head_dim=value_head_dim)
        if num_heads % shared:
            raise ValueError(f"num_kv_heads must divide num_heads = {num_heads}, got {shared}")
        check_dropout(dropout)
        for name, made in (("attend", attend), ("score", score), ("normalize", normalize)):
            if made is None and name != "attend":
                continue
            if not callable(made):
                raise TypeError(f"{name} must be callable, got {type(made).__name__}")
            if name != "attend" and attend is not core.attend:
                raise ValueError(f"{name} needs the readable path: pass attend=attnbook.attend")
        self.embed_dim, self.num_heads, self.num_kv_heads = embed_dim, num_heads, shared
        self.query = nn.Linear(embed_dim, num_heads * head_dim, bias)
        self.key = nn.Linear(key_dim, shared * head_dim, bias)
        self.value = nn.Linear(value_dim, shared * value_head_dim, bias)
        self.output = nn.Linear(num_heads * value_head_dim, embed_dim, bias)
        self.dropout = dropout
        self.attend, self.score, self.normalize = attend, score, normalize
        for projection in (self.query, self.key, self.value, self.output):
            nn.init.xavier_uniform_(projection.weight)
            if bias:
                nn.init.zeros_(projection.bias)

    def forward(
        self,
        query: Float[Tensor, "*#b L E"],
        key: Float[Tensor, "*#b S Ek"] | KVCache | None = None,
        value: Float[Tensor, "*#b S Ev"] | None = None,
        *,
        mask: Bool[Tensor, "..."] | None = None,
        cache: KVCache | None = None,
    ) -> Attended:
        """Attend from `query` to `key` and `value`.

        Args:
            query: `(*b, L, E)`.
            key: `(*b, S, key_dim)`; None is self-attention: the queries once more. A cache here is
                read, and nothing is appended to it: cross-attention while decoding.
            value: `(*b, S, value_dim)`; None: the keys once more.
            mask: boolean, True = may attend, broadcast to `(*b, L, S)` and then the same for every
                head; with one axis more than the inputs, broadcast to `(*b, H, L, S)`.
            cache: keys and values of earlier positions. The new ones are appended, and the mask is
                over all of them: `masks.causal(L, S, offset=S - L)`.

        Returns:
            The output `(*b, L, E)`, and the weights `(*b, H, L, S)` where the path has them.

        Raises:
            RuntimeError: a cache is to be appended to, and a gradient is asked for.
            TypeError: an input is not a floating-point tensor of the layer's type, or the mask is
                not boolean.
            ValueError: shapes or devices do not fit.
        """
        _check_input("query", query, self.query)
        if isinstance(key, KVCache):
            if value is not None or cache is not None:
                raise ValueError("key is a cache, which is all that is read: give no other")
            return self._mix(query, *key.read(), mask)
        if key is None and value is not None:
            raise ValueError("value is given without key")
        key = query if key is None else key
        keys, values = self.project(key, key if value is None else value)
        if cache is None:
            return self._mix(query, keys, values, mask)
        if not isinstance(cache, KVCache):
            raise TypeError(f"cache must be a KVCache, got {type(cache).__name__}")
        before = cache.length
        try:
            return self._mix(query, *cache.append(keys, values), mask)
        except Exception:
            cache.cut(before)  # as if it had not been called
            raise

    def project(
        self, key: Float[Tensor, "*b S Ek"], value: Float[Tensor, "*b S Ev"]
    ) -> tuple[Float[Tensor, "*b Hk S D"], Float[Tensor, "*b Hk S Dv"]]:
        """Keys and values of every head, `(*b, Hk, S, d_k)` and `d_v`: what a cache holds."""
        _check_input("key", key, self.key)
        _check_input("value", value, self.value)
        return (
            split_heads(self.key(key), self.num_kv_heads),
            split_heads(self.value(value), self.num_kv_heads),
        )

    def read(
        self,
        query: Float[Tensor, "*b L E"],
        cache: KVCache,
        *,
        mask: Bool[Tensor, "..."] | None = None,
    ) -> Attended:
        """Attend to what a cache holds and append nothing: `layer(query, cache)`, by name."""
        if not isinstance(cache, KVCache):  # None would be self-attention
            raise TypeError(f"cache must be a KVCache, got {type(cache).__name__}")
        return self(query, cache, mask=mask)

    def _mix(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Attended:
        queries = split_heads(self.query(query), self.num_heads)
        if self.num_kv_heads != self.num_heads:
            group = self.num_heads // self.num_kv_heads
            keys, values = (x.repeat_interleave(group, dim=-3) for x in (keys, values))
        if isinstance(mask, Tensor):
            axes = max(queries.ndim, keys.ndim, values.ndim)
            if 2 < mask.ndim < axes:
                mask = mask.unsqueeze(-3)  # the same for every head
        given: dict[str, Any] = {}
        if self.score is not None:
            given["score"] = self.score
        if self.normalize is not None:
            given["normalize"] = self.normalize
        dropout = self.dropout if self.training else 0.0
        mixed, weights = self.attend(queries, keys, values, mask=mask, dropout=dropout, **given)
        return Attended(self.output(merge_heads(mixed)), weights)

    @classmethod
    def from_torch(
        cls, layer: nn.MultiheadAttention, *, attend: Attend = sdpa
    ) -> "MultiHeadAttention":
        """The same layer with the weights of PyTorch's.

        Args:
            layer: its `batch_first` says how *it* takes tensors; here the batch is always first.
            attend: the path.

        Raises:
            TypeError: layer is not an `nn.MultiheadAttention`.
            ValueError: the layer adds keys of its own (`add_bias_kv`, `add_zero_attn`).
        """
        if not isinstance(layer, nn.MultiheadAttention):
            raise TypeError(f"layer must be an nn.MultiheadAttention, got {type(layer).__name__}")
        if layer.bias_k is not None or layer.add_zero_attn:
            raise ValueError("layer has add_bias_kv or add_zero_attn, which have no place here")
        weight = layer.out_proj.weight
        made = cls(
            layer.embed_dim,
            layer.num_heads,
            key_dim=layer.kdim,
            value_dim=layer.vdim,
            bias=layer.in_proj_bias is not None,
            dropout=layer.dropout,
            attend=attend,
        ).to(weight.device, weight.dtype)
        _copy(_torch_parts(layer), made._parts())
        return made.train(layer.training)

    def to_torch(self) -> nn.MultiheadAttention:
        """PyTorch's layer with the same weights, batch first.

        Raises:
            ValueError: PyTorch's layer cannot do what this one does.
        """
        width = (self.embed_dim, self.embed_dim)
        if self.num_kv_heads != self.num_heads:
            raise ValueError("nn.MultiheadAttention has no grouped or multi-query heads")
        if (self.query.out_features, self.value.out_features) != width:
            raise ValueError("nn.MultiheadAttention has heads of width embed_dim / num_heads only")
        plain = self.score is None and self.normalize is None
        if not (plain and self.attend in (core.attend, sdpa, tiled)):
            raise ValueError("nn.MultiheadAttention has the scaled dot product with softmax only")
        weight = self.output.weight
        made = nn.MultiheadAttention(
            self.embed_dim,
            self.num_heads,
            dropout=self.dropout,
            bias=self.output.bias is not None,
            kdim=self.key.in_features,
            vdim=self.value.in_features,
            batch_first=True,
            device=weight.device,
            dtype=weight.dtype,
        )
        _copy(self._parts(), _torch_parts(made))
        return made.train(self.training)

    def _parts(self) -> list[Tensor]:
        """Weights and then biases of query, key, value and output."""
        projections = (self.query, self.key, self.value, self.output)
        biases = [p.bias for p in projections if p.bias is not None]
        return [p.weight for p in projections] + biases

    def extra_repr(self) -> str:
        """Heads, for `print(layer)`."""
        shared = (
            "" if self.num_kv_heads == self.num_heads else f", num_kv_heads={self.num_kv_heads}"
        )
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}{shared}"


@contextmanager
def attention_maps(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Record where every multi-head attention inside `model` looks, while the block lasts.

    The layers take the readable path meanwhile, with the masks that they are given anyway. What
    `torch.compile` made runs uncompiled in the block.

    Args:
        model: a module with `MultiHeadAttention` somewhere inside.

    Yields:
        For the name of each layer a list of its weights `(*b, H, L, S)`, one tensor a call,
        without gradients.

    Raises:
        TypeError: model is not a module.
        ValueError: there is no such layer, or (from a call) a layer's path has no weights to give.

    >>> model = nn.Sequential(MultiHeadAttention(8, 2))
    >>> with attention_maps(model) as maps:
    ...     _ = model(torch.rand(1, 5, 8))
    >>> maps["0"][0].shape
    torch.Size([1, 2, 5, 5])
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, got {type(model).__name__}")
    layers = {n: m for n, m in model.named_modules() if isinstance(m, MultiHeadAttention)}
    if not layers:
        raise ValueError(f"{type(model).__name__} has no MultiHeadAttention inside")
    maps: dict[str, list[Tensor]] = {name: [] for name in layers}

    def recorder(name: str) -> Callable[..., None]:
        def record(_layer: nn.Module, _inputs: Any, attended: Attended) -> None:
            if attended.weights is None:
                raise ValueError(f"the path of layer {name!r} has no weights to give")
            maps[name].append(attended.weights.detach())

        return record

    fast = [(m, m.attend) for m in model.modules() if getattr(m, "attend", None) in (sdpa, tiled)]
    hooks = [layer.register_forward_hook(recorder(name)) for name, layer in layers.items()]
    for module, _ in fast:
        module.attend = core.attend  # type: ignore[assignment]
    try:
        with torch.compiler.set_stance("force_eager"):  # a compiled call would not see the hooks
            yield maps
    finally:
        for module, path in fast:
            module.attend = path
        for hook in hooks:
            hook.remove()


def check_sizes(**sizes: int) -> None:
    """Raise a clear error unless every size is a positive integer."""
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool):
            raise TypeError(f"{name} must be an integer, got {type(size).__name__}")
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")


def check_dropout(dropout: float) -> None:
    """Raise a clear error unless this is a probability with which something may be dropped."""
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")


def _check_held(name: str, new: Tensor, held: Tensor) -> None:
    if new.shape[:-2] != held.shape[:-2] or new.shape[-1] != held.shape[-1]:
        raise ValueError(f"{name} is {tuple(new.shape)} but the cache holds {tuple(held.shape)}")
    if new.dtype != held.dtype or new.device != held.device:
        raise ValueError(
            f"{name} is {new.dtype} on {new.device} but the cache holds {held.dtype} on "
            f"{held.device}"
        )


def _larger(held: Tensor, room: int) -> Tensor:
    """A buffer for so many positions that begins with what `held` has."""
    larger = held.new_empty(*held.shape[:-2], room, held.shape[-1])
    larger.narrow(-2, 0, held.shape[-2]).copy_(held)
    return larger


def _torch_parts(layer: nn.MultiheadAttention) -> list[Tensor]:
    """As `MultiHeadAttention._parts`, of PyTorch's layer."""
    packed = layer.in_proj_weight
    separate = (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight)
    weights = list(separate) if packed is None else list(packed.chunk(3))
    biases: list[Tensor] = []
    if layer.in_proj_bias is not None:
        biases = [*layer.in_proj_bias.chunk(3), layer.out_proj.bias]
    return [*weights, layer.out_proj.weight, *biases]


@torch.no_grad()
def _copy(source: list[Tensor], target: list[Tensor]) -> None:
    for old, new in zip(source, target, strict=True):
        new.copy_(old)


def _check_floating(name: str, x: Tensor) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name} must be a floating-point tensor, got {got}")


def _check_input(name: str, x: Tensor, projection: nn.Linear) -> None:
    weight, width = projection.weight, projection.in_features
    if not isinstance(x, Tensor) or x.dtype != weight.dtype:
        _check_floating(name, x)
        if not torch.is_autocast_enabled(x.device.type):
            raise TypeError(f"{name} is {x.dtype} but the layer is {weight.dtype}")
    if x.ndim < 2 or x.shape[-1] != width:
        raise ValueError(f"{name} must have shape (*b, positions, {width}), got {tuple(x.shape)}")
    if x.device != weight.device:
        raise ValueError(f"{name} is on {x.device} but the layer is on {weight.device}")
