import math

import pytest
import torch
from building import as_installed
from test_recurrent import encoder_by_the_paper, gated_unit_by_the_paper
from torch import nn

from attnbook.bahdanau import BahdanauAttention, BahdanauDecoder, rnn_encdec, rnn_search
from attnbook.core import Attended
from attnbook.recurrent import Encoder
from attnbook.seq2seq import Seq2Seq

START = 1


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


class Recorder(BahdanauAttention):
    """Remembers the states that it was asked with."""

    def forward(self, state, keys, annotations, mask):
        self.states.append(state)
        return super().forward(state, keys, annotations, mask)


def test_the_query_is_the_state_before_the_step():
    """The first query knows nothing of y_0; the weights at step i do not depend on y_{i-1}."""
    attention = Recorder(4, 8, 4)
    model = Seq2Seq(Encoder(9, 3, 4), BahdanauDecoder(7, 3, 4, 2, attention)).double()
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


def test_weights_are_none_when_the_attention_has_none():
    class BothEnds(nn.Module):
        def project(self, annotations):
            return annotations

        def forward(self, state, keys, annotations, mask):
            n = state.shape[1]
            ends = torch.cat([annotations[:, -1:, :n], annotations[:, :1, n:]], dim=-1)
            return Attended(ends, None)

    model = Seq2Seq(Encoder(9, 3, 4), BahdanauDecoder(7, 3, 4, 2, BothEnds()))
    source, lengths = torch.tensor([[5, 1, 8]]), torch.tensor([2])
    assert model(source, lengths, torch.tensor([[3, 2]])).weights is None
    assert model.greedy(source, lengths, max_steps=2).weights is None


def test_models_differ_by_their_attention_and_the_width_of_the_context():
    def count(module):
        return sum(p.numel() for p in module.parameters())

    search, encdec = small(), small(rnn_encdec)
    n, maxout = 4, 2
    more = count(search.decoder.attention) + n * (3 * n + 2 * maxout)  # C and C_o
    assert count(search) == count(encdec) + more


def test_a_decoder_wants_as_many_targets_as_sources():
    with as_installed():
        from attnbook.bahdanau import rnn_encdec

        model = rnn_encdec(source_symbols=9, target_symbols=7, hidden_dim=4)
        encoded = model.encoder(torch.tensor([[5, 1]]), torch.tensor([2]))
        with pytest.raises(ValueError, match="encoded has 1 sequences but previous has 2"):
            model.decoder(encoded, torch.tensor([[1], [1]]))
