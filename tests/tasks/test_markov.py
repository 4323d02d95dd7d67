import itertools
import math

import pytest
import torch
from building import as_installed
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbook.tasks.markov import Markov, draw


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def every(symbols, length):
    return torch.tensor(list(itertools.product(range(symbols), repeat=length)))


sources = st.builds(
    lambda symbols, order, seed: draw(
        symbols, order, followers=max(2, symbols - 1), spread=1.5, generator=seeded(seed)
    ),
    st.integers(2, 3),
    st.integers(1, 3),
    st.integers(0, 10_000),
)


@settings(max_examples=15, deadline=None)
@given(sources, st.integers(1, 5))
def test_probabilities_are_a_loop_over_the_table_and_sum_to_one(source, length):
    sequences = every(source.symbols, length)
    k = source.order
    for row, found in zip(sequences.tolist(), source.log_prob(sequences).tolist(), strict=True):
        rest = itertools.product(range(source.symbols), repeat=max(0, k - length))
        expected = sum(float(source.stationary[(*row[:k], *more)]) for more in rest)
        for t in range(k, length):
            expected *= float(source.table[tuple(row[t - k : t + 1])])
        assert math.exp(found) == pytest.approx(expected, abs=1e-12)
    assert float(source.log_prob(sequences).exp().sum()) == pytest.approx(1, abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(sources)
def test_a_step_leaves_the_stationary_distribution_as_it_is(source):
    stepped = (source.stationary[..., None] * source.table).sum(0)
    assert torch.allclose(stepped, source.stationary, atol=1e-12)


@settings(max_examples=10, deadline=None)
@given(sources)
def test_the_entropy_rate_is_what_one_symbol_more_adds(source):
    def entropy(length):
        logs = source.log_prob(every(source.symbols, length))
        return -float(torch.xlogy(logs.exp(), logs.exp()).sum())

    k = source.order
    assert source.entropy_rate() == pytest.approx(entropy(k + 1) - entropy(k), abs=1e-9)
    assert source.perplexity() == pytest.approx(math.exp(source.entropy_rate()))


@settings(max_examples=15, deadline=None)
@given(sources, st.integers(1, 5))
def test_the_conditionals_multiply_to_the_whole(source, length):
    sequences = source.sample(20, length, seeded(1))
    said = source.conditional(sequences).gather(-1, sequences[..., None])[..., 0]
    assert torch.allclose(said.log().sum(1), source.log_prob(sequences))
    before = source.conditional(sequences)
    sequences[:, -1] = 0  # a symbol says nothing about the rows up to its own
    assert torch.equal(before, source.conditional(sequences))


@settings(max_examples=25, deadline=None)
@given(sources, st.integers(1, 5), st.integers(0, 31))
def test_the_posterior_is_bayes_rule_over_every_sequence(source, length, hidden):
    masked = torch.tensor([[bool(hidden >> t & 1) for t in range(length)]])
    sequence = source.sample(1, length, seeded(hidden))
    everything = every(source.symbols, length)
    fits = ((everything == sequence) | masked).all(1)
    joint = source.log_prob(everything).exp() * fits
    found = source.posterior(sequence, masked)[0]
    for t in range(length):
        for symbol in range(source.symbols):
            expected = joint[everything[:, t] == symbol].sum() / joint.sum()
            assert found[t, symbol] == pytest.approx(float(expected), abs=1e-12)
    other = torch.where(masked, (sequence + 1) % source.symbols, sequence)
    assert torch.equal(source.posterior(other, masked)[0], found)


def test_one_hidden_symbol_of_a_chain_needs_its_two_neighbours_alone():
    source = draw(6, generator=seeded(0))
    sequence, masked = source.sample(1, 9, seeded(1)), torch.arange(9)[None] == 4
    before, after = int(sequence[0, 3]), int(sequence[0, 5])
    direct = source.table[before] * source.table[:, after]
    found = source.posterior(sequence, masked)[0, 4]
    assert torch.allclose(found, direct / direct.sum())


def test_samples_have_the_frequencies_of_the_source_wherever_they_begin():
    source = draw(3, order=2, spread=1.0, generator=seeded(3))
    sequences = source.sample(40_000, 4, seeded(4))
    joint = source.stationary[..., None] * source.table
    for start in (0, 1):
        a, b, c = sequences[:, start : start + 3].T
        counts = torch.bincount(a * 9 + b * 3 + c, minlength=27) / len(sequences)
        assert torch.allclose(counts.double(), joint.flatten(), atol=0.01)


def test_long_sequences_do_not_underflow():
    source = draw(4, order=2, followers=2, generator=seeded(5))
    sequence = source.sample(1, 3000, seeded(6))
    masked = torch.rand(1, 3000, generator=seeded(7)) < 0.3
    assert torch.allclose(source.posterior(sequence, masked).sum(-1), torch.ones(()).double())
    rate = -float(source.log_prob(sequence)) / 3000
    assert rate == pytest.approx(source.entropy_rate(), rel=0.1)


def test_extreme_tables():
    flat = Markov(torch.full((5, 5, 5), 0.2))
    assert flat.perplexity() == pytest.approx(5)
    turning = Markov(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))  # periodic, and certain
    assert turning.perplexity() == 1
    assert turning.log_prob(torch.tensor([[0, 1, 0], [0, 0, 1]])).exp().tolist() == [0.5, 0]
    left = Markov(torch.tensor([[0.5, 0.5], [0.0, 1.0]]))  # 0 is left for ever
    assert left.stationary.tolist() == [0, 1]
    assert draw(7, followers=3, spread=0.0, generator=seeded(0)).perplexity() == pytest.approx(3)


def test_clear_errors():
    with pytest.raises(ValueError, match="several stationary distributions"):
        Markov(torch.eye(3))
    with pytest.raises(ValueError, match=r"rows must sum to 1, one is off by 0\.5"):
        Markov(torch.tensor([[0.5, 0.5], [0.5, 1.0]]))
    with pytest.raises(ValueError, match="negative or non-finite"):
        Markov(torch.tensor([[1.5, -0.5], [0.5, 0.5]]))
    for shape in ((2, 3), (2,), (0, 0)):
        with pytest.raises(ValueError, match=r"table must have shape \(V, \.\.\., V\)"):
            Markov(torch.ones(shape))
    source = Markov(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    with pytest.raises(ValueError, match="must be possible"):
        source.posterior(torch.tensor([[0, 1, 1]]), torch.tensor([[False, True, False]]))
    with pytest.raises(ValueError, match=r"sequences must hold symbols 0\.\.1, got 0\.\.2"):
        source.log_prob(torch.tensor([[0, 2]]))
    with pytest.raises(ValueError, match="n and length must be at least 1, got 0 and 3"):
        source.sample(0, 3, seeded(0))
    for arguments, message in (
        ({"symbols": 0}, "symbols and order must be at least 1"),
        ({"symbols": 3, "followers": 4}, r"followers must be in 1\.\.3, got 4"),
        ({"symbols": 3, "spread": -1.0}, "spread must be finite and not negative"),
    ):
        with pytest.raises(ValueError, match=message):
            draw(**arguments, generator=seeded(0))


def test_wrong_types_and_shapes_are_named_to_users():
    with as_installed():
        from attnbook.tasks.markov import Markov

        with pytest.raises(
            TypeError, match=r"table must be a floating-point tensor, got torch\.int"
        ):
            Markov(torch.eye(2, dtype=torch.long))
        source = Markov(torch.full((2, 2), 0.5))
        with pytest.raises(TypeError, match=r"int32 or int64 tensor, got torch\.float32"):
            source.conditional(torch.zeros(1, 2))
        with pytest.raises(TypeError, match=r"masked must be a boolean tensor, got torch\.int64"):
            source.posterior(torch.tensor([[0]]), torch.tensor([[1]]))
        with pytest.raises(ValueError, match=r"masked must have the sequences' shape \(1, 2\)"):
            source.posterior(torch.tensor([[0, 1]]), torch.tensor([[True]]))


def test_a_list_of_sequences_is_named() -> None:
    with as_installed():
        from attnbook.tasks.markov import Markov

        source = Markov(torch.tensor([[0.5, 0.5], [0.5, 0.5]]))
        for run in (
            lambda: source.posterior([[0]], torch.tensor([[False]])),
            lambda: source.log_prob([[0]]),
        ):
            with pytest.raises(
                TypeError, match="sequences must be an int32 or int64 tensor, got l"
            ):
                run()
