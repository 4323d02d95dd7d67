import math

import pytest
import torch
from building import as_installed
from test_recurrent import encoder_by_the_paper, gated_unit_by_the_paper
from torch import nn
from torch.nn import functional as F

from attnbook import attend
from attnbook.core import Attended
from attnbook.recurrent import Encoder
from attnbook.scores import Location
from attnbook.seq2seq import (
    BahdanauAttention,
    Decoder,
    Seq2Seq,
    rnn_encdec,
    rnn_search,
)

START, END = 1, 2


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def small(make=rnn_search, **options):
    model = make(source_symbols=9, target_symbols=7, embed_dim=3, hidden_dim=4, **options).double()
    with torch.no_grad():
        for parameter in model.parameters():  # away from special points
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@torch.no_grad()
def decoder_by_the_paper(decoder, annotations, previous):
    """Appendix A.2.2 for one sentence, in loops: probabilities `(T, symbols)`, weights `(T, S)`."""
    S, n = len(annotations), annotations.shape[1] // 2
    drive, unit = decoder.symbol_drive, decoder.unit
    W, C = drive.weight, decoder.context_drive.weight
    U = torch.cat([unit.gates.weight, unit.candidate.weight])
    s = torch.tanh(decoder.first_state.weight @ annotations[0, n:] + decoder.first_state.bias)
    probabilities, all_weights = [], []
    for symbol in previous:
        if decoder.attention is None:
            c = annotations[-1, :n]
        else:
            score = decoder.attention.score
            e = [
                float(score.v.weight[0] @ torch.tanh(score.query.weight @ s + score.key.weight @ h))
                for h in annotations
            ]
            total = sum(math.exp(x) for x in e)
            weights = [math.exp(x) / total for x in e]
            c = sum(weights[j] * annotations[j] for j in range(S))
            all_weights.append(weights)
        y = decoder.embed.weight[symbol]
        t = (
            decoder.state_output.weight @ s  # the state before the step
            + decoder.symbol_output.weight @ y
            + decoder.context_output.weight @ c
            + decoder.state_output.bias
        )
        maxout = torch.stack([max(t[2 * j], t[2 * j + 1]) for j in range(len(t) // 2)])
        logits = decoder.output.weight @ maxout + decoder.output.bias
        probabilities.append([math.exp(x) for x in logits])
        probabilities[-1] = [p / sum(probabilities[-1]) for p in probabilities[-1]]
        s = gated_unit_by_the_paper(torch.cat([W, C], dim=1), U, drive.bias, torch.cat([y, c]), s)
    found = torch.tensor(probabilities, dtype=torch.float64)
    return found, torch.tensor(all_weights, dtype=torch.float64)


@pytest.mark.parametrize("make", [rnn_search, rnn_encdec])
def test_model_is_that_of_the_paper(make):
    model = small(make)
    source, target = [5, 1, 8, 8, 2, 3], [4, 6, 3, 2]
    decoded = model(torch.tensor([source]), torch.tensor([6]), torch.tensor([target]))
    annotations = encoder_by_the_paper(model.encoder, source)
    probabilities, weights = decoder_by_the_paper(model.decoder, annotations, [START, *target[:-1]])
    torch.testing.assert_close(decoded.logits[0].softmax(-1), probabilities)
    if make is rnn_search:
        torch.testing.assert_close(decoded.weights[0], weights)
    else:
        assert decoded.weights is None


def weights_for(attention, state, annotations):
    return attention(state, attention.project(annotations), annotations, None).weights[:, 0]


def contract_reads_the_encoder(attention):
    """Changing one annotation changes the weights, and moves weight at that position."""
    state, annotations = torch.randn(1, 4).double(), torch.randn(1, 5, 8).double()
    before = weights_for(attention, state, annotations)
    for j in range(5):
        changed = annotations.clone()
        changed[0, j] += torch.randn(8)
        assert not torch.allclose(weights_for(attention, state, changed)[0, j], before[0, j])


def contract_no_order(attention):
    """The weights of shuffled annotations are the shuffled weights."""
    state, annotations = torch.randn(1, 4).double(), torch.randn(1, 5, 8).double()
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = weights_for(attention, state, annotations[:, order])
    torch.testing.assert_close(shuffled, weights_for(attention, state, annotations)[:, order])


class FakeAttention(BahdanauAttention):
    """What is often sold under the paper's name: a softmax over positions from the state alone."""

    def __init__(self):
        super().__init__(4, 8, 4)
        self.location = Location(4, 10)

    def forward(self, state, keys, annotations, mask):
        return attend(state.unsqueeze(1), keys, annotations, score=self.location, mask=mask)


@pytest.mark.parametrize("contract", [contract_reads_the_encoder, contract_no_order])
def test_attention_reads_the_encoder_and_the_fake_does_not(contract):
    contract(BahdanauAttention(4, 8, 4).double())
    with pytest.raises(AssertionError):
        contract(FakeAttention().double())


@pytest.mark.parametrize("make", [rnn_search, rnn_encdec])
def test_padding_changes_nothing(make):
    model = small(make)
    sources = [[5, 1, 8, 8, 2, 3], [7], [4, 4, 6]]
    lengths = torch.tensor([len(s) for s in sources])
    target = torch.tensor([[4, 6, 2], [3, 2, 2], [5, 5, 2]])

    def padded(filler):
        return torch.tensor([s + [filler] * (8 - len(s)) for s in sources])

    decoded, other = model(padded(0), lengths, target), model(padded(8), lengths, target)
    assert torch.equal(decoded.logits, other.logits)
    for i, s in enumerate(sources):
        single = model(torch.tensor([s]), lengths[i : i + 1], target[i : i + 1])
        torch.testing.assert_close(decoded.logits[i], single.logits[0])
        if make is rnn_search:
            torch.testing.assert_close(decoded.weights[i, :, : len(s)], single.weights[0])
            assert (decoded.weights[i, :, len(s) :] == 0).all()
    if make is rnn_search:
        torch.testing.assert_close(decoded.weights.sum(-1), torch.ones(3, 3).double())


class Recorder(BahdanauAttention):
    """Remembers the states that it was asked with."""

    def forward(self, state, keys, annotations, mask):
        self.states.append(state)
        return super().forward(state, keys, annotations, mask)


def test_the_query_is_the_state_before_the_step():
    """The first query knows nothing of y_0; the weights at step i do not depend on y_{i-1}."""
    attention = Recorder(4, 8, 4)
    model = Seq2Seq(Encoder(9, 3, 4), Decoder(7, 3, 4, 2, attention)).double()
    source, lengths = torch.tensor([[5, 1, 8]]), torch.tensor([3])
    encoded = model.encoder(source, lengths)
    attention.states = []
    here = model.decoder(encoded, torch.tensor([[START, 3, 4]]))
    first = torch.tanh(model.decoder.first_state(encoded.first_backward))
    torch.testing.assert_close(attention.states[0], first)
    last_changed = model.decoder(encoded, torch.tensor([[START, 3, 5]]))
    assert torch.equal(here.weights, last_changed.weights)  # y_{i-1} enters after the look
    assert not torch.allclose(here.logits[:, 2], last_changed.logits[:, 2])
    middle_changed = model.decoder(encoded, torch.tensor([[START, 5, 4]]))
    assert torch.equal(here.weights[:, :2], middle_changed.weights[:, :2])
    assert not torch.allclose(here.weights[:, 2], middle_changed.weights[:, 2])


def test_no_symbol_sees_itself_or_the_future():
    model = small()
    source, lengths = torch.tensor([[5, 1, 8]]), torch.tensor([3])
    target = torch.tensor([[3, 4, 5, 2]])
    for i in range(4):
        changed = target.clone()
        changed[0, i] = 6
        a, b = model(source, lengths, target).logits, model(source, lengths, changed).logits
        assert torch.equal(a[:, : i + 1], b[:, : i + 1])
        assert i == 3 or not torch.allclose(a[:, i + 1], b[:, i + 1])


def test_gradients_reach_every_annotation_through_attention_alone():
    model = small()
    encoded = model.encoder(torch.tensor([[5, 1, 8, 3]]), torch.tensor([3]))
    annotations = encoded.annotations.detach().requires_grad_()
    alone = encoded._replace(
        annotations=annotations,
        last_forward=encoded.last_forward.detach(),
        first_backward=encoded.first_backward.detach(),
    )
    model.decoder(alone, torch.tensor([[START, 3]])).logits.square().sum().backward()
    assert (annotations.grad[0, :3].abs().sum(-1) > 0).all()
    assert (annotations.grad[0, 3] == 0).all()  # padding
    for parameter in model.decoder.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize("make", [rnn_search, rnn_encdec])
def test_gradcheck(make):
    model = small(make)
    inputs = torch.tensor([[5, 1], [3, 0]]), torch.tensor([2, 1]), torch.tensor([[3, 2], [4, 2]])
    names = [name for name, _ in model.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in model.parameters()]

    def logits(*values):
        return torch.func.functional_call(model, dict(zip(names, values, strict=True)), inputs)[0]

    assert torch.autograd.gradcheck(logits, values, fast_mode=True)


@pytest.mark.parametrize("make", [rnn_search, rnn_encdec])
def test_greedy_is_teacher_forcing_on_its_own_output(make):
    model = small(make)
    source, lengths = torch.tensor([[5, 1, 8], [7, 6, 0]]), torch.tensor([3, 2])
    decoded = model.greedy(source, lengths, max_steps=6)
    forced = model(source, lengths, decoded.symbols)
    ended = (decoded.symbols == END).cumsum(1) - (decoded.symbols == END).long() > 0
    torch.testing.assert_close(decoded.logits[~ended], forced.logits[~ended])
    assert (decoded.symbols[ended] == END).all()
    assert torch.equal(decoded.logits.argmax(-1)[~ended], decoded.symbols[~ended])
    if make is rnn_search:
        torch.testing.assert_close(decoded.weights[~ended], forced.weights[~ended])


def test_greedy_stops_at_the_end_symbol_and_at_max_steps():
    model = small()
    with torch.no_grad():
        model.decoder.output.weight.zero_()
        model.decoder.output.bias.copy_(torch.eye(7)[END])
    source, lengths = torch.tensor([[5, 1, 8], [7, 6, 0]]), torch.tensor([3, 2])
    assert model.greedy(source, lengths, max_steps=9).symbols.tolist() == [[END], [END]]
    with torch.no_grad():
        model.decoder.output.bias.copy_(torch.eye(7)[5])
    assert model.greedy(source, lengths, max_steps=3).symbols.tolist() == [[5] * 3, [5] * 3]


def test_greedy_runs_on_until_the_last_sequence_has_ended():
    """One sequence ends at once, the other never: the first is filled up with the end symbol."""
    model = small(rnn_encdec)
    source, lengths = torch.tensor([[5], [7]]), torch.tensor([1, 1])
    a, b = model.encoder(source, lengths).last_forward[:, 0].tolist()
    with torch.no_grad():
        for name in ("state_output", "symbol_output", "context_output", "output"):
            getattr(model.decoder, name).weight.zero_()
        # t_1 = max(c_1 - (a + b) / 2, 0), positive for one source alone: there the end symbol wins
        model.decoder.context_output.weight[0, 0] = 1.0
        model.decoder.state_output.bias.zero_()
        model.decoder.state_output.bias[0] = -(a + b) / 2
        model.decoder.output.weight[END, 0] = 1.0
        model.decoder.output.bias.copy_(1e-9 * torch.eye(7)[5])
    symbols = model.greedy(source, lengths, max_steps=4).symbols.tolist()
    assert symbols[a < b] == [END] * 4
    assert symbols[b < a] == [5] * 4


def test_weights_are_none_when_the_attention_has_none():
    class BothEnds(nn.Module):
        def project(self, annotations):
            return annotations

        def forward(self, state, keys, annotations, mask):
            n = state.shape[1]
            ends = torch.cat([annotations[:, -1:, :n], annotations[:, :1, n:]], dim=-1)
            return Attended(ends, None)

    model = Seq2Seq(Encoder(9, 3, 4), Decoder(7, 3, 4, 2, BothEnds()))
    source, lengths = torch.tensor([[5, 1, 8]]), torch.tensor([2])
    assert model(source, lengths, torch.tensor([[3, 2]])).weights is None
    assert model.greedy(source, lengths, max_steps=2).weights is None


@pytest.mark.parametrize("make", [rnn_search, rnn_encdec])
def test_learns_one_batch_by_heart(make):
    model = make(source_symbols=9, target_symbols=7, embed_dim=8, hidden_dim=16)
    source = torch.randint(3, 9, (8, 5))
    lengths = torch.tensor([5, 5, 5, 4, 4, 3, 2, 5])
    target = torch.cat([torch.randint(3, 7, (8, 3)), torch.full((8, 1), END)], dim=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(120):
        optimizer.zero_grad()
        F.cross_entropy(model(source, lengths, target).logits.mT, target).backward()
        optimizer.step()
    assert torch.equal(model.greedy(source, lengths, max_steps=9).symbols, target)


def test_models_differ_by_their_attention_and_the_width_of_the_context():
    def count(module):
        return sum(p.numel() for p in module.parameters())

    search, encdec = small(), small(rnn_encdec)
    n, maxout = 4, 2
    more = count(search.decoder.attention) + n * (3 * n + 2 * maxout)  # C and C_o
    assert count(search) == count(encdec) + more


def test_state_dict_round_trip():
    model, other = small(), small()
    other.load_state_dict(model.state_dict())
    inputs = torch.tensor([[5, 1, 8]]), torch.tensor([3]), torch.tensor([[3, 2]])
    assert torch.equal(model(*inputs).logits, other(*inputs).logits)


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        ([[3.0, 2.0]], TypeError, "target must be an int32 or int64 tensor, got torch.float32"),
        ([[3, 7]], ValueError, "target must hold symbols 0..6, got 3..7"),
        ([3, 2], ValueError, r"target must have shape \(batch, at least 1 position\), got \(2,\)"),
        ([[3, 2], [3, 2]], ValueError, "source has 1 sequences but target has 2"),
    ],
)
def test_clear_errors(target, error, message):
    with as_installed():
        from attnbook.seq2seq import rnn_search

        model = rnn_search(source_symbols=9, target_symbols=7, hidden_dim=4)
        with pytest.raises(error, match=message):
            model(torch.tensor([[5, 1, 8]]), torch.tensor([3]), torch.tensor(target))


def test_a_decoder_wants_as_many_targets_as_sources():
    with as_installed():
        from attnbook.seq2seq import rnn_encdec

        model = rnn_encdec(source_symbols=9, target_symbols=7, hidden_dim=4)
        encoded = model.encoder(torch.tensor([[5, 1]]), torch.tensor([2]))
        with pytest.raises(ValueError, match="encoded has 1 sequences but previous has 2"):
            model.decoder(encoded, torch.tensor([[1], [1]]))


def test_start_and_end_must_be_target_symbols():
    with pytest.raises(ValueError, match=r"end must be in the target's 0..6, got 7"):
        small(end=7)
    with pytest.raises(ValueError, match=r"start must be in the target's 0..6, got -1"):
        small(start=-1)


def test_greedy_needs_a_step():
    with pytest.raises(ValueError, match="max_steps must be at least 1, got 0"):
        small().greedy(torch.tensor([[5]]), torch.tensor([1]), max_steps=0)


def test_an_encoder_and_a_decoder_of_two_widths_are_named():
    with pytest.raises(
        ValueError, match=r"^encoder has hidden_dim 6 but decoder has hidden_dim 5$"
    ):
        Seq2Seq(Encoder(10, 4, 6), Decoder(7, 4, 5, 3))
