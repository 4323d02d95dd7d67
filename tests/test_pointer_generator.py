import math

import pytest
import torch
from building import as_installed
from test_recurrent import lstm_by_its_equations
from test_seq2seq import beam_by_hand
from torch import nn
from torch.nn import functional as F

from attnbook.pointer_generator import CopyDecoder, coverage_loss, pointer_generator

START, END, UNKNOWN, V, WIDTH = 1, 2, 3, 8, 3
KINDS = {
    "baseline": {"copy": False, "coverage": False},
    "baseline, coverage": {"copy": False, "coverage": True},
    "copying": {"copy": True, "coverage": False},
    "copying, coverage": {"copy": True, "coverage": True},
}
every_kind = pytest.mark.parametrize("kind", KINDS)
copying_kinds = pytest.mark.parametrize("kind", ["copying", "copying, coverage"])
# Three sources: their own words are 8, 9, ..., and one of them twice in the first.
SOURCES = [[5, 8, 4, 9, 8, 4], [7], [8, 4, 6]]
LENGTHS = torch.tensor([6, 1, 3])
TARGET = torch.tensor([[4, 8, 9, 2], [7, 3, 2, 0], [8, 8, 2, 0]])


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def small(kind="copying, coverage", noise=0.3, **options):
    model = pointer_generator(V, embed_dim=4, hidden_dim=WIDTH, **KINDS[kind], **options).double()
    with torch.no_grad():
        for parameter in model.parameters():  # away from special points
            parameter.add_(noise * torch.randn_like(parameter))
    return model


def padded(filler=0):
    return torch.tensor([s + [filler] * (8 - len(s)) for s in SOURCES])


def target_for(kind):
    return TARGET if "copying" in kind else TARGET.masked_fill(TARGET >= V, UNKNOWN)


def lstm(parameters, xs):
    """All states of one direction, and the last memory cell."""
    h, c, found = torch.zeros(WIDTH).double(), torch.zeros(WIDTH).double(), []
    for x in xs:
        h, c = lstm_by_its_equations(*parameters, x, h, c)
        found.append(h)
    return found, c


def sigm(z):
    return 1 / (1 + math.exp(-z))


def softmax_of(numbers):
    total = sum(math.exp(e) for e in numbers)
    return [math.exp(e) / total for e in numbers]


@torch.no_grad()
def by_the_paper(model, source, target):
    """Section 2 for one source, in loops: `P(w)` as one dict for each step, weights and p_gen."""
    E, decoder = model.encoder.embed.weight, model.decoder
    embedded = [E[w] if w < V else E[UNKNOWN] for w in source]
    kinds = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    ahead, ahead_cell = lstm([getattr(model.encoder.lstm, k) for k in kinds], embedded)
    back, back_cell = lstm(
        [getattr(model.encoder.lstm, k + "_reverse") for k in kinds], embedded[::-1]
    )
    h = [torch.cat(pair) for pair in zip(ahead, back[::-1], strict=True)]

    def affine(layer, x):
        return layer.weight @ x + layer.bias

    s_t = affine(decoder.first_hidden, torch.cat([ahead[-1], back[-1]])).clamp_min(0)
    cell = affine(decoder.first_cell, torch.cat([ahead_cell, back_cell])).clamp_min(0)
    context = torch.zeros(2 * WIDTH).double()
    unit = [getattr(decoder.unit, k.removesuffix("_l0")) for k in kinds]
    attention, c = decoder.attention, [0.0] * len(source)
    found, all_weights, switches = [], [], []
    for word in [START, *target[:-1]]:
        x_t = affine(decoder.drive, torch.cat([E[word] if word < V else E[UNKNOWN], context]))
        s_t, cell = lstm_by_its_equations(*unit, x_t, s_t, cell)
        e_t = []
        for i in range(len(source)):  # equation 11, or 1
            z = attention.score.key.weight @ h[i] + attention.bias
            z = z + attention.score.query.weight @ torch.cat([s_t, cell])
            if attention.coverage is not None:
                z = z + attention.coverage.weight[:, 0] * c[i]
            e_t.append(float(attention.score.v.weight[0] @ torch.tanh(z)))
        a_t = softmax_of(e_t)  # equation 2
        context = sum(a * h_i for a, h_i in zip(a_t, h, strict=True))  # equation 3
        hidden = affine(decoder.combine, torch.cat([s_t, context]))
        P = dict(enumerate(softmax_of(affine(decoder.output, hidden).tolist())))  # equation 4
        p_gen = 1.0
        if decoder.switch is not None:
            w = decoder.switch.weight[0]
            p_gen = sigm(  # equation 8
                float(w[:WIDTH] @ s_t)
                + float(w[WIDTH : 3 * WIDTH] @ context)
                + float(w[3 * WIDTH : 4 * WIDTH] @ cell)
                + float(w[4 * WIDTH :] @ x_t)
                + float(decoder.switch.bias[0])
            )
            P = {w: p_gen * p for w, p in P.items()}  # equation 9
            for a, w_i in zip(a_t, source, strict=True):
                P[w_i] = P.get(w_i, 0.0) + (1 - p_gen) * a
        c = [before + a for before, a in zip(c, a_t, strict=True)]  # equation 10
        found.append(P)
        all_weights.append(a_t)
        switches.append(p_gen)
    return found, all_weights, switches


@every_kind
def test_model_is_that_of_the_paper(kind):
    """A padded batch of three, and for each the loop over its own words alone."""
    model, target = small(kind), target_for(kind)
    logits, weights, symbols, p_gen = model(padded(), LENGTHS, target)
    assert torch.equal(symbols, target)
    for i, source in enumerate(SOURCES):
        P, a, switches = by_the_paper(model, source, target[i].tolist())
        expected = torch.zeros_like(logits[i])
        for t, words in enumerate(P):
            for word, p in words.items():
                expected[t, word] = p
        torch.testing.assert_close(logits[i].exp(), expected)
        torch.testing.assert_close(weights[i, :, : len(source)], torch.tensor(a).double())
        torch.testing.assert_close(p_gen[i], torch.tensor(switches).double())


@pytest.mark.parametrize(
    ("kind", "published"),
    [
        ("baseline", 21_499_600),
        ("copying", 21_499_600 + 1153),
        ("copying, coverage", 21_499_600 + 1153 + 512),
    ],
)
def test_the_parameters_are_as_many_as_the_paper_counts(kind, published):
    """Section 5. A torch LSTM has two biases where one would do: 4n each, in three units."""
    with torch.device("meta"):
        model = pointer_generator(50_000, embed_dim=128, hidden_dim=256, **KINDS[kind])
    assert sum(p.numel() for p in model.parameters()) - 3 * 4 * 256 == published


@every_kind
def test_padding_changes_nothing(kind):
    model, target = small(kind), target_for(kind)
    whole, other = model(padded(), LENGTHS, target), model(padded(15), LENGTHS, target)
    assert all(torch.equal(a, b) for a, b in zip(whole, other, strict=True))
    for i, source in enumerate(SOURCES):
        alone = target[i : i + 1]
        single = model(torch.tensor([source]), LENGTHS[i : i + 1], alone)
        W = single.logits.shape[-1]
        torch.testing.assert_close(whole.logits[i, :, :W], single.logits[0])
        assert (whole.logits[i, :, W:] == -math.inf).all()
        torch.testing.assert_close(whole.weights[i, :, : len(source)], single.weights[0])
        assert (whole.weights[i, :, len(source) :] == 0).all()
        torch.testing.assert_close(whole.p_gen[i], single.p_gen[0])


def test_a_dropped_mask_is_seen():
    """Without it the padding is looked at and copied, and what was found is another thing."""
    model = small()
    encoded = model.encoder(padded(), LENGTHS)
    previous = model._previous(TARGET)
    masked = model.decoder(encoded, previous)
    open_to_all = encoded._replace(mask=torch.ones_like(encoded.mask))
    unmasked = model.decoder(open_to_all, previous)
    assert (unmasked.weights[1, :, 1:] > 0).all()
    for i in range(3):
        assert not torch.allclose(masked.logits[i], unmasked.logits[i])


@every_kind
def test_probabilities_and_weights_sum_to_one(kind):
    model = small(kind, noise=2.0)
    written = model(padded(), LENGTHS, target_for(kind))
    ones = torch.ones(3, 4).double()
    torch.testing.assert_close(written.logits.exp().sum(-1), ones)
    torch.testing.assert_close(written.weights.sum(-1), ones)


@copying_kinds
def test_with_a_closed_generator_the_weights_are_the_distribution(kind):
    """And a word that stands twice in the source gets both weights."""
    model = small(kind)
    with torch.no_grad():
        model.decoder.switch.bias.fill_(-1000.0)
    written = model(padded(), LENGTHS, TARGET)
    assert (written.p_gen == 0).all()
    expected = torch.zeros_like(written.logits)
    for i, source in enumerate(SOURCES):
        for j, word in enumerate(source):
            expected[i, :, word] += written.weights[i, :, j]
    torch.testing.assert_close(written.logits.exp(), expected)
    twice = written.weights[0, :, 1] + written.weights[0, :, 4]
    torch.testing.assert_close(written.logits[0, :, 8].exp(), twice)


@copying_kinds
def test_with_an_open_generator_it_is_the_baseline(kind):
    model = small(kind)
    baseline = pointer_generator(V, embed_dim=4, hidden_dim=WIDTH, **KINDS[kind] | {"copy": False})
    state = {k: v for k, v in model.state_dict().items() if "switch" not in k}
    baseline.double().load_state_dict(state)
    with torch.no_grad():
        model.decoder.switch.bias.fill_(1000.0)
    ours, plain = (
        model(padded(), LENGTHS, TARGET),
        baseline(padded(), LENGTHS, target_for("baseline")),
    )
    assert (ours.p_gen == 1).all()
    torch.testing.assert_close(ours.logits[..., :V].exp(), plain.logits.exp())
    assert (ours.logits[..., V:].exp() == 0).all()
    torch.testing.assert_close(ours.weights, plain.weights)


@pytest.mark.parametrize("bias", [-1e4, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_word_that_can_be_written_has_a_finite_gradient(bias, dtype):
    """Whatever the switch says, and where the weight of a word is rounded to nothing."""
    model = small().to(dtype)
    with torch.no_grad():
        model.decoder.switch.bias.fill_(bias)
        model.decoder.attention.score.v.weight.mul_(1e4)  # weights of exactly 0 and 1
    written = model(padded(), LENGTHS, TARGET)
    assert (written.weights[0] == 0).any()
    loss = F.nll_loss(written.logits.mT, TARGET, ignore_index=0)
    assert loss.isfinite()
    loss.backward()
    for parameter in model.parameters():
        assert parameter.grad.isfinite().all()


def first_weights(model, encoded):
    decoder = model.decoder
    return decoder.step(torch.tensor([START]), decoder.start(encoded), encoded).weights[0]


@every_kind
def test_weights_come_from_the_encoder(kind):
    """Changing one annotation changes its weight; shuffled annotations get shuffled weights."""
    model = small(kind)
    encoded = model.encoder(torch.tensor([[5, 8, 4, 9, 6]]), torch.tensor([5]))
    before = first_weights(model, encoded)
    for j in range(5):
        annotations = encoded.annotations.clone()
        annotations[0, j] += torch.randn_like(annotations[0, j])
        after = first_weights(model, encoded._replace(annotations=annotations))
        assert not torch.isclose(after[j], before[j])
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = first_weights(model, encoded._replace(annotations=encoded.annotations[:, order]))
    torch.testing.assert_close(shuffled, before[order])


def test_the_query_is_the_state_after_the_step():
    """The weights of step t depend on the word before it and on no later one."""
    model = small()
    source, lengths = padded()[:1], LENGTHS[:1]
    here = model(source, lengths, torch.tensor([[4, 5, 6, 2]]))
    for i in range(4):
        changed = torch.tensor([[4, 5, 6, 2]])
        changed[0, i] = 9
        other = model(source, lengths, changed)
        for name in ("weights", "logits", "p_gen"):
            a, b = getattr(here, name), getattr(other, name)
            assert torch.equal(a[:, : i + 1], b[:, : i + 1])
            assert i == 3 or not torch.allclose(a[:, i + 1], b[:, i + 1])


@pytest.mark.parametrize("coverage", [True, False])
def test_only_coverage_knows_what_was_looked_at(coverage):
    model = small("copying, coverage" if coverage else "copying")
    encoded = model.encoder(padded()[:1], LENGTHS[:1])
    state = model.decoder.start(encoded)
    covered = state._replace(coverage=state.coverage + torch.rand_like(state.coverage))
    steps = [model.decoder.step(torch.tensor([START]), s, encoded) for s in (state, covered)]
    assert torch.allclose(steps[0].weights, steps[1].weights) != coverage
    for s, step in zip((state, covered), steps, strict=True):
        torch.testing.assert_close(step.state.coverage, s.coverage + step.weights)


def test_equal_words_share_their_weight_unless_one_is_covered():
    """A strongly negative reading of the coverage sends the look elsewhere."""
    attention = small().decoder.attention
    annotations, nothing = torch.randn(1, 1, 2 * WIDTH).double().expand(1, 4, -1), torch.zeros(1, 4)
    keys, state = attention.project(annotations), torch.randn(1, 2 * WIDTH).double()
    torch.testing.assert_close(
        attention(state, keys, annotations, None, nothing.double()).weights,
        torch.full((1, 1, 4), 0.25).double(),
    )
    with torch.no_grad():
        attention.coverage.weight.copy_(-50 * attention.score.v.weight.T.sign())
    covered = torch.tensor([[1.0, 0.0, 1.0, 0.0]]).double()
    weights = attention(state, keys, annotations, None, covered).weights[0, 0]
    assert (weights[[0, 2]] < weights[[1, 3]]).all()


def test_coverage_loss_is_that_of_the_paper():
    weights = torch.rand(2, 5, 4).double().softmax(-1)
    found = coverage_loss(weights)
    for b in range(2):
        for t in range(5):
            c = [sum(float(weights[b, s, i]) for s in range(t)) for i in range(4)]  # equation 10
            expected = sum(min(float(weights[b, t, i]), c[i]) for i in range(4))  # equation 12
            assert found[b, t].item() == pytest.approx(expected)
    assert (coverage_loss(torch.eye(4).unsqueeze(0)) == 0).all()  # never twice the same place
    stuck = torch.eye(4)[:1].expand(1, 3, 4)
    assert coverage_loss(stuck).tolist() == [[0.0, 1.0, 1.0]]


@every_kind
def test_teacher_forcing_is_step_after_step(kind):
    model = small(kind)
    encoded = model.encoder(padded(), LENGTHS)
    previous = model._previous(target_for(kind))
    written = model.decoder(encoded, previous)
    state, steps = model.decoder.start(encoded), []
    for symbol in previous.unbind(1):
        steps.append(model.decoder.step(symbol, state, encoded))
        state = steps[-1].state
    torch.testing.assert_close(written.logits, torch.stack([step.logits for step in steps], 1))
    torch.testing.assert_close(written.weights, torch.stack([step.weights for step in steps], 1))


@every_kind
def test_an_unknown_word_is_read_as_the_unknown_word(kind):
    """In the source and, fed back, in the target: its number says nothing to the network."""
    model = small(kind)
    lengths = torch.tensor([3])
    a = model.encoder(torch.tensor([[5, 8, 9]]), lengths)
    b = model.encoder(torch.tensor([[5, 9, UNKNOWN]]), lengths)
    assert torch.equal(a.annotations, b.annotations)
    state = model.decoder.start(a)
    steps = [model.decoder.step(torch.tensor([w]), state, a) for w in (8, 9, UNKNOWN, 6)]
    assert torch.equal(steps[0].logits, steps[2].logits)
    assert torch.equal(steps[1].logits, steps[2].logits)
    assert not torch.allclose(steps[3].logits, steps[2].logits)


@every_kind
def test_gradcheck(kind):
    model = small(kind)
    target = target_for(kind)[:, :3]
    inputs = padded()[:, :6], LENGTHS, target
    names = [name for name, _ in model.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in model.parameters()]

    def loss(*values):
        parameters = dict(zip(names, values, strict=True))
        written = torch.func.functional_call(model, parameters, inputs)
        chosen = written.logits.gather(2, target.unsqueeze(-1)).squeeze(-1)
        return chosen, written.logits.exp(), coverage_loss(written.weights), written.p_gen

    assert torch.autograd.gradcheck(loss, values, fast_mode=True)


@every_kind
def test_greedy_is_teacher_forcing_on_its_own_output(kind):
    model = small(kind, noise=1.0)
    decoded = model.greedy(padded(), LENGTHS, max_steps=6)
    forced = model(padded(), LENGTHS, decoded.symbols)
    ended = (decoded.symbols == END).cumsum(1) - (decoded.symbols == END).long() > 0
    torch.testing.assert_close(decoded.logits[~ended], forced.logits[~ended])
    torch.testing.assert_close(decoded.weights[~ended], forced.weights[~ended])
    assert torch.equal(decoded.logits.argmax(-1)[~ended], decoded.symbols[~ended])


@every_kind
def test_a_beam_of_one_is_greedy(kind):
    written = set()
    for _ in range(8):
        model = small(kind, noise=1.5)
        greedy = model.greedy(padded(), LENGTHS, 6)
        beam = model.beam(padded(), LENGTHS, 6, width=1)
        assert torch.equal(beam.symbols, greedy.symbols)
        torch.testing.assert_close(beam.weights, greedy.weights)
        written |= set(greedy.symbols.flatten().tolist())
    assert len(written) > 4, "too dull to tell"
    assert ("copying" in kind) == (max(written) >= V)


@every_kind
@pytest.mark.parametrize(("width", "length_penalty"), [(2, 0.0), (3, 1.0)])
def test_beam_is_that_of_lists(kind, width, length_penalty):
    """In a padded batch, too, whose other sources add words that this one lacks."""
    model = small(kind, noise=1.0)
    found = model.beam(padded(), LENGTHS, 4, width=width, length_penalty=length_penalty)
    for i, source in enumerate(SOURCES):
        symbols, log_prob = beam_by_hand(model, source, 4, width, length_penalty)
        assert found.symbols[i].tolist() == (symbols + [END] * 4)[: found.symbols.shape[1]]
        assert found.log_prob[i].item() == pytest.approx(log_prob)


def test_copying_learns_words_that_the_vocabulary_lacks():
    """Write the second word of the source, which is another unknown word each time."""
    model = pointer_generator(V, embed_dim=8, hidden_dim=16)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    lengths, ends = torch.full((8,), 5), torch.full((8, 1), END)

    def draw():
        source = torch.randint(4, V, (8, 5))
        source[:, 1:3] = torch.tensor([V, V + 1])
        return source, torch.cat([source[:, 1:2], ends], dim=1)

    for _ in range(60):
        source, target = draw()
        optimizer.zero_grad()
        F.nll_loss(model(source, lengths, target).logits.mT, target).backward()
        optimizer.step()
    source, target = draw()
    found = model.greedy(source, lengths, max_steps=4)
    assert torch.equal(found.symbols, target)
    assert (found.weights[:, 0].argmax(-1) == 1).all()
    assert (model(source, lengths, found.symbols).p_gen[:, 0] < 0.1).all()


@every_kind
def test_state_dict_round_trip(kind):
    model, other = small(kind), small(kind)
    other.load_state_dict(model.state_dict())
    inputs = padded(), LENGTHS, target_for(kind)
    assert torch.equal(model(*inputs).logits, other(*inputs).logits)
    assert model.encoder.embed is model.decoder.embed


@pytest.mark.parametrize(
    ("source", "target", "error", "message"),
    [
        ([[5.0]], [[2]], TypeError, "source must be an int32 or int64 tensor, got torch.float32"),
        ([[5, -1]], [[2]], ValueError, r"source must hold symbols 0..9, got -1..5"),
        ([[5, 10]], [[2]], ValueError, r"source must hold symbols 0..9, got 5..10"),
        ([[5, 8]], [[3.0]], TypeError, "target must be an int32 or int64 tensor"),
        ([[5, 8]], [[9, 2]], ValueError, r"target must hold symbols 0..8, got 2..9"),
        ([[5, 6]], [[8, 2]], ValueError, r"target must hold symbols 0..7, got 2..8"),
        ([[5, 8]], [3, 2], ValueError, r"target must have shape \(batch, at least 1 position\)"),
        ([[5, 8]], [[2], [2]], ValueError, "source has 1 sequences but target has 2"),
        ([[]], [[2]], ValueError, r"source must have shape \(batch, at least 1 position\)"),
    ],
)
def test_clear_errors(source, target, error, message):
    with as_installed():
        from attnbook.pointer_generator import pointer_generator

        model = pointer_generator(V, hidden_dim=4)
        source = torch.tensor(source) if source != [[]] else torch.zeros(1, 0).long()
        lengths = torch.tensor([source.shape[1]])
        with pytest.raises(error, match=message):
            model(source, lengths, torch.tensor(target))


def test_a_source_in_a_list_is_an_error():
    with as_installed():
        from attnbook.pointer_generator import pointer_generator

        with pytest.raises(TypeError, match="source must be an int32 or int64 tensor, got list"):
            pointer_generator(V).encoder([[5]], torch.tensor([1]))


def test_without_copying_a_target_has_no_numbers():
    with pytest.raises(ValueError, match=r"target must hold symbols 0..7, got 2..8"):
        small("baseline")(padded(), LENGTHS, torch.tensor([[8, 2]] * 3))


def test_a_decoder_wants_as_many_targets_as_sources():
    with as_installed():
        from attnbook.pointer_generator import pointer_generator

        model = pointer_generator(V)
        encoded = model.encoder(torch.tensor([[5]]), torch.tensor([1]))
        with pytest.raises(ValueError, match="encoded has 1 sequences but previous has 2"):
            model.decoder(encoded, torch.tensor([[1], [1]]))


@pytest.mark.parametrize("name", ["start", "end", "unknown"])
def test_the_special_words_are_of_the_vocabulary(name):
    with pytest.raises(ValueError, match=rf"{name} must be in the .*0..{V - 1}, got {V}"):
        pointer_generator(V, **{name: V})


def test_embeddings_are_one_matrix_of_encoder_and_decoder():
    model = small()
    assert sum(isinstance(m, nn.Embedding) for m in model.modules()) == 1
    assert isinstance(model.decoder, CopyDecoder)
