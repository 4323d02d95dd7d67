import copy
import itertools
import math
from unittest import mock

import pytest
import torch
from building import as_installed
from test_point_encoders import attention_encoder_by_hand, lstm_by_hand, softmax_by_hand

from attnbook.point_encoders import AttentionEncoder, RecurrentEncoder
from attnbook.pointer import PointerNetwork


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


ENCODERS = {
    "attention": lambda: AttentionEncoder(2, 8, heads=2, blocks=2),
    "recurrent": lambda: RecurrentEncoder(2, 6),
}
RULES = [
    {"revisit": revisit, "stop": stop}
    for revisit, stop in itertools.product([False, True], repeat=2)
]
each_encoder = pytest.mark.parametrize("encoder", ENCODERS)
each_rule = pytest.mark.parametrize("rules", RULES, ids=str)


def small(encoder="attention", **rules):
    model = PointerNetwork(ENCODERS[encoder](), hidden_dim=5, **rules).double()
    with torch.no_grad():
        for parameter in model.parameters():  # away from special points
            parameter.add_(0.5 * torch.randn_like(parameter))
    return model


def inputs(*lengths, S=None):
    S = S or max(lengths)
    return torch.rand(len(lengths), S, 2, dtype=torch.float64), torch.tensor(lengths)


def sequences(n, revisit, stop):
    """Every output for `n` points, by the rules in words; filled up with the end to n + 1."""
    found = []
    for m in range(0 if stop else n, n + 1):
        for row in itertools.product(range(1, n + 1), repeat=m):
            if revisit or len(set(row)) == m:
                found.append([*row, *[0] * (n + 1 - m)])
    return torch.tensor(found)


# The paper's equations, in loops


@torch.no_grad()
def network_by_the_paper(model, points, target):
    """Section 2.3 for one input: the distribution of every pointer, `T` lists of S + 1."""
    encoder = model.encoder
    if isinstance(encoder, RecurrentEncoder):
        zero = [0.0] * encoder.state_dim
        states, h, c = lstm_by_hand(encoder.lstm, points, zero, zero)
        read = points
    else:
        states, read, h, c = attention_encoder_by_hand(encoder, points)
    e = [model.end.tolist(), *states]
    x = [model.begin.tolist(), *read]
    W1, W2 = model.score.key.weight.tolist(), model.score.query.weight.tolist()
    v = model.score.v.weight[0].tolist()
    rows, before, seen = [], 0, []
    for slot in target:
        _, h, c = lstm_by_hand(model.lstm, [x[before]], h, c)
        forbidden = set() if model.revisit else set(seen)
        ended = bool(seen) and seen[-1] == 0
        if ended or len(seen) >= len(points):
            forbidden = set(range(1, len(e)))
        elif not model.stop:
            forbidden |= {0}
        scores = []
        for j in range(len(e)):
            hidden = [
                math.tanh(
                    sum(w * s for w, s in zip(W1[k], e[j], strict=True))
                    + sum(w * s for w, s in zip(W2[k], h, strict=True))
                )
                for k in range(len(v))
            ]
            scores.append(sum(a * b for a, b in zip(v, hidden, strict=True)))
        allowed = [j for j in range(len(e)) if j not in forbidden]
        weights = dict(zip(allowed, softmax_by_hand([scores[j] for j in allowed]), strict=True))
        rows.append([weights.get(j, 0.0) for j in range(len(e))])
        seen.append(slot)
        before = slot
    return torch.tensor(rows, dtype=torch.float64)


@each_rule
@each_encoder
def test_network_is_that_of_the_paper(encoder, rules):
    model = small(encoder, **rules)
    points, lengths = inputs(4)
    for target in ([4, 1, 2, 3, 0], [2, 3, 0, 0], [1, 1, 4, 4, 0]):
        if (len(set(target[:4])) < 4 and not rules["revisit"] and 0 not in target[:3]) or (
            0 in target[:4] and not rules["stop"]
        ):
            continue  # forbidden
        found = model(points, lengths, torch.tensor([target]))
        wanted = network_by_the_paper(model, points[0].tolist(), target)
        torch.testing.assert_close(found.weights[0], wanted)
        chosen = wanted[range(len(target)), target]
        torch.testing.assert_close(found.log_probability[0], chosen.log().sum())


# Decoding


@each_rule
@each_encoder
def test_all_outputs_have_probability_one_together(encoder, rules):
    model = small(encoder, **rules)
    points, lengths = inputs(3)
    every = sequences(3, **rules)
    many = model(points.expand(len(every), -1, -1), lengths.expand(len(every)), every)
    torch.testing.assert_close(many.log_probability.exp().sum(), torch.tensor(1.0).double())


@each_rule
@each_encoder
def test_a_wide_beam_is_the_list_of_all_outputs(encoder, rules):
    model = small(encoder, **rules)
    points, lengths = inputs(3, 2, S=3)
    beams = model.beam(points, lengths, width=100)
    for b, n in enumerate(lengths.tolist()):
        every = sequences(n, **rules)
        alone = points[b : b + 1, :n].expand(len(every), -1, -1)
        each = model(alone, lengths[b : b + 1].expand(len(every)), every).log_probability
        order = each.argsort(descending=True)
        torch.testing.assert_close(beams.log_probability[b, : len(every)], each[order])
        assert torch.equal(beams.pointers[b, : len(every), : n + 1], every[order])
        assert (beams.log_probability[b, len(every) :] == float("-inf")).all()
        assert (beams.pointers[b, len(every) :] == 0).all()


def beam_by_hand(model, points, width):
    """One input: keep the best beginnings, each asked anew by the paper's equations."""
    beams = [((), 0.0)]
    for _ in range(len(points) + 1):
        longer = []
        for row, total in beams:
            weights = network_by_the_paper(model, points, [*row, 0])[-1].tolist()
            longer += [((*row, j), total + math.log(w)) for j, w in enumerate(weights) if w]
        beams = sorted(longer, key=lambda beam: -beam[1])[:width]
    return beams


@pytest.mark.parametrize("width", [1, 2, 5])
@each_encoder
def test_a_narrow_beam_keeps_the_best_beginnings(encoder, width):
    model = small(encoder)
    points, lengths = inputs(4)
    found = model.beam(points, lengths, width)
    wanted = beam_by_hand(model, points[0].tolist(), width)
    for row, total, (slots, log_probability) in zip(
        found.pointers[0].tolist(), found.log_probability[0].tolist(), wanted, strict=True
    ):
        assert total == pytest.approx(log_probability)
        assert row == list(slots[: len(row)])


@each_rule
@each_encoder
def test_greedy_takes_the_likeliest_slot_and_is_the_beam_of_one(encoder, rules):
    model = small(encoder, **rules)
    points, lengths = inputs(5, 2, 4)
    found = model.greedy(points, lengths)
    assert torch.equal(found.pointers, found.weights.argmax(-1))
    forced = model(points, lengths, found.pointers)
    torch.testing.assert_close(forced.weights, found.weights)
    torch.testing.assert_close(forced.log_probability, found.log_probability)
    beam = model.beam(points, lengths, width=1)
    T = min(beam.pointers.shape[2], found.pointers.shape[1])
    assert torch.equal(beam.pointers[:, 0, :T], found.pointers[:, :T])
    torch.testing.assert_close(beam.log_probability[:, 0], found.log_probability)
    assert not found.log_probability.requires_grad


@each_rule
@each_encoder
def test_among_equals_the_beam_takes_the_lowest_slot_with_padding_or_without(encoder, rules):
    model = small(encoder, **rules)
    with torch.no_grad():
        model.score.v.weight.zero_()  # every slot is as likely
    points, lengths = inputs(5)
    first = model.greedy(points, lengths).pointers
    assert torch.equal(model.beam(points, lengths, width=1).pointers[:, 0], first)
    padded = torch.nn.functional.pad(points, (0, 0, 0, 9))
    for width in (2, 7, 40):
        alone, beside = (model.beam(x, lengths, width).pointers for x in (points, padded))
        T = min(alone.shape[2], beside.shape[2])
        assert torch.equal(alone[..., :T], beside[..., :T])
        assert not beside[..., T:].any()


@each_rule
def test_samples_follow_the_distribution(rules):
    model = small("recurrent", **rules)
    points, lengths = inputs(2)
    every = sequences(2, **rules)
    wide = points.expand(len(every), -1, -1), lengths.expand(len(every))
    probability = model(*wide, every).log_probability.exp().detach()
    N = 20_000
    many = model.sample(
        points.expand(N, -1, -1), lengths.expand(N), torch.Generator().manual_seed(0)
    )
    counts = (many.pointers[:, None] == every).all(-1).double().sum(0)
    assert counts.sum() == N
    spread = (probability * (1 - probability) / N).sqrt()
    assert ((counts / N - probability).abs() < 4.5 * spread + 1e-9).all()


def test_the_gradient_of_a_sample_is_that_of_its_log_probability():
    model = small()
    points, lengths = inputs(4, 3)
    drawn = model.sample(points, lengths, torch.Generator().manual_seed(1))
    again = model(points, lengths, drawn.pointers)
    torch.testing.assert_close(drawn.log_probability, again.log_probability)
    parameters = tuple(model.parameters())
    one = torch.autograd.grad(drawn.log_probability.sum(), parameters)
    two = torch.autograd.grad(again.log_probability.sum(), parameters)
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b)


def test_samples_repeat_with_their_generator():
    model = small()
    points, lengths = inputs(6, 6)
    one, two, other = (
        model.sample(points, lengths, torch.Generator().manual_seed(seed)).log_probability
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("decode", ["forward", "greedy", "sample", "beam"])
def test_keys_are_projected_once(decode):
    model = small()
    points, lengths = inputs(5, 4)
    arguments = {"forward": (torch.tensor([[1, 2, 3, 4, 5, 0], [4, 3, 2, 1, 0, 0]]),), "beam": (3,)}
    model.stop = False  # so that there are as many steps as points, and one
    with mock.patch.object(model.score.key, "forward", wraps=model.score.key.forward) as project:
        getattr(model, decode)(points, lengths, *arguments.get(decode, ()))
    assert project.call_count == 1


# Contracts


def decodings(model, points, lengths):
    """Greedy and beam outputs, row by row, up to the end."""
    greedy, beams = model.greedy(points, lengths), model.beam(points, lengths, width=4)
    rows = []
    for b in range(len(points)):
        outputs = [greedy.pointers[b].tolist(), *beams.pointers[b].tolist()]
        rows.append([[slot for slot in row if slot] for row in outputs])
    return rows, torch.cat([greedy.log_probability[:, None], beams.log_probability], dim=1)


@each_rule
@each_encoder
def test_a_padded_batch_gives_what_single_inputs_give(encoder, rules):
    model = small(encoder, **rules)
    points, lengths = inputs(5, 2, 1, 4, S=6)
    points[0, 5:], points[1, 2:], points[2, 1:] = float("nan"), 1e6, -3.0  # whatever lies there
    rows, logs = decodings(model, points, lengths)
    target = torch.tensor([[1, 2, 3, 4, 5, 0], [2, 1, *[0] * 4], [1, *[0] * 5], [4, 2, 3, 1, 0, 0]])
    together = model(points, lengths, target)
    for b, n in enumerate(lengths.tolist()):
        alone = points[b : b + 1, :n], lengths[b : b + 1]
        row, log = decodings(model, *alone)
        assert row[0] == rows[b]
        torch.testing.assert_close(log[0], logs[b])
        single = model(*alone, target[b : b + 1, : n + 1])
        torch.testing.assert_close(single.log_probability[0], together.log_probability[b])
        torch.testing.assert_close(single.weights[0], together.weights[b, : n + 1, : n + 1])
        assert (together.weights[b, :, n + 1 :] == 0).all()
        assert (together.weights[b, n + 1 :, 0] == 1).all()


def test_permuted_points_give_permuted_pointers():
    """For the attention encoder; the LSTM reads the points in order, and so it is not so."""
    order = torch.tensor([3, 0, 4, 1, 2])
    where = torch.cat([torch.zeros(1).long(), order.argsort() + 1])
    points, lengths = inputs(5, 5, 5)
    for encoder, same in (("attention", True), ("recurrent", False)):
        model = small(encoder)
        for decode in (model.greedy, lambda *x, m=model: m.beam(*x, width=5)):
            here, there = decode(points, lengths), decode(points[:, order], lengths)
            assert (here.pointers.shape == there.pointers.shape) or not same
            close = torch.allclose(here.log_probability, there.log_probability)
            assert close == same
            if same:
                assert torch.equal(where[here.pointers], there.pointers)


@pytest.mark.parametrize("stop", [False, True])
@each_encoder
def test_nothing_points_at_padding_or_at_a_chosen_point(encoder, stop):
    model = small(encoder, stop=stop)
    points, lengths = inputs(*range(1, 9), S=9)
    outputs = [model.greedy(points, lengths).pointers]
    outputs += [model.sample(points, lengths).pointers for _ in range(20)]
    outputs += list(model.beam(points, lengths, width=7).pointers.unbind(1))
    for pointers in outputs:
        for row, n in zip(pointers.tolist(), lengths.tolist(), strict=True):
            chosen = [slot for slot in row if slot]
            assert max(chosen, default=0) <= n
            assert len(chosen) == len(set(chosen))
            assert row == chosen + [0] * (len(row) - len(chosen))
    if not stop:
        assert all(
            int((row > 0).sum()) == n
            for pointers in [outputs[0], *outputs[1:21]]
            for row, n in zip(pointers, lengths.tolist(), strict=True)
        )


@each_encoder
def test_the_pointer_reads_the_encoder_state_of_every_point(encoder):
    """Another state for one point changes the score of that point in every row, and no other's."""
    model = small(encoder, revisit=True)
    encoded = model.encoder(*inputs(4))
    queries = torch.randn(1, 3, model.encoder.state_dim).double()
    written = torch.zeros(1, 3, 5).long()

    def odds(encoded):
        logs = model.look(queries, model.remember(encoded), written)
        return logs - logs[..., :1]  # against the end

    before = odds(encoded)
    for j in range(4):
        states = encoded.states.clone()
        states[:, j] += torch.randn(model.encoder.state_dim)
        moved = (odds(encoded._replace(states=states)) - before).abs()
        assert (moved[..., j + 1] > 1e-6).all()
        others = [k for k in range(5) if k != j + 1]
        assert (moved[..., others] < 1e-12).all()


@each_encoder
def test_an_output_depends_on_what_was_written_before_it_and_not_after(encoder):
    model = small(encoder, revisit=True)
    points, lengths = inputs(5)
    here = model(points, lengths, torch.tensor([[1, 2, 3, 4, 5, 0]])).weights
    there = model(points, lengths, torch.tensor([[1, 2, 5, 4, 5, 0]])).weights
    assert torch.equal(here[:, :3], there[:, :3])
    assert (here[:, 3] - there[:, 3]).abs().max() > 1e-6


@each_encoder
def test_gradients_are_exact_and_reach_every_parameter(encoder):
    model = small(encoder)
    points, lengths = inputs(3, 2)
    target = torch.tensor([[3, 1, 2, 0], [2, 0, 0, 0]])
    names = [name for name, _ in model.named_parameters()]
    values = tuple(p.detach().clone().requires_grad_() for p in model.parameters())

    def run(points, *values):
        return torch.func.functional_call(
            model, dict(zip(names, values, strict=True)), (points, lengths, target)
        ).log_probability

    points.requires_grad_()
    assert torch.autograd.gradcheck(run, (points, *values), fast_mode=True)
    gradients = torch.autograd.grad(run(points, *values).sum(), (points, *values))
    assert (gradients[0][1, 2] == 0).all()  # padding
    for name, gradient in zip(names, gradients[1:], strict=True):
        assert gradient.abs().sum() > 0, name


@each_encoder
def test_an_unlikely_target_has_a_finite_loss(encoder):
    model = small(encoder).float()
    with torch.no_grad():
        model.score.v.weight.mul_(1e4)
    points, lengths = torch.rand(1, 4, 2), torch.tensor([4])
    every = sequences(4, revisit=False, stop=True)
    found = model(points.expand(len(every), -1, -1), lengths.expand(len(every)), every)
    assert found.log_probability.isfinite().all()
    assert (found.log_probability < -1000).any()
    gradients = torch.autograd.grad(found.log_probability.sum(), tuple(model.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)


@each_encoder
def test_state_dict_round_trip(encoder):
    model, other = small(encoder), small(encoder)
    points, lengths = inputs(4, 3)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    one, two = model.beam(points, lengths, 3), other.beam(points, lengths, 3)
    assert torch.equal(one.pointers, two.pointers)
    assert torch.equal(one.log_probability, two.log_probability)


def test_one_model_serves_any_number_of_points():
    model = small()
    for n in (1, 2, 7, 30):
        found = model.greedy(*inputs(n))
        assert found.weights.shape[-1] == n + 1


GOOD = {"points": torch.rand(2, 3, 2), "lengths": torch.tensor([3, 2])}
TARGET = torch.tensor([[1, 2, 3, 0], [2, 1, 0, 0]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": torch.zeros(2, 3, 2).long()}, "points must be a floating-point .* torch.int64"),
        ({"points": [[0.5]]}, "points must be a floating-point tensor, got list"),
        ({"points": torch.zeros(2, 3, 3)}, r"at least 1, 2\), got \(2, 3, 3\)"),
        ({"points": torch.zeros(2, 0, 2)}, r"at least 1, 2\), got \(2, 0, 2\)"),
        ({"points": torch.zeros(0, 3, 2), "lengths": torch.zeros(0).long()}, "at least 1 input"),
        ({"lengths": torch.tensor([3.0, 2.0])}, "lengths must be an integer tensor"),
        ({"lengths": torch.tensor([4, 2])}, "lengths must be between 0 and S = 3, got 4"),
        ({"lengths": torch.tensor([0, 2])}, "every input needs at least 1 point, got length 0"),
        ({"lengths": torch.tensor([3])}, r"lengths must have shape \(2,\), .* got \(1,\)"),
        ({"target": TARGET.float()}, "target must be an int32 or int64 tensor, got torch.float32"),
        ({"target": TARGET[:1]}, r"target must have shape \(2, at least 1 step\), got \(1, 4\)"),
        ({"target": TARGET[:, :0]}, r"at least 1 step\), got \(2, 0\)"),
        ({"target": TARGET + 2}, r"target must hold slots 0\.\.3, got 2\.\.5"),
        ({"target": TARGET - 1}, r"target must hold slots 0\.\.3, got -1\.\.2"),
        ({"target": torch.tensor([[1, 2, 1, 0]] * 2)}, "may not write slot 1 at step 2 of row 0"),
        ({"target": torch.tensor([[1, 0], [3, 0]])}, "may not write slot 3 at step 0 of row 1"),
        ({"target": torch.tensor([[1, 0, 2]] * 2)}, "may not write slot 2 at step 2 of row 0"),
    ],
)
@each_encoder
def test_clear_errors(encoder, change, message):
    with as_installed():
        from attnbook import point_encoders, pointer

        names = {"attention": "AttentionEncoder", "recurrent": "RecurrentEncoder"}
        model = pointer.PointerNetwork(getattr(point_encoders, names[encoder])(2, 4))
        arguments = {**GOOD, "target": TARGET, **change}
        with pytest.raises((TypeError, ValueError), match=message):
            model(arguments["points"], arguments["lengths"], arguments["target"])


def test_clear_errors_for_an_early_end_and_for_the_beam():
    model = PointerNetwork(AttentionEncoder(2, 4), stop=False)
    with pytest.raises(ValueError, match="may not write slot 0 at step 1 of row 0"):
        model(*GOOD.values(), torch.tensor([[1, 0], [1, 2]]))
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        model.beam(*GOOD.values(), width=0)
