"""The fast paths against `attend`, which is their specification, and within an error budget."""

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from attnbook import Attended, attend, causal, document, padding, window
from attnbook.fused import query_tiled, rows, sdpa, tiled, tiles

each_path = pytest.mark.parametrize(
    "path", [sdpa, tiled, query_tiled], ids=lambda path: path.__name__
)


@pytest.fixture(autouse=True)
def _tile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles so small that every test has several, and ragged ones at the ends."""
    monkeypatch.setattr(tiles, "TILE", 3)
    monkeypatch.setattr(rows, "ROWS", 3)
    monkeypatch.setattr(rows, "ELEMENTS", 24)


def tensors(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]


def gradients(output: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    return torch.autograd.grad(output, inputs, torch.randn(output.shape).to(output))


SHAPES = {  # query, key, value
    "one sequence": ((7, 4), (8, 4), (8, 4)),
    "values of another width": ((7, 4), (8, 4), (8, 5)),
    "a batch": ((2, 7, 4), (2, 8, 4), (2, 8, 4)),
    "heads": ((2, 3, 7, 4), (2, 3, 8, 4), (2, 3, 8, 4)),
    "shared keys": ((2, 3, 7, 4), (2, 1, 8, 4), (8, 4)),
    "shared queries": ((7, 4), (2, 8, 4), (2, 8, 4)),
    "five axes": ((2, 1, 3, 7, 4), (2, 2, 1, 8, 4), (3, 8, 4)),
    "one key": ((7, 4), (1, 4), (1, 4)),
    "one query": ((2, 1, 4), (2, 8, 4), (2, 8, 4)),
    "tiles that fit": ((6, 4), (9, 4), (9, 4)),
    "no keys": ((2, 7, 4), (2, 0, 4), (2, 0, 3)),
    "no queries": ((2, 0, 4), (2, 8, 4), (2, 8, 4)),
    "no batch": ((0, 7, 4), (0, 8, 4), (0, 8, 4)),
}
MASKS: dict[str, Callable[[int, int], Tensor | None]] = {
    "none": lambda L, S: None,
    "a number": lambda L, S: torch.tensor(True),
    "keys": lambda L, S: torch.arange(S) % 3 != 1,
    "queries": lambda L, S: (torch.arange(L) % 3 != 1)[:, None],  # dead rows
    "causal": lambda L, S: causal(L, S),
    "window": lambda L, S: window(L, S, 1),
    "nothing": lambda L, S: torch.zeros(L, S, dtype=torch.bool),
    "random": lambda L, S: torch.rand(L, S) < 0.3,
}


@each_path
@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("mask", MASKS)
def test_equals_attend(
    path: Callable[..., Attended], shapes: tuple[tuple[int, ...], ...], mask: Any
) -> None:
    inputs = tensors(*SHAPES[shapes])
    mask = MASKS[mask](inputs[0].shape[-2], inputs[1].shape[-2])
    expected = attend(*inputs, mask=mask).output
    output, weights = path(*inputs, mask=mask)
    assert weights is None
    assert output.dtype == expected.dtype
    assert_close(output, expected)
    for got, want in zip(gradients(output, inputs), gradients(expected, inputs), strict=True):
        assert_close(got, want)


@each_path
@pytest.mark.parametrize("axes", [(2,), (2, 3), (2, 2, 3)])
def test_masks_of_a_batch_broadcast(path: Callable[..., Attended], axes: tuple[int, ...]) -> None:
    inputs = tensors(*((*axes, 8, 4),) * 3)
    ids = torch.randint(3, (*axes[:-1], 1, 8))  # the same for every head
    some = torch.rand(axes[-1], 1, 8) < 0.5  # the same for every query, and sequence
    lengths = torch.randint(9, (axes[0], *(1,) * (len(axes) - 1)))
    for mask in (document(ids), some, padding(lengths, 8), some & causal(8, 8)):
        expected = attend(*inputs, mask=mask).output
        output = path(*inputs, mask=mask).output
        assert_close(output, expected)
        for got, want in zip(gradients(output, inputs), gradients(expected, inputs), strict=True):
            assert_close(got, want)


@pytest.mark.parametrize("path", [attend, sdpa, tiled], ids=lambda path: path.__name__)
def test_a_mask_may_follow_leading_axes_that_only_the_value_has(
    path: Callable[..., Attended],
) -> None:
    query, key, value = tensors((7, 4), (8, 4), (2, 8, 5))
    mask = padding(torch.tensor([3, 8]), 8)
    output = path(query, key, value, mask=mask).output
    for row in range(2):
        assert_close(output[row], attend(query, key, value[row], mask=mask[row]).output)


@each_path
def test_strides_do_not_matter(path: Callable[..., Attended]) -> None:
    """Heads cut out of one projection, as a layer makes them."""
    (joint,) = tensors((2, 7, 3 * 2 * 4))
    inputs = [x.unflatten(-1, (2, 4)).transpose(1, 2) for x in joint.chunk(3, dim=-1)]
    expected, output = attend(*inputs).output, path(*inputs).output
    assert_close(output, expected)
    assert_close(gradients(output, [joint]), gradients(expected, [joint]))


@each_path
def test_rows_without_a_key_are_zero_with_finite_gradients(path: Callable[..., Attended]) -> None:
    inputs = tensors((2, 7, 4), (2, 8, 4), (2, 8, 4), dtype=torch.float32)
    output = path(*inputs, mask=(torch.arange(7) != 2)[:, None]).output
    assert (output[:, 2] == 0).all()
    of_query, of_key, of_value = gradients(output, inputs)
    assert (of_query[:, 2] == 0).all()
    assert of_query.isfinite().all()
    assert of_key.isfinite().all()
    assert of_value.isfinite().all()


@each_path
@pytest.mark.parametrize("size", [1e2, 1e4, 1e8])
def test_large_scores_stay_finite(path: Callable[..., Attended], size: float) -> None:
    inputs = tensors((7, 4), (8, 4), (8, 4), dtype=torch.float32)
    inputs[0] = (size * inputs[0]).detach().requires_grad_()
    output = path(*inputs, mask=causal(7, 8)).output
    assert_close(output, attend(*inputs, mask=causal(7, 8)).output)
    for gradient in gradients(output, inputs):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("size", [1e2, 1e8, 1e30])
def test_tiles_share_a_gradient_between_equal_scores_however_large(size: float) -> None:
    query, key, value = (torch.ones(n, 4, requires_grad=True) for n in (2, 8, 8))
    output = tiled(size * query, key, value).output
    (gradient,) = torch.autograd.grad(output.sum(), value)
    assert_close(gradient, torch.full((8, 4), 2 / 8))


def test_gradients_are_those_of_finite_differences() -> None:
    inputs = tensors((2, 5, 3), (2, 7, 3), (2, 7, 2))
    mask = causal(5, 7, offset=1) & (torch.arange(5) != 3)[:, None]

    def output(*inputs: Tensor, dropout: float) -> Tensor:
        torch.manual_seed(2)
        return tiled(*inputs, mask=mask, dropout=dropout).output

    for dropout in (0.0, 0.4):
        assert torch.autograd.gradcheck(lambda *x, p=dropout: output(*x, dropout=p), inputs)


@pytest.mark.parametrize("path", [tiled, query_tiled], ids=lambda path: path.__name__)
def test_a_second_derivative_is_refused(path: Callable[..., Attended]) -> None:
    """Rather than be wrong."""
    inputs = tensors((5, 3), (7, 3), (7, 3))
    output = path(*inputs).output
    with pytest.raises(RuntimeError, match=rf"^{path.__name__} has first-order gradients only"):
        torch.autograd.grad(output.sum(), inputs, create_graph=True)


# Error budget


@pytest.mark.parametrize("spread", [1.0, 6.0])
@pytest.mark.parametrize("mask", [None, "causal", "padding"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@each_path
def test_error_budget(
    path: Callable[..., Attended],
    dtype: torch.dtype,
    mask: Any,
    spread: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Against float64, at most 2 x the error of `attend` in the same type; gradients, 3 x."""
    monkeypatch.setattr(tiles, "TILE", 64)
    shapes = ((2, 2, 150, 16), (2, 2, 170, 16), (2, 2, 170, 16))
    inputs = tensors(*shapes, dtype=dtype)
    inputs[0] = (spread * inputs[0]).detach().requires_grad_()
    wide = [x.detach().double().requires_grad_() for x in inputs]
    mask = {
        None: None,
        "causal": causal(150, 170, offset=20),
        "padding": padding(torch.tensor([[60], [170]]), 170),
    }[mask]
    exact, plain, fast = (
        [output, *gradients(output, x)]
        for f, x in ((attend, wide), (attend, inputs), (path, inputs))
        for output in [f(*x, mask=mask).output]
    )
    eps = torch.finfo(dtype).eps
    for name, factor, want, slow, got in zip(
        ("output", "query", "key", "value"), (2, 3, 3, 3), exact, plain, fast, strict=True
    ):
        assert got.dtype == dtype
        plain_error, error = ((x.double() - want).abs().amax().item() for x in (slow, got))
        assert error <= factor * (plain_error + eps), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_tiles_of_half_precision_are_computed_in_float32(dtype: torch.dtype) -> None:
    """And rounded once, at the end."""
    inputs = tensors((7, 4), (8, 4), (8, 4), dtype=dtype)
    single = tiled(*(x.float() for x in inputs)).output
    assert torch.equal(tiled(*inputs).output, single.to(dtype))


def test_autocast_does_not_narrow_the_tiles() -> None:
    """Also when the backward pass runs inside it."""
    inputs = tensors((7, 4), (8, 4), (8, 4), dtype=torch.float32)
    expected = tiled(*inputs).output
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = tiled(*inputs).output
        inside = gradients(output, inputs)
    assert torch.equal(output, expected)
    for got, want in zip(inside, gradients(expected, inputs), strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize("path", [attend, sdpa, tiled], ids=lambda path: path.__name__)
def test_autocast_takes_inputs_of_two_types(path: Callable[..., Attended]) -> None:
    """As a layer gives them: a query out of a matrix product, keys that were stored before."""
    inputs = tensors((7, 4), (8, 4), (8, 4), dtype=torch.float32)
    narrow = inputs[0].bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = path(narrow, *inputs[1:], mask=causal(7, 8)).output
    expected = attend(*inputs, mask=causal(7, 8)).output
    assert_close(output.float(), expected, atol=0.03, rtol=0.03)
    with pytest.raises(TypeError, match=r"^query is torch\.bfloat16 but key is torch\.float32$"):
        path(narrow, *inputs[1:])


# Dropout


@each_path
def test_dropout(path: Callable[..., Attended]) -> None:
    """Values that are the rows of the identity show each weight that reached them."""
    query, key, _ = tensors((2, 90, 4), (2, 40, 4), (0,))
    identity, dropout = torch.eye(40).double(), 0.3
    weights = attend(query, key, identity).weights
    seen = path(query, key, identity, dropout=dropout).output
    kept = seen != 0
    assert_close(seen[kept], weights[kept] / (1 - dropout))
    deviation = math.sqrt(dropout * (1 - dropout) / kept.numel())
    assert abs(kept.double().mean() - (1 - dropout)) < 4 * deviation
    tiles = kept.unflatten(1, (30, 3))[..., :39].unflatten(-1, (13, 3)).transpose(2, 3)
    assert tiles.flatten(-2).unique(dim=0).shape[0] == 2, "the sequences share no pattern"
    patterns = tiles.reshape(-1, 9).unique(dim=0).shape[0]
    assert patterns > 150, "nor do the tiles"


@each_path
def test_dropout_follows_the_seed(path: Callable[..., Attended]) -> None:
    inputs = tensors((7, 4), (8, 4), (8, 4))

    def output(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return path(*inputs, dropout=0.5).output

    assert torch.equal(output(1), output(1))
    assert not torch.equal(output(1), output(2))
    assert not torch.equal(path(*inputs, dropout=0.5).output, path(*inputs, dropout=0.5).output)


def test_dropout_of_zero_draws_nothing() -> None:
    inputs, state = tensors((7, 4), (8, 4), (8, 4)), torch.get_rng_state()
    tiled(*inputs)
    assert torch.equal(torch.get_rng_state(), state)


# Memory


class LargestTensor(TorchDispatchMode):
    """The number of elements of the largest storage that any operation inside made or saw."""

    elements = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else [result]:
            if isinstance(x, Tensor):
                self.elements = max(self.elements, x.untyped_storage().size() // x.itemsize)
        return result


@pytest.mark.parametrize("tokens", [512, 1024])
def test_memory_is_linear_forward_and_backward(
    tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "TILE", 64)
    width = 8
    inputs = tensors(*((tokens, width),) * 3, dtype=torch.float32)
    mask = padding(torch.tensor(tokens - 9), tokens)
    saved: list[int] = []

    def largest(path: Callable[..., Attended]) -> tuple[int, int]:
        saved.clear()
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x: saved.append(x.untyped_storage().size() // x.itemsize) or x, lambda x: x
        ):
            with LargestTensor() as forward:
                output = path(*inputs, mask=mask, dropout=0.1).output
            with LargestTensor() as backward:
                gradients(output, inputs)
        return forward.elements, backward.elements

    assert min(largest(attend)) >= tokens**2, "the meter sees what the readable path makes"
    assert sum(saved) >= tokens**2
    assert max(largest(tiled)) == tokens * width
    # query, key, value, output, the largest score, the sum, and the mask as it came
    assert sum(saved) == 4 * tokens * width + 3 * tokens


# Compilers


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's
@pytest.mark.parametrize("name", ["sdpa", "tiled"])
def test_compiles_without_a_graph_break(name: str, installed: ModuleType) -> None:
    path, mask = getattr(installed.fused, name), causal(7, 8)
    inputs = tensors((2, 7, 4), (2, 8, 4), (2, 8, 4), dtype=torch.float32)
    torch._dynamo.reset()
    compiled = torch.compile(path, fullgraph=True, backend="aot_eager")
    fast, plain = (f(*inputs, mask=mask).output for f in (compiled, path))
    assert_close(fast, plain)
    assert_close(gradients(fast, inputs), gradients(plain, inputs))


def test_sdpa_exports_with_any_number_of_tokens(installed: ModuleType) -> None:
    class Attention(torch.nn.Module):
        def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return installed.fused.sdpa(query, key, value).output

    L, S = (torch.export.Dim(name, min=2, max=64) for name in "LS")
    inputs = tuple(x.detach() for x in tensors((2, 7, 4), (2, 8, 4), (2, 8, 4)))
    program = torch.export.export(
        Attention(), inputs, dynamic_shapes=({1: L}, {1: S}, {1: S})
    ).module()
    inputs = tuple(x.detach() for x in tensors((2, 3, 4), (2, 20, 4), (2, 20, 4)))
    assert_close(program(*inputs), attend(*inputs).output)
