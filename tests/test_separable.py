"""Additive attention by exponentials of one side each, against the textbook form."""

import math
import shutil
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from test_fused import MASKS, SHAPES, LargestTensor, gradients, tensors
from torch import Tensor, nn
from torch.testing import assert_close

from attnbook import Attended, attend
from attnbook.bahdanau import BahdanauAttention
from attnbook.fused import Separable, additive, additive_compiled, compiled, reciprocals
from attnbook.fused.compiled import COMPILED
from attnbook.fused.reciprocals import DIVIDED
from attnbook.point_encoders import RecurrentEncoder
from attnbook.pointer import PointerNetwork
from attnbook.scores import Additive


def separable(*inputs: Tensor, score: Additive, **options: Any) -> Attended:
    return attend(*inputs, score=Separable(score), **options)._replace(weights=None)


PATHS = [additive, additive_compiled, separable]
each_path = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)


@pytest.fixture(autouse=True)
def _tile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles so small that every test has several, and loops that are not compiled."""
    monkeypatch.setattr(reciprocals, "TILE", 60)
    monkeypatch.setattr(reciprocals, "GROUP", 3)
    monkeypatch.setattr(compiled, "_quick", lambda loop: loop)


def score(H: int = 5, dtype: torch.dtype = torch.float64, width: int = 4) -> Additive:
    torch.manual_seed(3)
    return Additive(width, width, H).to(dtype)


def everything(f: Callable[..., Attended], inputs: list[Tensor], s: Additive, **options: Any):
    """The output, and the gradients of inputs and parameters."""
    output = f(*inputs, score=s, **options).output
    return [output.detach(), *gradients(output, [*inputs, *s.parameters()])]


@each_path
@pytest.mark.parametrize("shapes", SHAPES)
def test_equals_attend(path: Callable[..., Attended], shapes: str) -> None:
    inputs, s = tensors(*SHAPES[shapes]), score()
    for name in ("none", "queries", "random"):
        mask = MASKS[name](inputs[0].shape[-2], inputs[1].shape[-2])
        assert path(*inputs, score=s, mask=mask).weights is None
        want = everything(attend, inputs, s, mask=mask)
        for got, expected in zip(everything(path, inputs, s, mask=mask), want, strict=True):
            assert_close(got, expected)


def test_equals_a_loop() -> None:
    """Equations 5 and 6 of the paper, index by index."""
    query, key, value = (x.detach() for x in tensors((3, 2), (4, 3), (4, 2)))
    torch.manual_seed(0)
    s = Additive(2, 3, 7).double()
    mask = torch.tensor([[1, 1, 0, 1], [0, 0, 0, 0], [0, 1, 1, 1]]).bool()
    W, U, v = (p.tolist() for p in s.parameters())
    for path in PATHS:
        output = path(query, key, value, score=s, mask=mask).output
        for i in range(3):
            terms = []
            for j in range(4):
                e = 0.0
                for h in range(7):
                    a = sum(W[h][d] * query[i, d].item() for d in range(2))
                    b = sum(U[h][d] * key[j, d].item() for d in range(3))
                    e += v[0][h] * math.tanh(a + b)
                terms.append(math.exp(e) if mask[i, j] else 0.0)
            for d in range(2):
                c = sum(t * value[j, d].item() for j, t in enumerate(terms))
                assert output[i, d].item() == pytest.approx(c / sum(terms) if any(terms) else 0.0)


SIZES: dict[str, tuple[float, float, float]] = {  # of query, key and v
    "ordinary": (1.0, 1.0, 1.0),
    "near the limit of the loops": (1.2, 1.2, 1.0),
    "near it, and a small v": (1.2, 1.2, 1e-3),
    "both near the limit": (40.0, 40.0, 1.0),
    "both beyond it": (1e4, 1e4, 1.0),
    "queries beyond it": (1e30, 1.0, 1.0),
    "keys beyond it": (1.0, 1e30, 1.0),
    "denormal": (1e-40, 1e-40, 1.0),
    "scores of 1e4": (1.0, 1.0, 1e4),
    "small, and a large v": (1e-3, 1e-3, 1e4),
    "small, and v of 50": (1e-4, 1e-4, 50.0),
    "v that is hardly there": (1.0, 1.0, 1e-30),
}


@each_path
@pytest.mark.parametrize("sizes", SIZES)
def test_error_budget_for_any_finite_input(path: Callable[..., Attended], sizes: str) -> None:
    """Against float64, at most 2 x the error of `attend` in float32; gradients, 3 x."""
    of_query, of_key, of_v = SIZES[sizes]
    s = Additive(4, 4, 33)
    with torch.no_grad():
        for parameter, size in zip(s.parameters(), (1.0, 1.0, of_v), strict=True):
            nn.init.normal_(parameter, std=size / parameter.shape[1] ** 0.5)
        inputs = tensors((2, 30, 4), (2, 40, 4), (2, 40, 4), dtype=torch.float32)
        inputs[0] *= of_query
        inputs[1] *= of_key
        inputs[1][:, :30] = torch.where(torch.rand(2, 30, 1) < 0.5, -inputs[0], inputs[1][:, :30])
        s.key.weight.copy_(s.query.weight)  # so that some pairs cancel
    wide = Additive(4, 4, 33).double()
    wide.load_state_dict(s.state_dict())
    mask = torch.rand(30, 40) < 0.7
    exact = everything(
        attend, [x.detach().double().requires_grad_() for x in inputs], wide, mask=mask
    )
    plain, fast = (everything(f, inputs, s, mask=mask) for f in (attend, path))
    eps = torch.finfo(torch.float32).eps
    for i, (want, slow, got) in enumerate(zip(exact, plain, fast, strict=True)):
        scale = max(1.0, float(want.detach().abs().max()))
        slow_error, error = (float((x.double() - want).abs().max()) for x in (slow, got))
        assert error <= (3 if i else 2) * (slow_error + eps * scale), i


@each_path
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(path: Callable[..., Attended], dtype: torch.dtype) -> None:
    """Computed in float32 once projected, so nearer to float64 than `attend`, or as near."""
    inputs, s = tensors((9, 4), (8, 4), (8, 4), dtype=dtype), score(33, dtype)
    wide = score(33).double()
    wide.load_state_dict(s.state_dict())
    exact = attend(*(x.double() for x in inputs), score=wide).output
    plain, got = (f(*inputs, score=s).output for f in (attend, path))
    assert got.dtype == dtype
    error = (got - exact).abs().max()
    assert error <= 2 * ((plain - exact).abs().max() + torch.finfo(dtype).eps)


@each_path
def test_autocast_runs_in_float32_inside(path: Callable[..., Attended]) -> None:
    inputs, s = tensors((9, 4), (8, 4), (8, 4), dtype=torch.float32), score(9, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = everything(path, inputs, s)
    for x, want in zip(got, everything(attend, inputs, s), strict=True):
        assert_close(x.float(), want, atol=0.05, rtol=0.05)


@each_path
def test_a_forbidden_key_does_not_set_the_scale(path: Callable[..., Attended]) -> None:
    """Its score is 4,000 above the others: taken off before the mask, it would leave only zeros."""
    s = Additive(1, 1, 1)
    nn.init.ones_(s.key.weight)
    nn.init.zeros_(s.query.weight)
    nn.init.constant_(s.v.weight, 2000.0)
    key, value = torch.tensor([[9.0], [-9.0], [-9.0]]), torch.tensor([[5.0], [1.0], [2.0]])
    mask = torch.tensor([False, True, True])
    assert_close(
        path(torch.zeros(1, 1), key, value, score=s, mask=mask).output, torch.tensor([[1.5]])
    )


def test_gradients_are_those_of_finite_differences() -> None:
    inputs, s = tensors((2, 5, 4), (2, 7, 4), (2, 7, 2)), score(7)
    mask = (torch.rand(5, 7) < 0.7) & (torch.arange(5) != 3)[:, None]

    def mixed(*x: Tensor, path: Callable[..., Attended], dropout: float) -> Tensor:
        torch.manual_seed(2)
        return path(*x[:3], score=s, mask=mask, dropout=dropout).output

    every = (*inputs, *s.parameters())
    for path, dropout in ((additive, 0.0), (additive, 0.4), (additive_compiled, 0.0)):
        f = lambda *x, p=path, d=dropout: mixed(*x, path=p, dropout=d)  # noqa: E731
        assert torch.autograd.gradcheck(f, every, fast_mode=True)


def test_scores_alone_have_the_gradient_of_the_constant() -> None:
    """`sum_h v_h` falls out of a softmax, but not of the scores: their sum moves with it."""
    query, key = (x.detach() for x in tensors((5, 4), (7, 4)))
    s = score(7)
    got, want = (
        torch.autograd.grad(f(query, key).sum(), list(s.parameters())) for f in (Separable(s), s)
    )
    assert_close(got, want)
    assert_close(Separable(s)(query, key), s(query, key))


@pytest.mark.parametrize("path", [additive, separable], ids=lambda path: path.__name__)
def test_a_second_derivative_is_refused(path: Callable[..., Attended]) -> None:
    inputs, s = tensors((5, 4), (7, 4), (7, 2)), score()
    output = path(*inputs, score=s).output
    with pytest.raises(RuntimeError, match=r"has first-order gradients only: use attend"):
        torch.autograd.grad(output.sum(), inputs[:1], create_graph=True)


@each_path
def test_dropout(path: Callable[..., Attended]) -> None:
    """Values that are the rows of the identity show each weight that reached them."""
    query, key = (x.detach() for x in tensors((2, 90, 4), (2, 40, 4)))
    identity, s = torch.eye(40).double(), score()
    weights = attend(query, key, identity, score=s).weights
    seen = path(query, key, identity, score=s, dropout=0.3).output
    kept = seen != 0
    assert_close(seen[kept], weights[kept] / 0.7)
    deviation = math.sqrt(0.3 * 0.7 / kept.numel())
    assert abs(kept.double().mean() - 0.7) < 4 * deviation
    assert not torch.equal(kept[0], kept[1])


def test_no_tensor_has_an_entry_for_each_unit_of_each_pair(monkeypatch: Any) -> None:
    monkeypatch.setattr(reciprocals, "TILE", 2**12)
    inputs, s = tensors((256, 4), (256, 4), (256, 4), dtype=torch.float32), score(64, torch.float32)
    with LargestTensor() as largest:
        additive(*inputs, score=s).output.sum().backward()
    assert largest.elements <= 256 * 256


# In a decoder's place


@pytest.mark.parametrize("size", [1.0, 500.0])
def test_a_pointer_network_points_alike(size: float) -> None:
    """Also where keys are too large for exponentials."""
    torch.manual_seed(0)
    model = PointerNetwork(RecurrentEncoder(2, 6)).double()
    with torch.no_grad():
        model.score.key.weight.mul_(size)
    points, lengths = torch.rand(3, 5, 2).double(), torch.tensor([5, 3, 4])
    target = torch.tensor([[1, 2, 0], [3, 1, 0], [2, 4, 0]])
    names = [name for name, _ in model.named_parameters()]
    want, chosen = model(points, lengths, target), model.greedy(points, lengths)
    wanted = torch.autograd.grad(want.log_probability.sum(), list(model.parameters()))
    beams = model.beam(points, lengths, 3)
    state = {name: x.clone() for name, x in model.state_dict().items()}
    model.score = Separable(model.score)
    assert {name for name, _ in model.named_parameters()} == set(names)
    model.load_state_dict(state)
    assert model.score.key(torch.ones(1, 1, 6).double() * 9).shape[-1] == (7 if size > 1 else 6)
    got = model(points, lengths, target)
    assert_close(got.weights, want.weights)
    parameters = dict(model.named_parameters())
    found = torch.autograd.grad(got.log_probability.sum(), [parameters[name] for name in names])
    assert_close(found, wanted)
    assert torch.equal(model.greedy(points, lengths).pointers, chosen.pointers)
    assert torch.equal(model.beam(points, lengths, 3).pointers, beams.pointers)


def test_bahdanau_attention_looks_alike() -> None:
    attention = BahdanauAttention(3, 6, 8)
    state, annotations = torch.randn(2, 3), torch.randn(2, 5, 6)
    mask = torch.ones(2, 1, 5).bool()

    def look() -> Attended:
        return attention(state, attention.project(annotations), annotations, mask)

    want = look()
    attention.score = Separable(attention.score)
    for got, expected in zip(look(), want, strict=True):
        assert_close(got, expected)


# Mistakes


def test_mistakes_are_named(installed: ModuleType) -> None:
    query, key, value = torch.zeros(3, 4), torch.zeros(5, 6), torch.zeros(5, 2)
    s = installed.Additive(4, 6, 8) if hasattr(installed, "Additive") else None
    s = s or installed.scores.Additive(4, 6, 8)
    for path in (installed.fused.additive, installed.fused.additive_compiled):
        for changed, error, message in (
            ({"score": nn.Linear(1, 1)}, TypeError, "score must be an Additive, got Linear"),
            ({"query": query[:, :3]}, ValueError, "query has width 3 but query_dim is 4"),
            ({"key": key[:, :4]}, ValueError, "key has width 4 but key_dim is 6"),
            ({"value": value[:4]}, ValueError, "key has 5 positions but value has 4"),
            ({"mask": torch.ones(3, 5)}, TypeError, "mask must be a boolean tensor"),
            ({"dropout": 1.0}, ValueError, "dropout must be in"),
        ):
            given = {"query": query, "key": key, "value": value, "score": s, **changed}
            with pytest.raises(error, match=f"^{message}"):
                path(**given)
    with pytest.raises(TypeError, match=r"^score must be an Additive, got Linear$"):
        installed.fused.Separable(nn.Linear(1, 1))
    with pytest.raises(ValueError, match=r"^query has width 3 but query_dim is 4$"):
        installed.fused.Separable(s)(query[:, :3], key)


EDGES = [(1, 1, 1), (1, 2, 5), (3, 1, 4), (6, 17, 129), (9, 16, 128), (5, 33, 300)]


@pytest.mark.parametrize(("L", "S", "H"), EDGES)
def test_lines_and_groups_that_are_not_full(L: int, S: int, H: int) -> None:
    """Scores and gradients of the loops are those of the divisions, whatever is padded."""
    torch.manual_seed(0)
    E, P = torch.rand(2, H, L).double() + 0.1, torch.rand(2, H, S).double() + 0.1
    v, g = torch.randn(H).double(), torch.randn(2, L, S).double()
    for way in ("forward", "backward"):
        inputs = (E, P, v, g)[: 3 if way == "forward" else 4]
        got, wanted = (getattr(sums, way)(*inputs) for sums in (COMPILED, DIVIDED))
        assert_close(got, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [1e3, 1e-6])
def test_the_ends_of_the_range_are_numbers(size: float) -> None:
    """All exponents at the limits at once, with the largest v and with one that is hardly there."""
    torch.manual_seed(0)
    ends = (2 * COMPILED.limit * torch.tensor([-1.0, 1.0])).exp()
    E, P = (ends[torch.randint(2, (1, 64, n))] for n in (8, 16))
    E[:, :, 0], P[:, :, 0] = ends[0], ends[0]
    E[:, :, 1], P[:, :, 1] = ends[1], ends[1]
    v = size * torch.rand(64)
    wanted = DIVIDED.forward(E.double(), P.double(), v.double())
    assert_close(COMPILED.forward(E, P, v).double(), wanted, rtol=0.0, atol=1e-5 * size)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, of itself
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_the_loops_compile_once_for_all_sizes(installed: ModuleType) -> None:
    """Sizes that are equal, or equal to how far a loop is unrolled, are like all others."""
    torch._dynamo.reset()
    sizes = [(16, 256, 16), (16, 64, 128), (64, 64, 64), (20, 70, 60), (2, 3, 1)]
    for number, (L, S, H) in enumerate(sizes):
        inputs = tensors((L, 4), (S, 4), (S, 4), dtype=torch.float32)
        s = installed.Additive(4, 4, H)
        with torch._dynamo.config.patch(error_on_recompile=number > 0):
            got = everything(installed.fused.additive_compiled, inputs, s)
        assert_close(got, everything(installed.fused.additive, inputs, s))


def test_a_projection_at_the_limit_has_a_gradient() -> None:
    """A side that is clamped has none; at the limit itself nothing is clamped."""
    s = Additive(1, 1, 1)
    with torch.no_grad():
        for parameter in s.parameters():
            parameter.fill_(1.0)
    for path, limit in ((additive_compiled, COMPILED.limit), (additive, DIVIDED.limit)):
        inputs = [
            torch.tensor(x)[:, None] for x in ([limit, 0.5], [-limit, 0.5 - limit], [1.0, 2.0])
        ]
        for x in inputs:
            x.requires_grad_()
        assert_close(
            everything(path, inputs, s), everything(attend, inputs, s), rtol=1e-4, atol=1e-6
        )


def test_loops_that_do_not_compile_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, s = tensors((5, 4), (7, 4), (7, 2)), score()

    def quick(loop: Any) -> Any:
        def fail(*_: Tensor) -> None:
            raise torch._dynamo.exc.Unsupported("no compiler")

        return fail

    monkeypatch.setattr(compiled, "_quick", quick)
    with pytest.raises(RuntimeError, match=r"^additive_compiled could not compile its loops"):
        additive_compiled(*inputs, score=s)
