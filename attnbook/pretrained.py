"""Pretrained weights in this book's own layers: BERT, its sentence embeddings, and GPT-2.

    x = norm(token + position + segment)          (B, S, E), BERT's embeddings
    states = Encoder(x)                           post-norm, GELU
    embedding = normalise(mean of states)         (B, E), of a sentence

The layers are those of `attnbook.transformer`. What is added here is the embeddings, the pooling,
and a table that says which of the published names is which weight. A name that is missing, or that
the table does not know, is an error: a model with one matrix left at random runs, and is wrong.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attnbook.fused import sdpa
from attnbook.language_model import LanguageModel
from attnbook.layers import Attend
from attnbook.masks import padding
from attnbook.positions import Learned
from attnbook.recurrent import check_lengths, check_symbols
from attnbook.transformer import Encoder, EncoderLayer, kept

__all__ = ["BertEncoder", "bert", "gpt2", "sentence_embedding"]

M = TypeVar("M", bound=nn.Module)


class BertEncoder(nn.Module):
    """An encoder of BERT's shape: three embeddings, a norm, and post-norm layers.

    Args:
        symbols: size of the vocabulary.
        embed_dim: `E`.
        num_heads: `H`.
        hidden_dim: width inside the feed-forward networks.
        layers: how many.
        max_length: positions that there are embeddings for.
        segments: kinds of text that are told apart; BERT has two, for pairs of texts.
        eps: added to the variance in the norms.
        attend: the path of attention.

    Source:
        Devlin et al. 2019, section 3 and figure 2; the numbers of the base model are defaults.

    >>> model = BertEncoder(50, 8, 2, 32, layers=2)
    >>> model(torch.tensor([[5, 2, 0], [4, 4, 4]]), torch.tensor([2, 3])).shape
    torch.Size([2, 3, 8])
    """

    def __init__(
        self,
        symbols: int = 30_522,
        embed_dim: int = 768,
        num_heads: int = 12,
        hidden_dim: int = 3072,
        layers: int = 12,
        *,
        max_length: int = 512,
        segments: int = 2,
        eps: float = 1e-12,
        attend: Attend = sdpa,
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(symbols, embed_dim)
        self.positions = Learned(max_length, embed_dim)
        self.segments = nn.Embedding(segments, embed_dim)
        self.norm = nn.LayerNorm(embed_dim, eps=eps)
        self.stack = Encoder(
            EncoderLayer(
                embed_dim, num_heads, hidden_dim, activation=F.gelu, eps=eps, attend=attend
            )
            for _ in range(layers)
        )

    def forward(
        self,
        symbols: Int[Tensor, "B S"],
        lengths: Int[Tensor, " B"] | None = None,
        segments: Int[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B S E"]:
        """The states of the last layer; nothing attends to padding.

        Args:
            symbols: `(B, S)`.
            lengths: `(B,)`, how many of them are no padding; None: all.
            segments: `(B, S)`, which text each belongs to; None: all to the first.

        Raises:
            TypeError: symbols, lengths or segments are not integers.
            ValueError: one of them is out of range, or shapes do not fit.
        """
        check_symbols("symbols", symbols, self.embed.num_embeddings)
        mask = kept(symbols, lengths)
        segments = torch.zeros_like(symbols) if segments is None else segments
        check_symbols("segments", segments, self.segments.num_embeddings)
        if segments.shape != symbols.shape:
            raise ValueError(
                f"segments is {tuple(segments.shape)} but symbols is {tuple(symbols.shape)}"
            )
        x = self.positions(self.embed(symbols) + self.segments(segments))
        return self.stack(self.norm(x), mask=mask)


def sentence_embedding(
    states: Float[Tensor, "B S E"], lengths: Int[Tensor, " B"]
) -> Float[Tensor, "B E"]:
    """The mean of the states of each text, without its padding, at length 1.

    Args:
        states: `(B, S, E)`.
        lengths: `(B,)`.

    Returns:
        `(B, E)`; the dot product of two of them is their cosine.

    Source:
        Reimers, Gurevych 2019, section 3, "MEAN"; the norm is part of all-MiniLM-L6-v2.

    >>> states = torch.tensor([[[3.0, 4.0], [3.0, 4.0], [9.0, 0.0]]])
    >>> sentence_embedding(states, torch.tensor([2]))
    tensor([[0.6000, 0.8000]])
    """
    check_lengths(lengths, states[..., 0])
    inside = padding(lengths, states.shape[1]).transpose(-2, -1)
    mean = states.masked_fill(~inside, 0).sum(1) / lengths[:, None]
    return F.normalize(mean, dim=-1)


class _Move(NamedTuple):
    """A published weight and where it goes; several targets share its rows in equal parts."""

    source: str
    targets: tuple[str, ...]
    transposed: bool = False


_BERT = {
    "embeddings.word_embeddings.weight": "embed.weight",
    "embeddings.position_embeddings.weight": "positions.table",
    "embeddings.token_type_embeddings.weight": "segments.weight",
    "embeddings.LayerNorm.weight": "norm.weight",
    "embeddings.LayerNorm.bias": "norm.bias",
}
_BERT_LAYER = {
    "attention.self.query": "attention.query",
    "attention.self.key": "attention.key",
    "attention.self.value": "attention.value",
    "attention.output.dense": "attention.output",
    "attention.output.LayerNorm": "add_attention.norm",
    "intermediate.dense": "feed_forward.up",
    "output.dense": "feed_forward.down",
    "output.LayerNorm": "add_feed_forward.norm",
}


def bert(
    state: Mapping[str, Tensor],
    num_heads: int,
    *,
    prefix: str = "",
    ignore: Iterable[str] = (),
    attend: Attend = sdpa,
) -> BertEncoder:
    """An encoder with the weights of a BERT, from a state dict of the library transformers.

    Args:
        state: the weights by name; the sizes are read off them.
        num_heads: `H`, which no weight shows: the matrices are the same for any number.
        prefix: what stands before the names of the encoder, such as `bert.`.
        ignore: beginnings of names that are left out, such as `pooler.`.
        attend: the path of attention.

    Raises:
        ValueError: names are missing or unknown (they are listed), or a weight has another shape.

    >>> bert({"bert.pooler.dense.bias": torch.zeros(4)}, num_heads=2)
    Traceback (most recent call last):
    ...
    ValueError: state has no encoder.layer.0.output.dense.weight; is a prefix in front of it?
    """
    layer = f"{prefix}encoder.layer."
    depth = _depth(state, layer, ".output.dense.weight")
    moves = [_Move(prefix + theirs, (ours,)) for theirs, ours in _BERT.items()]
    moves += [
        _Move(f"{layer}{n}.{theirs}.{kind}", (f"stack.layers.{n}.{ours}.{kind}",))
        for n in range(depth)
        for theirs, ours in _BERT_LAYER.items()
        for kind in ("weight", "bias")
    ]
    _check_names(state, moves, ignore)
    words = state[f"{prefix}embeddings.word_embeddings.weight"]
    model = BertEncoder(
        *words.shape,
        num_heads,
        len(state[f"{layer}0.intermediate.dense.weight"]),
        depth,
        max_length=len(state[f"{prefix}embeddings.position_embeddings.weight"]),
        segments=len(state[f"{prefix}embeddings.token_type_embeddings.weight"]),
        attend=attend,
    )
    return _fill(model.to(words.device, words.dtype), state, moves)


_GPT2 = {
    "wte.weight": "embed.weight",
    "wpe.weight": "positions.table",
    "ln_f.weight": "stack.norm.weight",
    "ln_f.bias": "stack.norm.bias",
}
_GPT2_LAYER = {
    "ln_1": ("add_attention.norm",),
    "attn.c_attn": ("attention.query", "attention.key", "attention.value"),
    "attn.c_proj": ("attention.output",),
    "ln_2": ("add_feed_forward.norm",),
    "mlp.c_fc": ("feed_forward.up",),
    "mlp.c_proj": ("feed_forward.down",),
}


def gpt2(
    state: Mapping[str, Tensor],
    num_heads: int,
    *,
    prefix: str = "",
    ignore: Iterable[str] = (),
    attend: Attend = sdpa,
) -> LanguageModel:
    """A language model with the weights of a GPT-2, from a state dict of the library transformers.

    GPT-2 keeps its matrices transposed, `x W` in place of `W x`, and those of query, key and value
    side by side in one. Its GELU is the approximation by a hyperbolic tangent.

    Args:
        state: the weights by name; the sizes are read off them.
        num_heads: `H`, which no weight shows.
        prefix: what stands before the names of the stack, such as `transformer.`.
        ignore: beginnings of names that are left out.
        attend: the path of attention.

    Raises:
        ValueError: names are missing or unknown (they are listed), a weight has another shape, or
            `lm_head.weight` is there and is not the table of embeddings.

    Source:
        Radford et al. 2019, section 2.3; Hendrycks, Gimpel 2016 for the GELU.

    >>> gpt2({"transformer.wte.weight": torch.zeros(9, 4)}, num_heads=2)
    Traceback (most recent call last):
    ...
    ValueError: state has no h.0.mlp.c_proj.weight; is a prefix in front of it?
    """
    layer = f"{prefix}h."
    depth = _depth(state, layer, ".mlp.c_proj.weight")
    moves = [_Move(prefix + theirs, (ours,)) for theirs, ours in _GPT2.items()]
    moves += [
        _Move(
            f"{layer}{n}.{theirs}.{kind}",
            tuple(f"stack.layers.{n}.{our}.{kind}" for our in ours),
            transposed=kind == "weight" and "c_" in theirs,
        )
        for n in range(depth)
        for theirs, ours in _GPT2_LAYER.items()
        for kind in ("weight", "bias")
    ]
    words = state.get(f"{prefix}wte.weight")
    head = state.get("lm_head.weight", words)
    if words is not None and head is not None and not torch.equal(words, head):
        raise ValueError("lm_head.weight must be the table of embeddings, as in GPT-2; it differs")
    _check_names(state, moves, [*ignore, "lm_head.weight"])
    symbols, embed_dim = state[f"{prefix}wte.weight"].shape
    layers = [
        EncoderLayer(
            embed_dim,
            num_heads,
            state[f"{layer}0.mlp.c_fc.weight"].shape[1],
            norm_first=True,
            activation=partial(F.gelu, approximate="tanh"),
            attend=attend,
        )
        for _ in range(depth)
    ]
    positions = Learned(len(state[f"{prefix}wpe.weight"]), embed_dim)
    stack = Encoder(layers, nn.LayerNorm(embed_dim))
    model = LanguageModel(symbols, embed_dim, stack, positions=positions)
    return _fill(model.to(state[f"{prefix}wte.weight"]), state, moves)


def _depth(state: Mapping[str, Tensor], before: str, behind: str) -> int:
    """Layers of a stack whose weights are named `{before}{n}{behind}`."""
    depth = 0
    while f"{before}{depth}{behind}" in state:
        depth += 1
    if not depth:
        raise ValueError(f"state has no {before}0{behind}; is a prefix in front of it?")
    return depth


def _check_names(
    state: Mapping[str, Tensor], moves: Iterable[_Move], ignore: Iterable[str]
) -> None:
    """Every name is wanted, or left out on purpose; none that is wanted is missing."""
    if isinstance(ignore, str):  # its letters would be beginnings of names
        raise TypeError(f"ignore must hold beginnings of names, got the string {ignore!r}")
    wanted, left = {move.source for move in moves}, tuple(ignore)
    wrong = {
        "lacks": wanted - state.keys(),
        "has unknown": {n for n in state.keys() - wanted if not n.startswith(left)},
    }
    said = [f"{what} {', '.join(sorted(names))}" for what, names in wrong.items() if names]
    if said:
        raise ValueError(f"state {'; and it '.join(said)}")


@torch.no_grad()
def _fill(model: M, state: Mapping[str, Tensor], moves: Iterable[_Move]) -> M:
    """Copy every weight to its place."""
    parameters = dict(model.named_parameters())
    for source, targets, transposed in moves:
        weight = state[source].T if transposed else state[source]
        for target, part in zip(targets, weight.chunk(len(targets)), strict=True):
            place = parameters.pop(target)
            if place.shape != part.shape:
                shape = (len(targets) * place.shape[0], *place.shape[1:])
                wanted = shape[::-1] if transposed else shape
                raise ValueError(
                    f"{source} is {tuple(state[source].shape)}, expected {tuple(wanted)}"
                )
            place.copy_(part)
    if parameters:
        raise RuntimeError(f"no weight was given to {', '.join(parameters)}")
    return model.eval()
