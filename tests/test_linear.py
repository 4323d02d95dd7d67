"""Linear attention: loops over indices, equal forms, and the laws they share."""

import re
from collections.abc import Callable

import pytest
import torch
from building import as_installed
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from attnbook import attend, causal, log_kernel
from attnbook.linear import (
    Linear,
    chunked,
    elu_plus_one,
    linear_attention,
    parallel,
    recurrent,
)

CAUSAL: dict[str, Callable[..., Linear]] = {
    "parallel": parallel,
    "recurrent": recurrent,
    "chunked(3)": lambda *x, **more: chunked(*x, chunk=3, **more),
    "chunked": chunked,
}
each_form = pytest.mark.parametrize("form", CAUSAL)
either = pytest.mark.parametrize("normalized", [True, False])


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def inputs(*batch: int, length: int = 7, width: int = 4, value: int = 3) -> list[Tensor]:
    return [numbers(*batch, length, w, seed=seed) for seed, w in enumerate((width, width, value))]


def by_loops(query: Tensor, key: Tensor, value: Tensor, seen: Callable, normalized: bool) -> Tensor:
    """Equations 4, 8 and 9 of Katharopoulos et al., a pair of positions at a time."""
    rows = []
    for i, q in enumerate(query):
        above, below = [0.0] * value.shape[1], 0.0
        for j, k in enumerate(key):
            if not seen(i, j):
                continue
            kernel = 0.0
            for a, b in zip(q.tolist(), k.tolist(), strict=True):
                kernel += feature(a) * feature(b)
            below += kernel
            above = [s + kernel * v for s, v in zip(above, value[j].tolist(), strict=True)]
        rows.append([s / below if normalized else s for s in above])
    return torch.tensor(rows, dtype=torch.float64)


def feature(x: float) -> float:
    """Equation 7: elu(x) + 1."""
    return float(torch.nn.functional.elu(torch.tensor(x, dtype=torch.float64))) + 1


# Linear attention


def test_the_feature_map_is_elu_plus_one_and_does_not_round_to_zero() -> None:
    x = numbers(6, 2).requires_grad_()
    assert_close(elu_plus_one(x), torch.nn.functional.elu(x) + 1)
    assert torch.autograd.gradcheck(elu_plus_one, (x,))
    at_zero = torch.zeros(1, 1, requires_grad=True)
    elu_plus_one(at_zero).backward()
    assert at_zero.grad == 1
    assert (elu_plus_one(torch.tensor([[-30.0]])) > 0).all()


@either
def test_attention_to_all_is_that_of_the_paper(normalized: bool) -> None:
    query, key, value = numbers(3, 4), numbers(5, 4, seed=1), numbers(5, 2, seed=2)
    found = linear_attention(query, key, value, normalized=normalized)
    wanted = by_loops(query, key, value, lambda i, j: True, normalized)
    assert_close(found.output, wanted)
    assert found.weights is None


@either
@each_form
def test_causal_attention_is_that_of_the_paper(form: str, normalized: bool) -> None:
    query, key, value = inputs()
    found = CAUSAL[form](query, key, value, normalized=normalized)
    assert_close(found.output, by_loops(query, key, value, lambda i, j: j <= i, normalized))
    assert_close(found.state.memory, elu_plus_one(key).T @ value)
    assert_close(found.state.total, elu_plus_one(key).sum(0))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 6), st.booleans())
def test_all_forms_are_one_function(first: int, second: int, chunk: int, normalized: bool) -> None:
    """In one piece or in two, of any length, with any chunk."""
    pieces = [inputs(2, length=first), [x + 0.1 for x in inputs(2, length=second)]]
    whole = [torch.cat(pair, dim=-2) for pair in zip(*pieces, strict=True)]
    wanted = parallel(*whole, normalized=normalized)
    forms = [parallel, recurrent, lambda *x, **more: chunked(*x, chunk=chunk, **more)]
    for form in forms:
        assert_close(form(*whole, normalized=normalized), wanted)
        one = form(*pieces[0], normalized=normalized)
        two = form(*pieces[1], normalized=normalized, state=one.state)
        assert_close(torch.cat([one.output, two.output], dim=-2), wanted.output)
        assert_close(two.state, wanted.state)


@each_form
def test_causal_linear_attention_is_softmax_of_a_log_kernel(form: str) -> None:
    for features in (elu_plus_one, torch.exp):
        x = inputs(2)
        wanted = attend(*x, score=log_kernel(features), mask=causal(7, 7)).output
        assert_close(CAUSAL[form](*x, feature_map=features).output, wanted)
        unmasked = attend(*x, score=log_kernel(features)).output
        assert_close(linear_attention(*x, feature_map=features).output, unmasked)


@each_form
def test_a_later_position_changes_nothing(form: str) -> None:
    x = inputs(2)
    before = CAUSAL[form](*x).output
    changed = [torch.cat([y[:, :5], y[:, 5:] + 3], dim=1) for y in x]
    after = CAUSAL[form](*changed).output
    assert torch.equal(before[:, :5], after[:, :5])
    assert (before[:, 5:] - after[:, 5:]).abs().min() > 1e-6


@either
@each_form
def test_nothing_seen_gives_zeros_with_finite_gradients(form: str, normalized: bool) -> None:
    """A feature map may be 0 everywhere: then so is the row, and not NaN."""
    query, key, value = (x.requires_grad_() for x in inputs())
    with torch.no_grad():
        key[:3] = -1.0
    output = CAUSAL[form](query, key, value, feature_map=torch.relu, normalized=normalized).output
    assert (output[:3] == 0).all()
    output.sum().backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in (query, key, value))
    wanted = attend(query, key, value, score=log_kernel(torch.relu), mask=causal(7, 7)).output
    if normalized:
        assert_close(output, wanted)


def test_leading_axes_broadcast_and_examples_do_not_meet() -> None:
    query, key, value = numbers(2, 3, 7, 4), numbers(3, 7, 4, seed=1), numbers(2, 1, 7, 5, seed=2)
    wanted = parallel(query, key, value).output
    assert wanted.shape == (2, 3, 7, 5)
    for form in (recurrent, chunked, linear_attention):
        assert form(query, key, value).output.shape == wanted.shape
    for b in range(2):
        for h in range(3):
            alone = chunked(query[b, h], key[h], value[b, 0], chunk=2).output
            assert_close(wanted[b, h], alone)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@each_form
def test_sums_are_formed_in_float32(form: str, dtype: torch.dtype) -> None:
    """Ones added up in bfloat16 stop at 256; here they do not."""
    x = torch.zeros(300, 2, dtype=dtype)
    value = torch.linspace(-1, 1, 300).to(dtype)[:, None]
    found = CAUSAL[form](x, x, value)
    assert found.output.dtype == dtype
    assert found.state.memory.dtype == torch.float32
    assert (found.state.total == 300).all()
    exact = parallel(x.double(), x.double(), value.double()).output
    assert (found.output.double() - exact).abs().max() <= torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@each_form
def test_small_features_do_not_vanish_in_half_precision(form: str, dtype: torch.dtype) -> None:
    """exp(-18) is 0 in float16; the features are made in float32."""
    x, value = torch.full((3, 2), -18.0, dtype=dtype), torch.ones(3, 1, dtype=dtype)
    assert (CAUSAL[form](x, x, value).output == 1).all()
    assert (linear_attention(x, x, value).output == 1).all()
    seen = []
    CAUSAL[form](x, x, value, feature_map=lambda z: seen.append(z.dtype) or z.exp())
    assert set(seen) == {torch.float32}


@each_form
def test_gradients_are_exact(form: str) -> None:
    x = [y.requires_grad_() for y in inputs(length=4, width=2, value=2)]
    run = CAUSAL[form]
    assert torch.autograd.gradcheck(lambda *x: run(*x).output, x)
    assert torch.autograd.gradcheck(lambda *x: tuple(run(*x, normalized=False).state), x)


def test_clear_errors() -> None:
    with as_installed():
        from attnbook import linear

        x, y = torch.zeros(3, 4), torch.zeros(3, 2)
        state = linear.LinearState(torch.zeros(4, 3), torch.zeros(4))
        wrong: list[tuple[Callable[[], object], type[Exception], str]] = [
            (
                lambda: linear.parallel(x[:2], x, y),
                ValueError,
                "query has 2 positions but key has 3: a causal form needs as many; "
                "pass the past as a state",
            ),
            (
                lambda: linear.chunked(x, x, y, chunk=0),
                ValueError,
                "chunk must be at least 1, got 0",
            ),
            (
                lambda: linear.recurrent(x, x, y, state=state),
                ValueError,
                "state.memory must have shape (4, 2), got (4, 3)",
            ),
            (
                lambda: linear.chunked(x, x, y, feature_map=2),
                TypeError,
                "feature_map must be callable, got int",
            ),
            (
                lambda: linear.linear_attention(x, x[:, :2], y),
                ValueError,
                "query has width 4 but key has width 2",
            ),
            (
                lambda: linear.linear_attention(x, x, y[:2]),
                ValueError,
                "key has 3 positions but value has 2",
            ),
        ]
        for call, error, message in wrong:
            with pytest.raises(error, match=f"^{re.escape(message)}$"):
                call()
