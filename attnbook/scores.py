"""Scores: how well does a key answer a query?

A score takes queries `(*b, L, Dq)` and keys `(*b, S, Dk)` and returns `(*b, L, S)`. `scaled_dot`
is a score; `dot`, `cosine`, `gaussian` and `log_kernel` make one; the four with parameters are
modules.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = [
    "Additive",
    "Bilinear",
    "Concat",
    "Location",
    "cosine",
    "dot",
    "gaussian",
    "log_kernel",
    "scaled_dot",
]


def dot(scale: float = 1.0) -> Callable[[Tensor, Tensor], Tensor]:
    """Make the dot product score, `scale * q . k`.

    Args:
        scale: multiplies the score (an inverse temperature).

    Returns:
        A score for queries `(*b, L, D)` and keys `(*b, S, D)`.

    Raises:
        ValueError: (from the score) query and key have different widths.

    Source:
        Luong, Pham, Manning 2015, section 3.1, "dot".

    >>> dot()(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
    tensor([[11., 2.]])
    """

    def score(
        query: Float[Tensor, "*#b L D"], key: Float[Tensor, "*#b S D"]
    ) -> Float[Tensor, "*b L S"]:
        check_same_width(query, key)
        return (scale * query) @ key.mT

    return score


def scaled_dot(
    query: Float[Tensor, "*#b L D"], key: Float[Tensor, "*#b S D"]
) -> Float[Tensor, "*b L S"]:
    """The scaled dot product score, `q . k / sqrt(D)`.

    Args:
        query: `(*b, L, D)`.
        key: `(*b, S, D)`.

    Returns:
        Scores `(*b, L, S)`, of variance 1 when the entries of query and key are independent with
        mean 0 and variance 1.

    Raises:
        ValueError: query and key have different widths.

    Source:
        Vaswani et al. 2017, equation 1 and section 3.2.1.

    >>> scaled_dot(torch.ones(1, 4), torch.ones(2, 4))
    tensor([[2., 2.]])
    """
    check_same_width(query, key)
    return (query / math.sqrt(query.shape[-1])) @ key.mT


def cosine(scale: float = 1.0) -> Callable[[Tensor, Tensor], Tensor]:
    """Make the cosine score, `scale * q . k / (|q| |k|)`.

    Args:
        scale: the largest score; without one above `log S` or so, softmax over `S` keys stays
            close to uniform even when one key equals the query.

    Returns:
        A score for queries `(*b, L, D)` and keys `(*b, S, D)`; a zero vector scores 0.

    Raises:
        ValueError: (from the score) query and key have different widths.

    Source:
        Graves, Wayne, Danihelka 2014, equations 5 and 6.

    >>> cosine()(torch.tensor([[3.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 5.0], [-1.0, 0.0]]))
    tensor([[ 1.,  0., -1.]])
    """

    def score(
        query: Float[Tensor, "*#b L D"], key: Float[Tensor, "*#b S D"]
    ) -> Float[Tensor, "*b L S"]:
        check_same_width(query, key)
        return (scale * _unit(query)) @ _unit(key).mT

    return score


def gaussian(bandwidth: float = 1.0) -> Callable[[Tensor, Tensor], Tensor]:
    """Make the Gaussian score, `-|q - k|^2 / (2 bandwidth^2)`.

    Softmax of it is the Nadaraya-Watson estimator with a Gaussian kernel.

    Args:
        bandwidth: the kernel's standard deviation, in the units of the queries; above 0.

    Returns:
        A score for queries `(*b, L, D)` and keys `(*b, S, D)`. It forms all differences,
        `(*b, L, S, D)`, in at least float32, so that a key equal to the query scores exactly 0. A
        score beyond the type's lowest finite number is that number: `-inf` would forbid the key.

    Raises:
        ValueError: bandwidth is not positive, or (from the score) the widths differ.

    Source:
        Nadaraya 1964; Watson 1964.

    >>> gaussian()(torch.tensor([[0.0]]), torch.tensor([[0.0], [1.0], [2.0]]))
    tensor([[-0.0000, -0.5000, -2.0000]])
    """
    if not bandwidth > 0:
        raise ValueError(f"bandwidth must be positive, got {bandwidth}")

    def score(
        query: Float[Tensor, "*#b L D"], key: Float[Tensor, "*#b S D"]
    ) -> Float[Tensor, "*b L S"]:
        check_same_width(query, key)
        dtype = torch.promote_types(query.dtype, key.dtype)
        wide = torch.promote_types(dtype, torch.float32)
        difference = (query.unsqueeze(-2).to(wide) - key.unsqueeze(-3).to(wide)) / bandwidth
        return (-difference.square().sum(-1) / 2).clamp_min(torch.finfo(dtype).min).to(dtype)

    return score


def log_kernel(feature_map: Callable[[Tensor], Tensor]) -> nn.Module:
    """Make the score `log(phi(q) . phi(k))` of a kernel given by its feature map.

    Softmax of it is linear attention: the weights are the kernel's values divided by their sum.

    Args:
        feature_map: `(*b, N, D)` to `(*b, N, F)`, with entries that are never negative. A module's
            parameters are registered.

    Returns:
        A score for queries `(*b, L, D)` and keys `(*b, S, D)`; `-inf` where the kernel is 0, NaN
        where the feature map broke its promise and the kernel is negative.

    Raises:
        TypeError: feature_map is not callable.
        ValueError: (from the score) query and key have different widths.

    Source:
        Katharopoulos et al. 2020, equation 4; Tsai et al. 2019, section 3.

    >>> log_kernel(torch.exp)(torch.zeros(1, 2), torch.zeros(1, 2))  # log(1 + 1)
    tensor([[0.6931]])
    """
    if not callable(feature_map):
        raise TypeError(f"feature_map must be callable, got {type(feature_map).__name__}")
    return _LogKernel(feature_map)


class _LogKernel(nn.Module):
    def __init__(self, feature_map: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.feature_map = feature_map

    def forward(
        self, query: Float[Tensor, "*#b L D"], key: Float[Tensor, "*#b S D"]
    ) -> Float[Tensor, "*b L S"]:
        check_same_width(query, key)
        kernel = self.feature_map(query) @ self.feature_map(key).mT
        zero = kernel == 0
        return kernel.masked_fill(zero, 1.0).log().masked_fill(zero, float("-inf"))


class Additive(nn.Module):
    """The additive score, `v . tanh(W q + U k)`.

    Args:
        query_dim: width of a query.
        key_dim: width of a key.
        hidden_dim: width of the hidden layer.

    Shapes:
        query `(*b, L, query_dim)`, key `(*b, S, key_dim)`, scores `(*b, L, S)`. The hidden layer is
        `(*b, L, S, hidden_dim)`.

    Raises:
        ValueError: (when called) a width is not the one it was built with.

    Source:
        Bahdanau, Cho, Bengio 2015, section 3.1 and appendix A.1.2.

    >>> score = Additive(query_dim=3, key_dim=2, hidden_dim=8)
    >>> score(torch.zeros(4, 3), torch.zeros(5, 2)).shape
    torch.Size([4, 5])
    """

    def __init__(self, query_dim: int, key_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_dim, hidden_dim, bias=False)
        self.key = nn.Linear(key_dim, hidden_dim, bias=False)
        self.v = nn.Linear(hidden_dim, 1, bias=False)

    def forward(
        self, query: Float[Tensor, "*#b L Dq"], key: Float[Tensor, "*#b S Dk"]
    ) -> Float[Tensor, "*b L S"]:
        """Scores `(*b, L, S)`."""
        _check_width("query", query, "query_dim", self.query.in_features)
        _check_width("key", key, "key_dim", self.key.in_features)
        return self.compare(self.query(query), self.key(key))

    def compare(
        self, query: Float[Tensor, "*#b L H"], key: Float[Tensor, "*#b S H"]
    ) -> Float[Tensor, "*b L S"]:
        """Scores of projected queries `W q` and keys `U k`.

        A decoder projects its keys once and calls this at each step.
        """
        hidden = torch.tanh(query.unsqueeze(-2) + key.unsqueeze(-3))
        return self.v(hidden).squeeze(-1)


class Concat(nn.Module):
    """The concat score, `v . tanh(W [q; k])`.

    The same family of functions as `Additive`, with the two matrices side by side in one.

    Args:
        query_dim: width of a query.
        key_dim: width of a key.
        hidden_dim: width of the hidden layer.

    Shapes:
        query `(*b, L, query_dim)`, key `(*b, S, key_dim)`, scores `(*b, L, S)`. The hidden layer is
        `(*b, L, S, hidden_dim)`.

    Raises:
        ValueError: (when called) a width is not the one it was built with.

    Source:
        Luong, Pham, Manning 2015, section 3.1, "concat".

    >>> score = Concat(query_dim=3, key_dim=2, hidden_dim=8)
    >>> score(torch.zeros(4, 3), torch.zeros(5, 2)).shape
    torch.Size([4, 5])
    """

    def __init__(self, query_dim: int, key_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.query_dim, self.key_dim = query_dim, key_dim
        self.joint = nn.Linear(query_dim + key_dim, hidden_dim, bias=False)
        self.v = nn.Linear(hidden_dim, 1, bias=False)

    def forward(
        self, query: Float[Tensor, "*#b L Dq"], key: Float[Tensor, "*#b S Dk"]
    ) -> Float[Tensor, "*b L S"]:
        """Scores `(*b, L, S)`."""
        _check_width("query", query, "query_dim", self.query_dim)
        _check_width("key", key, "key_dim", self.key_dim)
        batch = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2])
        shape = (*batch, query.shape[-2], key.shape[-2], -1)
        pairs = query.unsqueeze(-2).expand(shape), key.unsqueeze(-3).expand(shape)
        return self.v(torch.tanh(self.joint(torch.cat(pairs, dim=-1)))).squeeze(-1)


class Bilinear(nn.Module):
    """The bilinear or "general" score, `q^T W k`.

    Args:
        query_dim: width of a query.
        key_dim: width of a key.

    Shapes:
        query `(*b, L, query_dim)`, key `(*b, S, key_dim)`, scores `(*b, L, S)`.

    Raises:
        ValueError: (when called) a width is not the one it was built with.

    Source:
        Luong, Pham, Manning 2015, section 3.1, "general".

    >>> score = Bilinear(query_dim=3, key_dim=2)
    >>> score(torch.zeros(4, 3), torch.zeros(5, 2)).shape
    torch.Size([4, 5])
    """

    def __init__(self, query_dim: int, key_dim: int) -> None:
        super().__init__()
        self.key = nn.Linear(key_dim, query_dim, bias=False)

    def forward(
        self, query: Float[Tensor, "*#b L Dq"], key: Float[Tensor, "*#b S Dk"]
    ) -> Float[Tensor, "*b L S"]:
        """Scores `(*b, L, S)`."""
        _check_width("query", query, "query_dim", self.key.out_features)
        _check_width("key", key, "key_dim", self.key.in_features)
        return query @ self.key(key).mT


class Location(nn.Module):
    """The location score, `W q`: where to look from the query alone, whatever the keys hold.

    Args:
        query_dim: width of a query.
        max_keys: the most keys there will ever be; row `j` of `W` scores position `j`.

    Shapes:
        query `(*b, L, query_dim)`, key `(*b, S, any)` with `S <= max_keys`, scores `(*b, L, S)`.

    Raises:
        ValueError: (when called) the query's width is wrong or there are more than max_keys keys.

    Source:
        Luong, Pham, Manning 2015, equation 8.

    >>> score = Location(query_dim=3, max_keys=10)
    >>> score(torch.zeros(4, 3), torch.zeros(5, 2)).shape
    torch.Size([4, 5])
    """

    def __init__(self, query_dim: int, max_keys: int) -> None:
        super().__init__()
        self.position = nn.Linear(query_dim, max_keys, bias=False)

    def forward(
        self, query: Float[Tensor, "*#b L Dq"], key: Float[Tensor, "*#b S Dk"]
    ) -> Float[Tensor, "*b L S"]:
        """Scores `(*b, L, S)`."""
        _check_width("query", query, "query_dim", self.position.in_features)
        if key.shape[-2] > self.position.out_features:
            raise ValueError(
                f"key has {key.shape[-2]} positions but Location was built with "
                f"max_keys={self.position.out_features}"
            )
        batch = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2])
        scores = self.position(query)[..., : key.shape[-2]]
        return scores.expand(*batch, *scores.shape[-2:])


def _unit(x: Tensor) -> Tensor:
    """`x` divided by its length; computed in at least float32, and 0 stays 0.

    Its largest entry is divided out first: the squares of very large or small ones have no place.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    if not x.shape[-1]:
        return x
    largest = wide.detach().abs().amax(dim=-1, keepdim=True)
    wide = wide / largest.masked_fill(largest == 0, 1.0)
    return (wide / wide.norm(dim=-1, keepdim=True).clamp_min(1.0)).to(x.dtype)


def check_same_width(query: Tensor, key: Tensor) -> None:
    """Raise a clear error unless `query` and `key` have the same width."""
    if query.shape[-1] != key.shape[-1]:
        raise ValueError(f"query has width {query.shape[-1]} but key has width {key.shape[-1]}")


def _check_width(name: str, x: Tensor, built_name: str, built: int) -> None:
    if x.shape[-1] != built:
        raise ValueError(f"{name} has width {x.shape[-1]} but {built_name} is {built}")
