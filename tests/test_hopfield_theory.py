import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbook import hopfield_theory as theory

BELOW = st.floats(0.01, 0.1379)


def by_hand(a):
    """Equations (1) to (3), iterated from a perfect overlap in plain floats."""
    m, r = 1.0, 1.0
    for _ in range(20_000):
        C = math.sqrt(2 / (math.pi * a * r)) * math.exp(-m * m / (2 * a * r))
        new_m, new_r = math.erf(m / math.sqrt(2 * a * r)), 1 / (1 - C) ** 2
        if abs(new_m - m) + abs(new_r - r) < 1e-15:
            break
        m, r = new_m, new_r
    return m, r, C


@pytest.mark.parametrize("a", [0.02, 0.05, 0.1, 0.12, 0.13, 0.137])
def test_the_solution_is_where_the_three_equations_lead(a):
    found = theory.solve(torch.tensor(a, dtype=torch.float64))
    for ours, theirs in zip(found, by_hand(a), strict=True):
        assert math.isclose(float(ours), theirs, rel_tol=1e-9, abs_tol=1e-12)


@settings(max_examples=20, deadline=None)
@given(BELOW)
def test_the_solution_solves_the_equations_and_is_the_upper_one(a):
    m, r, C = (float(x) for x in theory.solve(torch.tensor(a, dtype=torch.float64)))
    assert math.isclose(m, math.erf(m / math.sqrt(2 * a * r)), rel_tol=1e-10)
    width = math.exp(-m * m / (2 * a * r))
    assert math.isclose(C, math.sqrt(2 / (math.pi * a * r)) * width, rel_tol=1e-9, abs_tol=1e-12)
    assert math.isclose(r, (1 - C) ** -2, rel_tol=1e-9)
    assert m >= theory.critical().overlap - 1e-9


def test_the_critical_load_is_the_top_of_a_fine_grid():
    y = torch.linspace(0.5, 4, 20_001, dtype=torch.float64)
    loads = theory.load_at(y)
    load, overlap = theory.critical()
    assert abs(float(loads.max()) - load) < 1e-8
    assert float(loads.max()) <= load + 1e-15
    assert abs(math.erf(float(y[loads.argmax()])) - overlap) < 1e-4
    assert round(load, 6) == 0.137906
    assert round(overlap, 4) == 0.9674


def test_recall_breaks_off_at_the_critical_load_and_falls_until_there():
    load, overlap = theory.critical()
    loads = torch.linspace(0, load, 50, dtype=torch.float64)
    found = theory.overlap(loads)
    assert (found.diff() <= 0).all()
    assert float(found[0]) == 1.0
    assert abs(float(found[-1]) - overlap) < 1e-6
    assert (theory.overlap(torch.tensor([load + 1e-9, 0.2, 3.0]).double()) == 0).all()


def test_beyond_the_critical_load_noise_and_response_are_those_of_no_overlap():
    a = 0.3
    m, r, C = (float(x) for x in theory.solve(torch.tensor(a, dtype=torch.float64)))
    assert m == 0.0
    assert math.isclose(C, math.sqrt(2 / (math.pi * a * r)), rel_tol=1e-12)
    assert math.isclose(r, (1 - C) ** -2, rel_tol=1e-12)


def test_the_first_update_errs_as_the_sum_of_signs_does():
    """The crosstalk is a sum of (N - 1)(P - 1) signs over N: its tail, counted exactly."""
    n, p = 301, 31
    tosses = (n - 1) * (p - 1)
    wrong = 0.0
    for k in range(tosses + 1):
        log = math.lgamma(tosses + 1) - math.lgamma(k + 1) - math.lgamma(tosses - k + 1)
        # The bit's own pattern adds N - 1. A field of zero decides nothing: half of it is wrong.
        field = 2 * k - tosses + n - 1
        wrong += (0.5 if field == 0 else field < 0) * math.exp(log - tosses * math.log(2))
    ours = float(theory.first_error(torch.tensor((p - 1) / (n - 1), dtype=torch.float64)))
    assert abs(ours / wrong - 1) < 0.005
    assert float(theory.first_error(torch.tensor(0.0))) == 0.0


def test_shapes_and_dtypes_are_those_of_the_load():
    loads = torch.tensor([[0.05, 0.1, 0.2], [0.0, 0.13, 0.14]])
    whole = theory.solve(loads)
    for found in (*whole, theory.overlap(loads), theory.first_error(loads)):
        assert found.shape == loads.shape
        assert found.dtype == torch.float32
    for i, row in enumerate(loads):
        for j, load in enumerate(row):
            one = theory.solve(load)
            assert [float(x) for x in one] == [float(x[i, j]) for x in whole]
    assert theory.overlap(loads.half()).dtype == torch.float16


def test_what_is_found_by_halving_carries_no_gradient():
    load = torch.tensor([0.05, 0.2], dtype=torch.float64, requires_grad=True)
    for found in (*theory.solve(load), theory.overlap(load)):
        assert not found.requires_grad
    for function in (theory.load_at, theory.first_error):
        assert torch.autograd.gradcheck(function, (load,))


@pytest.mark.parametrize("function", [theory.solve, theory.overlap, theory.first_error])
def test_a_load_that_is_none_is_refused(function):
    for bad in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="load must be finite and not negative, got"):
            function(torch.tensor([0.1, bad]))


def test_a_signal_must_be_positive():
    with pytest.raises(ValueError, match="signal must be positive, got 0"):
        theory.load_at(torch.tensor([1.0, 0.0]))
