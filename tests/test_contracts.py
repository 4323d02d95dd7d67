"""What holds for every public score, normaliser and mask, and for each combination of them."""

import copy
import functools
import inspect
import itertools
import shutil
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from building import (
    BATCH,
    KEYS,
    MASKS,
    NORMALIZERS,
    QUERIES,
    SCORES,
    WIDTH,
    unbuilt,
)
from torch import Tensor, nn
from torch.testing import assert_close

from attnbook import attend, attention_weights, masks, normalizers, scores

REAL = {name: part for name, part in NORMALIZERS.items() if part is not None}
EXACT = {"rtol": 0.0, "atol": 1e-12}  # the same sums in another order, in float64


def combinations(wanted: Callable[[Any, Any], bool] = lambda score, normalizer: True) -> Any:
    """Run a test for every score x normaliser, less the pairs for which it cannot hold, x mask."""
    pairs = [
        pytest.param(s, n, id=f"{s}-{n}")
        for s, n in itertools.product(SCORES, REAL)
        if wanted(SCORES[s], REAL[n])
    ]

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def over_masks(**fixtures: Any) -> None:
            for name, build in {**MASKS, "no mask": _allow_all}.items():
                torch.manual_seed(3)
                try:
                    test(mask=build(masks, QUERIES, KEYS), **fixtures)
                except Exception as error:
                    error.add_note(f"with the mask: {name}")
                    raise

        signature = inspect.signature(test)
        others = [p for name, p in signature.parameters.items() if name != "mask"]
        over_masks.__signature__ = signature.replace(parameters=others)
        return pytest.mark.parametrize(("score", "normalize"), pairs, indirect=True)(over_masks)

    return decorate


def _allow_all(masks: types.ModuleType, L: int, S: int) -> Tensor:
    return torch.ones(1, S, dtype=torch.bool)


each_score = pytest.mark.parametrize("score", SCORES, indirect=True)
each_normalizer = pytest.mark.parametrize("normalize", REAL, indirect=True)


@pytest.fixture
def score(request: Any) -> Any:
    torch.manual_seed(1)
    return _double(SCORES[request.param].build(scores))


@pytest.fixture
def normalize(request: Any) -> Any:
    torch.manual_seed(2)
    return _double(REAL[request.param].build(normalizers))


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(3)
    shapes = (QUERIES, WIDTH), (KEYS, WIDTH), (KEYS, 3)
    return tuple(torch.randn(BATCH, *shape, dtype=torch.float64) for shape in shapes)


def _double(part: Any) -> Any:
    return part.double() if isinstance(part, nn.Module) else part


def _parameters(*parts: Any) -> list[nn.Parameter]:
    return [p for part in parts if isinstance(part, nn.Module) for p in part.parameters()]


def seeded(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    torch.manual_seed(4)
    return function(*args, **kwargs)


# Discovery


@pytest.mark.parametrize(
    ("module", "table"), [(scores, SCORES), (normalizers, NORMALIZERS), (masks, MASKS)]
)
def test_every_public_part_is_built(module: types.ModuleType, table: dict[str, Any]) -> None:
    assert not unbuilt(module, table)


def test_a_new_part_without_a_way_to_build_it_fails_by_name() -> None:
    module = types.ModuleType("attnbook.scores")
    module.__all__ = [*(name for name in scores.__all__ if name != "dot"), "tensor_product"]
    missing, stale = unbuilt(module, SCORES)
    assert missing == (
        "attnbook.scores.tensor_product is public but no test builds it: add an entry "
        "'tensor_product' to SCORES in tests/building.py"
    )
    assert stale == (
        "SCORES in tests/building.py builds 'dot', which attnbook.scores does not have public: "
        "take it out"
    )


# The law of normalisers


@combinations(lambda score, normalizer: normalizer.sums_to_one)
def test_rows_sum_to_one(score: Any, normalize: Any, mask: Tensor, inputs: Any) -> None:
    weights = attend(*inputs, score=score, normalize=normalize, mask=mask).weights
    assert_close(weights.sum(-1), torch.ones(BATCH, QUERIES).double(), **EXACT)


@combinations()
def test_weights_lie_in_the_unit_interval_and_are_zero_where_forbidden(
    score: Any, normalize: Any, mask: Tensor, inputs: Any
) -> None:
    weights = attend(*inputs, score=score, normalize=normalize, mask=mask).weights
    assert ((weights >= 0) & (weights <= 1)).all()
    assert (weights[~mask.expand_as(weights)] == 0).all()
    assert (weights.sum(-1) > 0).all(), "every row here has a key that it may attend to"


@combinations()
def test_dead_rows_are_zero_with_finite_gradients(
    score: Any, normalize: Any, mask: Tensor, inputs: Any
) -> None:
    alive = torch.arange(QUERIES)[:, None] != 2
    leaves = [x.requires_grad_() for x in (*inputs, *_parameters(score, normalize))]
    output, weights = attend(*inputs, score=score, normalize=normalize, mask=mask & alive)
    assert (weights[:, 2] == 0).all()
    assert (output[:, 2] == 0).all()
    assert output[:, [0, 1, 3, 4]].abs().sum() > 0
    for gradient in torch.autograd.grad(output.square().sum(), leaves, allow_unused=True):
        assert gradient is None or gradient.isfinite().all()
    if weights.requires_grad:
        (gradient,) = torch.autograd.grad(
            attention_weights(*inputs[:2], score=score, normalize=normalize, mask=mask & alive)
            .square()
            .sum(),
            inputs[0],
            allow_unused=True,
        )
        assert gradient is None or (gradient[:, 2] == 0).all()


@combinations()
def test_empty_keys_give_zero(score: Any, normalize: Any, mask: Tensor, inputs: Any) -> None:
    query, key, value = (x.requires_grad_() for x in inputs)
    none = mask[..., :0]
    output, weights = attend(
        query, key[:, :0], value[:, :0], score=score, normalize=normalize, mask=none
    )
    assert weights.shape == (BATCH, QUERIES, 0)
    assert output.shape == (BATCH, QUERIES, 3)
    assert (output == 0).all()
    for gradient in torch.autograd.grad(output.sum(), inputs, allow_unused=True):
        assert gradient is None or (gradient == 0).all()


# Symmetries


@combinations(lambda s, n: not (s.by_position or n.by_position or n.random))
def test_permuting_the_keys_permutes_the_weights(
    score: Any, normalize: Any, mask: Tensor, inputs: Any
) -> None:
    query, key, value = inputs
    order = torch.randperm(KEYS)
    parts = {"score": score, "normalize": normalize}
    plain = attend(query, key, value, mask=mask, **parts)
    mixed = attend(query, key[:, order], value[:, order], mask=mask[..., order], **parts)
    assert_close(mixed.weights, plain.weights[..., order], **EXACT)
    assert_close(mixed.output, plain.output, **EXACT)


@combinations(lambda s, n: not n.random)
def test_permuting_the_queries_permutes_the_output(
    score: Any, normalize: Any, mask: Tensor, inputs: Any
) -> None:
    query, key, value = inputs
    order, mask = torch.randperm(QUERIES), mask.expand(BATCH, QUERIES, KEYS)
    parts = {"score": score, "normalize": normalize}
    plain = attend(query, key, value, mask=mask, **parts).output
    mixed = attend(query[:, order], key, value, mask=mask[:, order], **parts).output
    assert_close(mixed, plain[:, order], **EXACT)


@combinations()
def test_a_forbidden_key_has_no_influence(
    score: Any, normalize: Any, mask: Tensor, inputs: Any
) -> None:
    """Key and value `j` are changed in copy `j` of the inputs."""
    query, key, value = (x.expand(KEYS, *x.shape) for x in inputs)
    j = torch.arange(KEYS)
    other_key, other_value = key.clone(), value.clone()
    other_key[j, :, j] += 3.0
    other_value[j, :, j] -= 50.0
    parts = {"score": score, "normalize": normalize, "mask": mask}
    plain = seeded(attend, query, key, value, **parts)
    other = seeded(attend, query, other_key, other_value, **parts)
    blind = ~mask.expand(BATCH, QUERIES, KEYS).movedim(-1, 0)
    assert_close(other.output[blind], plain.output[blind], **EXACT)
    assert_close(other.weights[blind], plain.weights[blind], **EXACT)
    assert not torch.equal(other.output, plain.output)


@pytest.mark.parametrize("normalize", REAL, indirect=True)
@pytest.mark.parametrize("score", SCORES, indirect=True)
@pytest.mark.parametrize("cached", [0, 3])
def test_nothing_earlier_sees_a_future_token(score: Any, normalize: Any, cached: int) -> None:
    """Self-attention; the first `cached` tokens are keys only. Token `t` changes in copy `t`."""
    torch.manual_seed(5)
    tokens = torch.randn(BATCH, KEYS, WIDTH, dtype=torch.float64).expand(KEYS, -1, -1, -1)
    other, t = tokens.clone(), torch.arange(KEYS)
    other[t, :, t] += 3.0
    mask = masks.causal(KEYS - cached, KEYS, offset=cached)

    def output(x: Tensor) -> Tensor:
        parts = {"score": score, "normalize": normalize, "mask": mask}
        return seeded(attend, x[..., cached:, :], x, x, **parts).output

    changed = (output(other) - output(tokens)).abs().amax((1, 3)) > 1e-12
    assert not changed.tril(-1 - cached).any(), "an earlier position saw a change"
    assert changed.any(), "no change was seen at all"
    if normalize is normalizers.softmax:  # which leaves no key out
        assert changed.diagonal(-cached).all(), "a position does not see itself"


@combinations(lambda s, n: not n.random)
def test_padding_changes_nothing(score: Any, normalize: Any, mask: Tensor, inputs: Any) -> None:
    query, key, value = inputs
    parts = {"score": score, "normalize": normalize}
    plain = attend(query, key, value, mask=mask, **parts)
    rubbish = torch.full((BATCH, 2, WIDTH), 30.0).double()
    there = masks.padding(torch.tensor([KEYS]), KEYS + 2)
    padded = attend(
        query,
        torch.cat([key, rubbish], 1),
        torch.cat([value, 1e6 * rubbish[..., :3]], 1),
        mask=there & nn.functional.pad(mask, (0, 2), value=True),
        **parts,
    )
    assert_close(padded.output, plain.output, **EXACT)
    assert_close(padded.weights[..., :KEYS], plain.weights, **EXACT)
    assert (padded.weights[..., KEYS:] == 0).all()


@combinations(lambda s, n: not n.random)
def test_sequences_of_a_batch_do_not_meet(
    score: Any, normalize: Any, mask: Tensor, inputs: Any
) -> None:
    parts = {"score": score, "normalize": normalize}
    together = attend(*inputs, mask=mask, **parts).output
    mask = mask.expand(BATCH, *mask.shape[-2:])
    for b in range(BATCH):
        alone = attend(*(x[b] for x in inputs), mask=mask[b], **parts).output
        assert_close(together[b], alone, **EXACT)


@combinations(lambda s, n: not n.random)
def test_leading_axes_are_free(score: Any, normalize: Any, mask: Tensor) -> None:
    """Queries of (batch, heads), keys of (heads), values of (batch, 1): all broadcast."""
    torch.manual_seed(6)
    heads = 3
    query = torch.randn(BATCH, heads, QUERIES, WIDTH, dtype=torch.float64)
    key = torch.randn(heads, KEYS, WIDTH, dtype=torch.float64)
    value = torch.randn(BATCH, 1, KEYS, 3, dtype=torch.float64)
    mask = mask.expand(BATCH, *mask.shape[-2:])
    parts = {"score": score, "normalize": normalize}
    output = attend(query, key, value, mask=mask[:, None], **parts).output
    assert output.shape == (BATCH, heads, QUERIES, 3)
    spread = (x.expand(BATCH, heads, *x.shape[-2:]).flatten(0, 1) for x in (query, key, value))
    in_one = attend(*spread, mask=mask.repeat_interleave(heads, 0), **parts).output
    assert_close(output.flatten(0, 1), in_one, **EXACT)


# Determinism


@each_score
@each_normalizer
def test_the_seed_decides(score: Any, normalize: Any, inputs: Any) -> None:
    first = seeded(attend, *inputs, score=score, normalize=normalize, dropout=0.3)
    again = seeded(attend, *inputs, score=score, normalize=normalize, dropout=0.3)
    assert torch.equal(first.output, again.output)
    assert torch.equal(first.weights, again.weights)


@pytest.mark.parametrize(
    "normalize", [name for name, part in REAL.items() if part.random], indirect=True
)
def test_a_random_normaliser_draws_anew_at_each_call(normalize: Any) -> None:
    even = torch.zeros(64, KEYS)
    assert not torch.equal(normalize(even), normalize(even))


# Half precision


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@each_score
def test_a_score_in_half_precision_errs_like_its_inputs(
    score: Any, dtype: torch.dtype, inputs: Any
) -> None:
    """At most WIDTH times what a rounding of every input and parameter could do, and of the result.

    The rounding of `n` terms of a sum one after the other is equivalent to a change of each term by
    at most `n` units in the last place (Higham, 2002, section 3.1), `n = 2 WIDTH` here at most.
    """
    half = score.to(dtype) if isinstance(score, nn.Module) else score
    query, key = (x.to(dtype) for x in inputs[:2])
    result = half(query, key)
    assert result.dtype == dtype
    assert result.isfinite().all()
    wide = _double(half)
    inputs = query.double(), key.double()
    exact, eps = wide(*inputs), torch.finfo(dtype).eps
    change = torch.zeros_like(exact)
    for _ in range(8):
        nudged = copy.deepcopy(wide)
        with torch.no_grad():
            for p in _parameters(nudged):
                p.mul_(1 + eps * torch.randn_like(p).sign())
        near = nudged(*(x * (1 + eps * torch.randn_like(x).sign()) for x in inputs))
        change = torch.maximum(change, (near - exact).abs())
    budget = 2 * WIDTH * (change.amax() + eps * exact.abs())
    assert ((result.double() - exact).abs() <= budget).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@each_normalizer
def test_a_normaliser_in_half_precision_rounds_once(normalize: Any, dtype: torch.dtype) -> None:
    """Computed in float32, rounded at the end: the error is one rounding, plus that of float32."""
    torch.manual_seed(7)
    z = (5 * torch.randn(50, KEYS)).to(dtype)
    z[::5, 0], z[1] = float("-inf"), float("-inf")
    normalize = normalize.to(torch.float32) if isinstance(normalize, nn.Module) else normalize
    half, single = seeded(normalize, z), seeded(normalize, z.float())
    assert half.dtype == dtype
    assert torch.equal(half, single.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@each_score
@each_normalizer
def test_half_precision_is_finite(
    score: Any, normalize: Any, dtype: torch.dtype, inputs: Any
) -> None:
    score, normalize = (
        part.to(dtype) if isinstance(part, nn.Module) else part for part in (score, normalize)
    )
    leaves = [x.to(dtype).requires_grad_() for x in inputs]
    mask = masks.causal(QUERIES, KEYS) & (torch.arange(QUERIES)[:, None] != 2)
    output, weights = attend(*leaves, score=score, normalize=normalize, mask=mask)
    assert output.dtype == weights.dtype == dtype
    assert output.isfinite().all()
    for gradient in torch.autograd.grad(output.sum(), leaves, allow_unused=True):
        assert gradient is None or gradient.isfinite().all()


# Gradients and parameters


@pytest.mark.parametrize("score", SCORES, indirect=True)
@pytest.mark.parametrize(
    "normalize",  # another function's gradient, or none, is nothing to compare a difference with
    [name for name, part in REAL.items() if part.gradient == "exact"],
    indirect=True,
)
def test_gradients_are_those_of_finite_differences(score: Any, normalize: Any, inputs: Any) -> None:
    parameters = _parameters(score, normalize)
    mask = masks.causal(QUERIES, KEYS, offset=1) & (torch.arange(QUERIES)[:, None] != 2)

    def output(query: Tensor, key: Tensor, value: Tensor, *_: Tensor) -> Tensor:
        return seeded(attend, query, key, value, score=score, normalize=normalize, mask=mask).output

    leaves = [x[:1].requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(output, (*leaves, *parameters), fast_mode=True)


@each_score
@pytest.mark.parametrize("normalize", ["softmax", "LinearChain"], indirect=True)
def test_every_parameter_matters(score: Any, normalize: Any, inputs: Any) -> None:
    output = attend(*inputs, score=score, normalize=normalize).output
    for part in (score, normalize):
        if isinstance(part, nn.Module):
            for name, p in part.named_parameters():
                (gradient,) = torch.autograd.grad(output.sum(), p, retain_graph=True)
                used = gradient[:KEYS] if name == "position.weight" else gradient
                assert (used != 0).all(), name


@pytest.mark.parametrize(
    ("module", "name", "build"),
    [
        (module, name, part.build)
        for module, table in ((scores, SCORES), (normalizers, REAL))
        for name, part in table.items()
        if _parameters(part.build(module))
    ],
)
def test_a_state_dict_carries_everything(
    module: types.ModuleType, name: str, build: Callable[..., nn.Module], inputs: Any
) -> None:
    one, other = (build(module).double() for _ in range(2))

    def weights(part: Any) -> Tensor:
        parts = {"score": part} if module is scores else {"normalize": part}
        return attention_weights(*inputs[:2], **parts)

    assert not torch.equal(weights(one), weights(other))
    other.load_state_dict(one.state_dict())
    assert torch.equal(weights(one), weights(other))
    assert [name for name, _ in one.named_parameters()] == list(one.state_dict())


# Compilers


def _attention(attnbook: types.ModuleType, name: str) -> nn.Module:
    """A module that does attention with the named part and, if it is a mask, makes it inside."""
    module, _, key = name.partition(".")
    torch.manual_seed(8)
    table = {"scores": SCORES, "normalizers": REAL, "masks": MASKS}[module]
    of = getattr(attnbook, module)

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = None if module == "masks" else table[key].build(of)

        def forward(self, query: Tensor, key_: Tensor, value: Tensor) -> Tensor:
            keywords: dict[str, Any] = {}
            if module == "masks":
                keywords["mask"] = table[key](of, query.shape[-2], key_.shape[-2])
            else:
                keywords["score" if module == "scores" else "normalize"] = self.part
            return attnbook.attend(query, key_, value, **keywords).output

    return Attention()


every_part = pytest.mark.parametrize(
    "name",
    [f"scores.{name}" for name in SCORES]
    + [f"normalizers.{name}" for name in REAL]
    + [f"masks.{name}" for name in MASKS],
)


@every_part
def test_compiles_without_a_graph_break(
    name: str, installed: types.ModuleType, inputs: Any
) -> None:
    attention, inputs = _attention(installed, name), [x.float() for x in inputs]
    torch._dynamo.reset()
    compiled = torch.compile(attention, fullgraph=True, backend="eager")
    assert_close(seeded(compiled, *inputs), seeded(attention, *inputs))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, of itself
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_compiles_to_machine_code(installed: types.ModuleType, inputs: Any) -> None:
    score = installed.Additive(WIDTH, WIDTH, 3)

    def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        mask = installed.causal(QUERIES, KEYS, offset=1)
        normalize = installed.entmax(1.5)
        return installed.attend(
            query, key, value, score=score, mask=mask, normalize=normalize
        ).output

    inputs = [x.float().requires_grad_() for x in inputs]
    torch._dynamo.reset()
    output, plain = torch.compile(attention, fullgraph=True)(*inputs), attention(*inputs)
    assert_close(output, plain)
    gradients = [torch.autograd.grad(x.square().sum(), inputs) for x in (output, plain)]
    for compiled, eager in zip(*gradients, strict=True):
        assert_close(compiled, eager)


@every_part
def test_exports_with_a_free_number_of_queries(
    name: str, installed: types.ModuleType, inputs: Any
) -> None:
    attention, (query, key, value) = _attention(installed, name), (x.float() for x in inputs)
    L = torch.export.Dim("L", min=2, max=KEYS)
    program = torch.export.export(
        attention, (query, key, value), dynamic_shapes=({1: L}, None, None)
    ).module()
    for queries in (2, KEYS):
        query = torch.randn(BATCH, queries, WIDTH)
        assert_close(seeded(program, query, key, value), seeded(attention, query, key, value))
