import itertools
import math
import sys

import pytest
import torch
from torch import nn

from attnbook.training import learning_rate, train


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def squared(model, x):
    return (model(x) - 3 * x).square().mean()


def run(model=None, **options):
    model = model or nn.Linear(1, 1)
    settings = {"steps": 5, "lr": 0.1, "progress": False} | options
    return train(model, squared, [torch.ones(4, 1)] * 5, **settings)


def test_learning_rate_warms_up_and_decays_to_zero():
    rates = [learning_rate(step, steps=100, peak=0.3, warmup=10) for step in range(1, 101)]
    assert rates[:10] == pytest.approx([0.03 * step for step in range(1, 11)])
    assert max(rates) == rates[9] == 0.3
    assert all(a > b for a, b in itertools.pairwise(rates[9:]))
    assert rates[54] == pytest.approx(0.15)
    assert rates[-1] == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("step", [0, 101])
def test_a_step_outside_of_the_run_has_no_learning_rate(step):
    with pytest.raises(ValueError, match=rf"^step must be in 1..steps = 100, got {step}$"):
        learning_rate(step, steps=100, peak=0.3, warmup=100)


def test_what_an_evaluation_draws_changes_nothing_of_the_run():
    def losses(evaluate):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(1, 4), nn.Dropout(0.5), nn.Linear(4, 1))
        return run(model, evaluate=evaluate, every=1).losses

    assert losses(lambda model: float(torch.rand(()))) == losses(None)


@pytest.mark.parametrize(("made", "got"), [(torch.ones(4, 1), r"\(4, 1\)"), (1.0, "float")])
def test_a_loss_that_is_not_one_number_is_named(made, got):
    with pytest.raises(ValueError, match=f"^loss must return a tensor of one number, got {got}$"):
        train(nn.Linear(1, 1), lambda model, x: made, [1], steps=1, lr=0.1, progress=False)


def test_train_is_adam_with_that_rate_and_a_clipped_gradient():
    torch.manual_seed(1)
    model, oracle = nn.Linear(1, 1), nn.Linear(1, 1)
    oracle.load_state_dict(model.state_dict())
    history = run(model, warmup=2, clip=0.01)
    optimizer = torch.optim.Adam(oracle.parameters())
    losses = []
    for step in range(1, 6):
        rate = 0.1 * step / 2 if step <= 2 else 0.05 * (1 + math.cos(math.pi * (step - 2) / 3))
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss = squared(oracle, torch.ones(4, 1))
        loss.backward()
        norm = torch.cat([p.grad.flatten() for p in oracle.parameters()]).norm()
        for p in oracle.parameters():
            p.grad *= min(1.0, 0.01 / (norm + 1e-6))
        optimizer.step()
        losses.append(loss.item())
    torch.testing.assert_close(model.state_dict(), oracle.state_dict())
    assert [step for step, _ in history.losses] == [1, 2, 3, 4, 5]
    assert [loss for _, loss in history.losses] == pytest.approx(losses)
    assert history.cpu_seconds > 0


def test_evaluates_every_n_steps_and_at_the_end_in_evaluation_mode():
    seen = []

    def evaluate(model):
        seen.append((model.training, torch.is_grad_enabled()))
        return 7

    model = nn.Linear(1, 1)
    assert run(model, evaluate=evaluate, every=2).evaluations == [(2, 7.0), (4, 7.0), (5, 7.0)]
    assert seen == [(False, False)] * 3
    assert not model.training
    assert run(evaluate=evaluate).evaluations == [(5, 7.0)]


def test_same_seed_same_run():
    def losses(seed):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        return run(model, seed=seed).losses

    assert losses(3) == losses(3) != losses(4)


def test_the_bar_counts_every_step(capsys):
    run(progress=True, title="a title")
    shown = capsys.readouterr().err
    assert "a title" in shown
    assert "5/5" in shown
    assert "loss=" in shown


def test_missing_tqdm_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match=r"pip install attnbook\[labs\], or pass progress=False"):
        run(progress=True)
    run()


def test_a_loss_that_is_not_finite_stops_the_run():
    def bad(model, x):
        return model(x).mean() * float("nan")

    with pytest.raises(FloatingPointError, match="loss is nan at step 1"):
        train(nn.Linear(1, 1), bad, [torch.ones(1, 1)], steps=1, lr=0.1, progress=False)


def test_a_gradient_that_is_not_finite_stops_the_run_before_it_spoils_the_model():
    model = nn.Linear(1, 1, bias=False)
    before = model.weight.detach().clone()

    def steep(model, x):
        return (0 * model(x)).sqrt().sum()  # 0, with a slope of 0 / 0

    with pytest.raises(FloatingPointError, match="gradient norm is nan at step 1"):
        train(model, steep, [torch.ones(1, 1)], steps=1, lr=0.1, progress=False)
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"steps": 6}, "batches ended after 5 of 6 steps"),
        ({"warmup": 5}, "warmup must be in 0..steps - 1 = 4, got 5"),
        ({"warmup": -1}, "warmup must be in 0..steps - 1 = 4, got -1"),
        ({"lr": 0.0}, "lr must be positive, got 0.0"),
        ({"clip": -1.0}, "clip must be positive, got -1.0"),
        ({"every": -1}, "every must not be negative, got -1"),
    ],
)
def test_clear_errors(options, message):
    with pytest.raises(ValueError, match=message):
        run(**options)
