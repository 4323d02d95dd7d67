"""Linear attention and the delta rule: loops over indices, equal forms, and the laws they share."""

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
    Delta,
    Linear,
    chunked,
    delta_chunked,
    delta_recurrent,
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
DELTA: dict[str, Callable[..., Delta]] = {
    "recurrent": delta_recurrent,
    "chunked(3)": lambda *x, **more: delta_chunked(*x, chunk=3, **more),
    "chunked": delta_chunked,
}
each_form = pytest.mark.parametrize("form", CAUSAL)
each_delta = pytest.mark.parametrize("form", DELTA)
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


@each_form
def test_gradients_are_exact(form: str) -> None:
    x = [y.requires_grad_() for y in inputs(length=4, width=2, value=2)]
    run = CAUSAL[form]
    assert torch.autograd.gradcheck(lambda *x: run(*x).output, x)
    assert torch.autograd.gradcheck(lambda *x: tuple(run(*x, normalized=False).state), x)


# The delta rule


def delta_by_loops(query, key, value, rate, memory):
    """Schlag et al., section 4.2, with W as they write it: y = W q, an entry at a time."""
    W = memory.T.tolist()  # (Dv, F)
    rows = []
    for q, k, v, beta in zip(*(x.tolist() for x in (query, key, value, rate)), strict=True):
        said = [sum(w * x for w, x in zip(row, k, strict=True)) for row in W]
        for m in range(len(v)):
            for n in range(len(k)):
                W[m][n] += beta * (v[m] - said[m]) * k[n]
        rows.append([sum(w * x for w, x in zip(row, q, strict=True)) for row in W])
    return torch.tensor(rows, dtype=torch.float64), torch.tensor(W, dtype=torch.float64).T


def delta_inputs(*batch: int, length: int = 7) -> list[Tensor]:
    query, key, value = inputs(*batch, length=length)
    rate = torch.rand(*batch, length, generator=torch.Generator().manual_seed(9)).double()
    return [query, torch.nn.functional.normalize(key, dim=-1), value, rate]


@each_delta
def test_the_delta_rule_is_that_of_the_paper(form: str) -> None:
    x, memory = delta_inputs(), numbers(4, 3, seed=5)
    found = DELTA[form](*x, memory=memory)
    output, after = delta_by_loops(*x, memory)
    assert_close(found.output, output)
    assert_close(found.memory, after)
    assert_close(DELTA[form](*x).output, delta_by_loops(*x, torch.zeros(4, 3))[0])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 6))
def test_both_forms_of_the_delta_rule_are_one_function(first: int, second: int, chunk: int) -> None:
    pieces = [delta_inputs(2, length=first), delta_inputs(2, length=second)]
    whole = [torch.cat(pair, dim=1) for pair in zip(*pieces, strict=True)]
    wanted = delta_recurrent(*whole)
    for form in (delta_recurrent, lambda *x, **more: delta_chunked(*x, chunk=chunk, **more)):
        assert_close(form(*whole), wanted)
        one = form(*pieces[0])
        two = form(*pieces[1], memory=one.memory)
        assert_close(torch.cat([one.output, two.output], dim=1), wanted.output)
        assert_close(two.memory, wanted.memory)


@each_delta
def test_the_last_value_written_under_a_key_is_read_back(form: str) -> None:
    """Rate 1, keys of length 1: exactly, whatever was there before. A sum would mix them."""
    _, key, value, _ = delta_inputs()
    key[1], key[4] = key[0], key[0]
    memory = numbers(4, 3, seed=5)
    found = DELTA[form](key, key, value, torch.ones(7).double(), memory=memory)
    assert_close(found.output, value)
    summed = recurrent(key, key, value, feature_map=lambda x: x, normalized=False).output
    assert (summed - value).abs().max() > 0.1


@each_delta
def test_a_rate_of_zero_writes_nothing(form: str) -> None:
    query, key, value, _ = delta_inputs()
    memory = numbers(4, 3, seed=5)
    found = DELTA[form](query, key, value, torch.zeros(7).double(), memory=memory)
    assert_close(found.memory, memory)
    assert_close(found.output, query @ memory)


@each_delta
def test_the_delta_rule_is_a_step_down_the_squared_error(form: str) -> None:
    """Widrow and Hoff: memory minus rate times the gradient of half the squared error."""
    _, key, value, rate = (x[:1] for x in delta_inputs())
    memory = numbers(4, 3, seed=5).requires_grad_()
    error = (key @ memory - value).square().sum() / 2
    (gradient,) = torch.autograd.grad(error, memory)
    found = DELTA[form](key, key, value, rate, memory=memory.detach()).memory
    assert_close(found, memory.detach() - rate * gradient)


@each_delta
def test_with_orthonormal_keys_it_is_linear_attention(form: str) -> None:
    """Nothing is there to be corrected."""
    key, value = torch.linalg.qr(numbers(7, 7)).Q, numbers(7, 3, seed=1)
    query = numbers(7, 7, seed=2)
    found = DELTA[form](query, key, value, torch.ones(7).double())
    plain = recurrent(query, key, value, feature_map=lambda x: x, normalized=False)
    assert_close(found.output, plain.output)
    assert_close(found.memory, plain.state.memory)


@each_delta
def test_the_delta_rule_is_causal_and_its_gradients_are_exact(form: str) -> None:
    x = delta_inputs(2)
    before = DELTA[form](*x).output
    after = DELTA[form](*(torch.cat([y[:, :5], y[:, 5:] + 1], dim=1) for y in x)).output
    assert_close(before[:, :5], after[:, :5], rtol=0, atol=1e-14)
    assert (before[:, 5:] - after[:, 5:]).abs().max() > 1e-3
    small = [y[0, :4].requires_grad_() for y in x]
    assert torch.autograd.gradcheck(lambda *x: tuple(DELTA[form](*x)), small)


@each_delta
def test_the_delta_rule_in_half_precision(form: str) -> None:
    x = delta_inputs(2)
    for dtype in (torch.float16, torch.bfloat16):
        found = DELTA[form](*(y.to(dtype) for y in x))
        assert found.output.dtype == dtype
        exact = delta_recurrent(*(y.to(dtype).double() for y in x)).output
        assert (found.output.double() - exact).abs().max() <= 4 * torch.finfo(dtype).eps


def test_clear_errors() -> None:
    with as_installed():
        from attnbook import linear

        x, y, r = torch.zeros(3, 4), torch.zeros(3, 2), torch.zeros(3)
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
            (
                lambda: linear.delta_chunked(x, x, y, r, chunk=0),
                ValueError,
                "chunk must be at least 1, got 0",
            ),
            (
                lambda: linear.delta_recurrent(x, x, y, r[:2]),
                ValueError,
                "rate must have shape (*b, 3), one for each key, got (2,)",
            ),
            (
                lambda: linear.delta_recurrent(x, x, y, r, memory=x),
                ValueError,
                "memory must have shape (4, 2), got (3, 4)",
            ),
            (
                lambda: linear.delta_recurrent(x.long(), x, y, r),
                TypeError,
                "query must be a floating-point tensor, got torch.int64",
            ),
        ]
        for call, error, message in wrong:
            with pytest.raises(error, match=f"^{re.escape(message)}$"):
                call()
