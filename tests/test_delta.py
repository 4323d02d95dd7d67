"""The delta rule: a loop over indices, two equal forms, and what it overwrites."""

import re
from collections.abc import Callable

import pytest
import torch
from building import as_installed
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from attnbook.delta import Delta, delta_chunked, delta_recurrent
from attnbook.linear import recurrent

DELTA: dict[str, Callable[..., Delta]] = {
    "recurrent": delta_recurrent,
    "chunked(3)": lambda *x, **more: delta_chunked(*x, chunk=3, **more),
    "chunked": delta_chunked,
}
each_delta = pytest.mark.parametrize("form", DELTA)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


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
    query, key, value = (numbers(*batch, length, w, seed=w + i) for i, w in enumerate((4, 4, 3)))
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
        from attnbook import delta

        x, y, r = torch.zeros(3, 4), torch.zeros(3, 2), torch.zeros(3)
        wrong: list[tuple[Callable[[], object], type[Exception], str]] = [
            (
                lambda: delta.delta_chunked(x, x, y, r, chunk=0),
                ValueError,
                "chunk must be at least 1, got 0",
            ),
            (
                lambda: delta.delta_recurrent(x, x, y, r[:2]),
                ValueError,
                "rate must have shape (*b, 3), one for each key, got (2,)",
            ),
            (
                lambda: delta.delta_recurrent(x, x, y, r, memory=x),
                ValueError,
                "memory must have shape (4, 2), got (3, 4)",
            ),
            (
                lambda: delta.delta_recurrent(x.long(), x, y, r),
                TypeError,
                "query must be a floating-point tensor, got torch.int64",
            ),
            (
                lambda: delta.delta_recurrent(x, x, y, 0.5),
                TypeError,
                "rate must be a floating-point tensor, got float",
            ),
            (
                lambda: delta.delta_chunked(x, x, y, r.long()),
                TypeError,
                "rate must be a floating-point tensor, got torch.int64",
            ),
            (
                lambda: delta.delta_chunked(x, x, y, r.double()),
                TypeError,
                "rate is torch.float64 but key is torch.float32",
            ),
            (
                lambda: delta.delta_recurrent(x, x, y, r.to("meta")),
                ValueError,
                "rate is on meta but key is on cpu",
            ),
            (
                lambda: delta.delta_recurrent(x.expand(2, 3, 4), x, y, torch.zeros(3, 3)),
                ValueError,
                "leading axes of rate (3,) and query (2,) do not broadcast",
            ),
        ]
        for call, error, message in wrong:
            with pytest.raises(error, match=f"^{re.escape(message)}$"):
                call()
