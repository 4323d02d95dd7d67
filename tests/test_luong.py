import math

import pytest
import torch
from building import as_installed
from test_recurrent import lstm_by_its_equations, stacked_by_its_equations

from attnbook import (
    Additive,
    Bilinear,
    Concat,
    Location,
    attention_weights,
    cosine,
    dot,
    softmax,
)
from attnbook.luong import LocalP, LuongDecoder, local_m, luong
from attnbook.recurrent import StackedEncoder

START, WIDTH = 1, 4
SCORES = {
    "dot": dot,
    "general": lambda: Bilinear(WIDTH, WIDTH),
    "concat": lambda: Concat(WIDTH, WIDTH, 5),
    "location": lambda: Location(WIDTH, 8),
    "additive": lambda: Additive(WIDTH, WIDTH, 5),
    "cosine": lambda: cosine(3.0),
}
WINDOWS = {
    "global": lambda: None,
    "local-m": lambda: local_m(1),
    "local-p": lambda: LocalP(WIDTH, half_width=2),
}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def small(score="dot", window="global", **options):
    parts = {"score": SCORES[score](), "window": WINDOWS[window]()}
    model = luong(9, 7, embed_dim=3, hidden_dim=WIDTH, **parts, **options).double()
    with torch.no_grad():
        for parameter in model.parameters():  # away from special points
            parameter.add_(0.5 * torch.randn_like(parameter))
    return model


every_score = pytest.mark.parametrize("score", SCORES)
every_window = pytest.mark.parametrize("window", WINDOWS)
fed_or_not = pytest.mark.parametrize("input_feeding", [True, False])


def score_by_the_paper(name, part, h_t, h_s, s):
    """Section 3.1, one number."""
    if name == "dot":
        return sum(float(a) * float(b) for a, b in zip(h_t, h_s, strict=True))
    if name == "general":
        W = part.key.weight
        return sum(float(h_t[i] * W[i, j] * h_s[j]) for i in range(WIDTH) for j in range(WIDTH))
    if name == "concat":
        hidden = [math.tanh(float(row @ torch.cat([h_t, h_s]))) for row in part.joint.weight]
        return sum(float(v) * x for v, x in zip(part.v.weight[0], hidden, strict=True))
    if name == "location":
        return float(part.position.weight[s - 1] @ h_t)  # row s of W_a
    if name == "additive":
        hidden = torch.tanh(part.query.weight @ h_t + part.key.weight @ h_s)
        return float(part.v.weight[0] @ hidden)
    return 3.0 * float(h_t @ h_s / (h_t.norm() * h_s.norm()))  # cosine, for "any score"


@torch.no_grad()
def decoder_by_the_paper(decoder, score, window, encoded, previous):
    """Section 3 for one sentence, in loops: probabilities `(T, symbols)`, weights `(T, S)`.

    `encoded` is the list of the top states and the last (state, cell) of each layer.
    """
    annotations, layers = encoded
    S = len(annotations)
    attentional = torch.zeros(WIDTH, dtype=torch.float64)
    probabilities, all_weights = [], []
    for t, symbol in enumerate(previous, start=1):
        x = decoder.embed.weight[symbol]
        if decoder.input_feeding:
            x = torch.cat([x, attentional])
        for layer, cell in enumerate(decoder.cells):
            parameters = cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh
            layers[layer] = lstm_by_its_equations(*parameters, x, *layers[layer])
            x = layers[layer][0]
        h_t = x  # after the step
        where, factor = list(range(1, S + 1)), lambda s: 1.0
        if window == "local-m":
            where = [s for s in where if abs(s - min(t, S)) <= 1]
        if window == "local-p":
            hidden = torch.tanh(decoder.window.hidden.weight @ h_t)
            p_t = S / (1 + math.exp(-float(decoder.window.v.weight[0] @ hidden)))
            where = [s for s in where if abs(s - p_t) <= 2]
            sigma = 2 / 2

            def factor(s, p_t=p_t, sigma=sigma):
                return math.exp(-((s - p_t) ** 2) / (2 * sigma**2))

        parts = decoder.score
        e = {s: score_by_the_paper(score, parts, h_t, annotations[s - 1], s) for s in where}
        total = sum(math.exp(x) for x in e.values())
        a = {s: math.exp(x) / total * factor(s) for s, x in e.items()}
        all_weights.append([a.get(s, 0.0) for s in range(1, S + 1)])
        c = sum(a[s] * annotations[s - 1] for s in where)
        attentional = torch.tanh(decoder.combine.weight @ torch.cat([c, h_t]))
        p = [math.exp(float(row @ attentional)) for row in decoder.output.weight]
        probabilities.append([x / sum(p) for x in p])
    found = torch.tensor(probabilities, dtype=torch.float64)
    return found, torch.tensor(all_weights, dtype=torch.float64)


@every_score
@every_window
@fed_or_not
@pytest.mark.parametrize("layers", [1, 3])
def test_model_is_that_of_the_paper(score, window, input_feeding, layers):
    model = small(score, window, input_feeding=input_feeding, layers=layers)
    source, target = [5, 1, 8, 8, 2], [4, 6, 3, 5, 4, 6, 2]  # more steps than positions
    decoded = model(torch.tensor([source]), torch.tensor([5]), torch.tensor([target]))
    encoded = stacked_by_its_equations(model.encoder, source)
    previous = [START, *target[:-1]]
    probabilities, weights = decoder_by_the_paper(model.decoder, score, window, encoded, previous)
    torch.testing.assert_close(decoded.logits[0].softmax(-1), probabilities)
    torch.testing.assert_close(decoded.weights[0], weights)


@every_score
@every_window
@fed_or_not
def test_teacher_forcing_is_step_after_step(score, window, input_feeding):
    """The projection of the keys once, and the look for all steps at once, change nothing."""
    model = small(score, window, input_feeding=input_feeding, layers=2)
    source, lengths = torch.tensor([[5, 1, 8, 4], [7, 6, 0, 0]]), torch.tensor([4, 2])
    previous = torch.tensor([[1, 3, 4, 5, 3], [1, 6, 6, 3, 2]])
    encoded = model.encoder(source, lengths)
    state, steps = model.decoder.start(encoded), []
    for symbol in previous.unbind(1):
        steps.append(model.decoder.step(symbol, state, encoded))
        state = steps[-1].state
    decoded = model.decoder(encoded, previous)
    torch.testing.assert_close(decoded.logits, torch.stack([step.logits for step in steps], 1))
    torch.testing.assert_close(decoded.weights, torch.stack([step.weights for step in steps], 1))


def test_the_query_is_the_state_after_the_step():
    """The weights of step t depend on y_{t-1}, and not on y_t; Bahdanau's not even on y_{t-1}."""
    model = small("general")
    source, lengths = torch.tensor([[5, 1, 8]]), torch.tensor([3])
    encoded = model.encoder(source, lengths)
    here = model.decoder(encoded, torch.tensor([[START, 3, 4]]))
    first_changed = model.decoder(encoded, torch.tensor([[5, 3, 4]]))
    assert not torch.allclose(here.weights[:, 0], first_changed.weights[:, 0])
    last_changed = model.decoder(encoded, torch.tensor([[START, 3, 6]]))
    assert torch.equal(here.weights[:, :2], last_changed.weights[:, :2])
    assert not torch.allclose(here.weights[:, 2], last_changed.weights[:, 2])
    state = model.decoder.start(encoded)  # what the encoder left would be the state before
    before = attention_weights(
        state.hidden[:, -1:], encoded.annotations, score=model.decoder.score, mask=encoded.mask
    )
    assert not torch.allclose(before, here.weights[:, :1])


def test_input_feeding_tells_the_next_step_what_was_seen():
    """Without it, no annotation reaches a later query; with it, each does."""
    source, lengths = torch.tensor([[5, 1, 8]]), torch.tensor([3])
    for input_feeding in (True, False):
        model = small("general", input_feeding=input_feeding)
        encoded = model.encoder(source, lengths)
        state = model.decoder.start(encoded)
        changed = encoded._replace(annotations=encoded.annotations + 1.0)
        for symbol in torch.tensor([[START], [3]]):
            state, here = model.decoder.step(symbol, state, encoded).state, state
            other = model.decoder.step(symbol, here, changed).state
        again = [model.decoder.advance(model.decoder.embed(symbol), s) for s in (state, other)]
        assert torch.equal(again[0].hidden, again[1].hidden) != input_feeding


def test_local_m_stays_at_the_last_position_of_a_shorter_source():
    mask = torch.tensor([[[True] * 5], [[True, True, False, False, False]]])
    steps = torch.arange(1, 8).expand(2, 7)
    near, normalize = local_m(1)(torch.zeros(2, 7, 3), steps, mask)
    assert normalize is softmax
    seen = [[[s + 1 for s in range(5) if row[s]] for row in rows] for rows in near & mask]
    assert seen[0] == [[1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [4, 5], [4, 5], [4, 5]]
    assert seen[1] == [[1, 2]] * 7


def test_local_p_is_centred_within_the_true_length():
    window, query = LocalP(3, half_width=2).double(), 5 * torch.randn(2, 4, 3).double()
    mask = torch.tensor([[[True] * 6], [[True, True, True, False, False, False]]])
    long, short = window.centre(query[:1].expand(2, -1, -1), mask)
    torch.testing.assert_close(long, 2 * short)  # S sigmoid(...), and 6 is twice 3
    assert ((long > 0) & (long < 6)).all()


def test_local_p_is_learned_through_the_gaussian():
    model = small("dot", "local-p")
    inputs = torch.tensor([[5, 1, 8, 4]]), torch.tensor([4]), torch.tensor([[3, 4, 2]])
    decoded = model(*inputs)
    assert (decoded.weights.sum(-1) < 1).all()  # not normalised again
    decoded.logits.square().sum().backward()
    for parameter in model.decoder.window.parameters():
        assert (parameter.grad != 0).all()


def test_a_window_as_wide_as_the_source_is_global():
    model = small("general")
    inputs = torch.tensor([[5, 1, 8, 4], [7, 2, 0, 0]]), torch.tensor([4, 2]), torch.ones(2, 3)
    inputs = *inputs[:2], inputs[2].long()
    everywhere = model(*inputs)
    model.decoder.window = local_m(4)
    assert torch.equal(model(*inputs).logits, everywhere.logits)
    model.decoder.window = local_m(1)
    assert not torch.allclose(model(*inputs).logits, everywhere.logits)


def test_location_scores_mask_the_padding_before_the_softmax():
    """The top part of W_a h_t, normalised over the true positions alone."""
    model = small("location")
    inputs = torch.tensor([[5, 1, 0, 0]]), torch.tensor([2]), torch.tensor([[3, 2]])
    weights = model(*inputs).weights
    torch.testing.assert_close(weights[..., :2].sum(-1), torch.ones(1, 2).double())
    assert (weights[..., 2:] == 0).all()


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: local_m(-1), ValueError, "half_width must not be negative, got -1"),
        (lambda: LocalP(4, half_width=0), ValueError, "half_width must be at least 1, got 0"),
        (lambda: LuongDecoder(7, 3, WIDTH, layers=0), ValueError, "layers must be at least 1, got"),
    ],
)
def test_windows_have_a_width(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_a_window_that_does_not_fit_says_so():
    with as_installed():
        from attnbook.luong import LocalP, local_m, luong

        model = luong(9, 7, window=LocalP(5, half_width=2), hidden_dim=WIDTH)
        inputs = torch.tensor([[5, 1, 8]]), torch.tensor([3]), torch.tensor([[3, 2]])
        with pytest.raises(ValueError, match="query has width 4 but query_dim is 5"):
            model(*inputs)
        with pytest.raises(TypeError, match="window must be callable or None, got int"):
            luong(9, 7, window=3)
        with pytest.raises(ValueError, match="half_width must not be negative, got nan"):
            local_m(math.nan)
        with pytest.raises(ValueError, match="half_width must be at least 1, got nan"):
            LocalP(4, half_width=math.nan)


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (lambda: Bilinear(3, WIDTH), "query has width 4 but query_dim is 3|key has width 4"),
        (lambda: Concat(WIDTH, 3, 5), "key has width 4 but key_dim is 3"),
        (lambda: Additive(3, WIDTH, 5), "query has width 4 but query_dim is 3"),
        (lambda: Location(WIDTH, 2), "key has 3 positions but Location was built with max_keys=2"),
    ],
)
def test_a_score_that_does_not_fit_says_so(score, message):
    model = luong(9, 7, score=score(), hidden_dim=WIDTH)
    inputs = torch.tensor([[5, 1, 8]]), torch.tensor([3]), torch.tensor([[3, 2]])
    with pytest.raises(ValueError, match=message):
        model(*inputs)


def test_encoder_and_decoder_are_equally_deep():
    encoded = StackedEncoder(9, 3, WIDTH, layers=2)(torch.tensor([[5, 1]]), torch.tensor([2]))
    with pytest.raises(ValueError, match="encoded has 2 layers but the decoder has 1"):
        LuongDecoder(7, 3, WIDTH).start(encoded)


def test_a_decoder_wants_as_many_targets_as_sources():
    with as_installed():
        from attnbook.luong import luong

        model = luong(source_symbols=9, target_symbols=7, hidden_dim=4)
        encoded = model.encoder(torch.tensor([[5, 1]]), torch.tensor([2]))
        with pytest.raises(ValueError, match="encoded has 1 sequences but previous has 2"):
            model.decoder(encoded, torch.tensor([[1], [1]]))
