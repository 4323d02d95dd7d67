import itertools

import pytest
import torch

from attnbook.tasks import markov
from attnbook.tasks.cloze import Rule, best_guess, cover

BERT = Rule()
RULES = [BERT, Rule(0.5, 0.5, 0.3), Rule(0.3, 0.6, 0.4), Rule(0.3, 1.0, 0.0)]


def generator(seed):
    return torch.Generator().manual_seed(seed)


def by_enumeration(source, shown, rule):
    """Over all texts: the probability of the text, times that of what is shown of it."""
    V, T = source.symbols, len(shown)

    def chance(true, seen, asked):
        kinds = {"mask": rule.masked, "random": rule.random}
        kinds["same"] = 1 - rule.masked - rule.random
        if not asked:
            return float(seen == true)
        found = kinds["mask"] if seen == V else kinds["random"] / V
        return found + (kinds["same"] if seen == true else 0)

    def anywhere(true, seen):
        return rule.rate * chance(true, seen, True) + (1 - rule.rate) * chance(true, seen, False)

    total = torch.zeros(T, V, dtype=torch.float64)
    for text in itertools.product(range(V), repeat=T):
        said = source.log_prob(torch.tensor([text])).exp().item()
        each = [anywhere(true, seen) for true, seen in zip(text, shown, strict=True)]
        for t, true in enumerate(text):
            others = said
            for u, factor in enumerate(each):
                others *= chance(true, shown[t], True) if u == t else factor
            total[t, true] += others
    return total / total.sum(-1, keepdim=True)


@pytest.mark.parametrize("rule", RULES[:3])
@pytest.mark.parametrize("seed", range(3))
def test_the_best_guess_is_that_of_enumeration(rule, seed):
    source = markov.draw(3, spread=1.5, generator=generator(seed))
    shown, _ = cover(source.sample(4, 4, generator(seed)), 3, generator(seed), rule)
    guesses = best_guess(source, shown, rule)
    for row, guess in zip(shown.tolist(), guesses, strict=True):
        torch.testing.assert_close(guess, by_enumeration(source, row, rule))


def test_with_masks_alone_it_is_the_posterior_of_the_source():
    source = markov.draw(4, generator=generator(0))
    text = source.sample(20, 7, generator(1))
    shown, asked = cover(text, 4, generator(2), RULES[3])
    assert torch.equal(shown == 4, asked)
    wanted = source.posterior(text, asked)
    torch.testing.assert_close(best_guess(source, shown, RULES[3])[asked], wanted[asked])


def test_nothing_guesses_better():
    """Its loss is below that of guesses that trust what is shown, or that look to one side only."""
    source = markov.draw(5, spread=2.0, generator=generator(0))
    text = source.sample(2000, 12, generator(1))
    shown, asked = cover(text, 5, generator(2))
    guess, masked = best_guess(source, shown), shown == 5
    trusting = source.posterior(shown.masked_fill(masked, 0), masked)
    right = text.unsqueeze(-1)

    def loss(chances, where):
        return -chances.gather(-1, right)[..., 0][where].log().mean()

    assert loss(guess, masked) < loss(0.999 * trusting + 0.001 / 5, masked)
    assert loss(guess, masked) < loss(source.conditional(text), masked)
    assert loss(guess, asked & ~masked) < loss(0.999 * trusting + 0.001 / 5, asked & ~masked)


def test_the_shares_are_those_of_the_rule():
    text = torch.randint(50, (400, 100), generator=generator(0))
    shown, asked = cover(text, 50, generator(1))
    assert torch.equal(shown[~asked], text[~asked])
    n = int(asked.sum())
    assert abs(n / text.numel() - 0.15) < 0.01
    assert abs(int((shown == 50).sum()) / n - 0.8) < 0.02
    same = int((shown == text)[asked].sum()) / n
    assert abs(same - (0.1 + 0.1 / 50)) < 0.015  # kept, and replaced by itself


def test_the_same_generator_covers_the_same():
    text = torch.randint(9, (3, 20), generator=generator(0))
    first, again = (cover(text, 9, generator(1)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize(
    ("symbols", "rule", "message"),
    [
        (torch.tensor([[3]]), BERT, r"symbols 0..2, got 3..3"),
        (torch.tensor([[-1]]), BERT, r"symbols 0..2, got -1..-1"),
        (torch.empty(1, 0, dtype=torch.long), BERT, r"at least 1 position\), got \(1, 0\)"),
        (torch.tensor([[0]]), Rule(rate=1.5), "rule must hold shares"),
        (torch.tensor([[0]]), Rule(0.1, 0.8, 0.3), "at most 1"),
    ],
)
def test_clear_errors(symbols, rule, message):
    with pytest.raises(ValueError, match=message):
        cover(symbols, 3, generator(0), rule)


def test_a_source_of_another_order_is_refused():
    with pytest.raises(ValueError, match="must be of order 1, got 2"):
        best_guess(markov.draw(3, 2, generator=generator(0)), torch.tensor([[0, 1, 2]]))


def test_what_cannot_be_is_refused():
    source = markov.Markov(torch.tensor([[0.0, 1.0], [0.5, 0.5]]))
    with pytest.raises(ValueError, match="shown must be possible"):
        best_guess(source, torch.tensor([[0, 0]]), Rule(masked=1.0, random=0.0))
