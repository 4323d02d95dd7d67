import pytest
import torch
from building import as_installed
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbook.hopfield_rules import hebb, pseudo_inverse, storkey

RULES = {"hebb": hebb, "storkey": storkey, "pseudo_inverse": pseudo_inverse}
each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
sizes = given(st.integers(1, 5), st.integers(1, 9), st.integers(0, 99))
few = settings(max_examples=15)


def signs(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, shape, generator=generator).double() * 2 - 1


@sizes
@few
def test_hebb_is_the_sum_over_the_patterns_and_leaves_no_unit_tied_to_itself(P, N, seed):
    x = signs(P, N, seed=seed).tolist()
    by_hand = [
        [0.0 if i == j else sum(x[p][i] * x[p][j] for p in range(P)) / N for j in range(N)]
        for i in range(N)
    ]
    torch.testing.assert_close(hebb(signs(P, N, seed=seed)).tolist(), by_hand)


@sizes
@few
def test_storkey_is_the_rule_in_loops(P, N, seed):
    w = [[0.0] * N for _ in range(N)]
    for x in signs(P, N, seed=seed).tolist():
        h = [
            [sum(w[i][k] * x[k] for k in range(N) if k not in (i, j)) for j in range(N)]
            for i in range(N)
        ]
        w = [
            [
                0.0 if i == j else w[i][j] + (x[i] * x[j] - x[i] * h[j][i] - h[i][j] * x[j]) / N
                for j in range(N)
            ]
            for i in range(N)
        ]
    torch.testing.assert_close(storkey(signs(P, N, seed=seed)).tolist(), w)


@sizes
@few
def test_the_pseudo_inverse_rule_is_the_projection_without_its_diagonal(P, N, seed):
    """Also of patterns that depend on each other: Gram-Schmidt leaves out the rest."""
    basis = []
    for x in signs(P, N, seed=seed):
        rest = x - sum(((x @ e) * e for e in basis), torch.zeros(N).double())
        if rest.norm() > 1e-9:
            basis.append(rest / rest.norm())
    projection = sum(torch.outer(e, e) for e in basis)
    by_hand = projection - torch.diag(projection.diagonal())
    torch.testing.assert_close(pseudo_inverse(signs(P, N, seed=seed)), by_hand)


@each_rule
@sizes
@few
def test_weights_are_symmetric_without_diagonal_and_blind_to_reversal(rule, P, N, seed):
    x = signs(P, N, seed=seed)
    weights = rule(x)
    assert weights.shape == (N, N)
    assert not weights.diagonal().any()
    torch.testing.assert_close(weights, weights.mT)
    torch.testing.assert_close(rule(-x), weights)


@pytest.mark.parametrize("rule", [hebb, storkey])
def test_a_local_rule_goes_on_from_what_it_knew(rule):
    x = signs(6, 30)
    known = rule(x[:2])
    before = known.clone()
    torch.testing.assert_close(rule(x[2:], known), rule(x))
    assert torch.equal(known, before)


def test_the_order_matters_to_storkey_alone():
    x = signs(6, 30)
    torch.testing.assert_close(hebb(x.flip(0)), hebb(x))
    torch.testing.assert_close(pseudo_inverse(x.flip(0)), pseudo_inverse(x))
    assert (storkey(x.flip(0)) - storkey(x)).abs().max() > 0.01


def test_the_pseudo_inverse_rule_holds_what_hebb_and_storkey_cannot():
    """90 patterns in 100 units: all are fixed points of one rule, few of the others."""
    x = signs(90, 100)
    held = [(rule(x) @ x.mT * x.mT > 0).all(0).sum().item() for rule in RULES.values()]
    assert held[2] == 90
    assert max(held[:2]) < 20


@each_rule
def test_the_dtype_of_the_patterns_is_kept_with_little_error(rule):
    x = signs(12, 40)
    weights = rule(x.float())
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.double(), rule(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (torch.ones(2, 3).long(), "patterns must be a floating-point tensor, got torch.int64"),
        ([[1.0]], "patterns must be a floating-point tensor, got list"),
        (torch.ones(3), r"patterns must have shape \(P, N\), got \(3,\)"),
        (torch.ones(2, 0), r"patterns must have shape \(P, N\), got \(2, 0\)"),
        (torch.tensor([[1.0, 0.0]]), r"patterns must hold -1 and \+1 alone, got 0.0"),
        (torch.tensor([[1.0, torch.nan]]), r"patterns must hold -1 and \+1 alone, got nan"),
    ],
)
def test_clear_errors(rule, patterns, message):
    with as_installed():
        from attnbook import hopfield_rules

        with pytest.raises((TypeError, ValueError), match=f"^{message}$"):
            getattr(hopfield_rules, rule)(patterns)


@pytest.mark.parametrize("rule", ["hebb", "storkey"])
def test_weights_of_another_network_are_refused(rule):
    with as_installed():
        from attnbook import hopfield_rules

        with pytest.raises(ValueError, match=r"^weights must be \(3, 3\), got \(3,\)$"):
            getattr(hopfield_rules, rule)(torch.ones(2, 3), torch.zeros(3))
