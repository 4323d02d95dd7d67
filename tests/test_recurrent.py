import math

import pytest
import torch
from building import as_installed
from torch import nn

from attnbook.recurrent import Encoder, GatedUnit, StackedEncoder


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def gated_unit_by_the_paper(W, U, b, x, s):
    """Appendix A.1.1, one unit at a time. `W`, `U`, `b` hold the rows of z, r and the candidate."""
    n = len(s)

    def row(block, k, state):
        i = block * n + k
        total = float(b[i])
        for j in range(len(x)):
            total += float(W[i, j]) * float(x[j])
        for j in range(n):
            total += float(U[i, j]) * float(state[j])
        return torch.tensor(total, dtype=torch.float64)

    z = torch.stack([row(0, k, s).sigmoid() for k in range(n)])
    r = torch.stack([row(1, k, s).sigmoid() for k in range(n)])
    candidate = torch.stack([row(2, k, r * s).tanh() for k in range(n)])
    return (1 - z) * s + z * candidate


@torch.no_grad()
def encoder_by_the_paper(encoder, source):
    """Appendix A.2.1 for one sentence without padding: the annotations `(S, 2n)`."""

    def states(drive, unit, symbols):
        U = torch.cat([unit.gates.weight, unit.candidate.weight])
        s, found = torch.zeros(U.shape[1], dtype=torch.float64), []
        for symbol in symbols:
            x = encoder.embed.weight[symbol]
            s = gated_unit_by_the_paper(drive.weight, U, drive.bias, x, s)
            found.append(s)
        return found

    ahead = states(encoder.forward_drive, encoder.forward_unit, source)
    back = states(encoder.backward_drive, encoder.backward_unit, source[::-1])[::-1]
    return torch.stack([torch.cat(pair) for pair in zip(ahead, back, strict=True)])


def lstm_by_its_equations(W_ih, W_hh, b_ih, b_hh, x, h, c):
    """The LSTM without peepholes, one unit at a time: the next (h, c)."""
    n = len(h)

    def drive(block, k):  # torch's blocks: i, f, g, o
        row = block * n + k
        total = float(b_ih[row] + b_hh[row])
        for j in range(len(x)):
            total += float(W_ih[row, j]) * float(x[j])
        for j in range(n):
            total += float(W_hh[row, j]) * float(h[j])
        return total

    def sigm(z):
        return 1 / (1 + math.exp(-z))

    new_h, new_c = torch.zeros(n).double(), torch.zeros(n).double()
    for k in range(n):
        i, f, o = (sigm(drive(block, k)) for block in (0, 1, 3))
        new_c[k] = f * float(c[k]) + i * math.tanh(drive(2, k))
        new_h[k] = o * math.tanh(float(new_c[k]))
    return new_h, new_c


@torch.no_grad()
def stacked_by_its_equations(encoder, source):
    """For one sentence without padding: the top states, and the last (h, c) of each layer."""
    x, last = [encoder.embed.weight[symbol] for symbol in source], []
    for layer in range(encoder.lstm.num_layers):
        names = [f"{kind}_l{layer}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        parameters = [getattr(encoder.lstm, name) for name in names]
        h = c = torch.zeros(encoder.lstm.hidden_size).double()
        above = []
        for step in x:
            h, c = lstm_by_its_equations(*parameters, step, h, c)
            above.append(h)
        last.append((h, c))
        x = above
    return x, last


def test_gated_unit_is_not_torch_gru_but_agrees_where_nothing_is_reset():
    """With the reset gate wide open the two variants are the same but for z and 1 - z."""
    n = 4
    unit, gru = GatedUnit(n).double(), nn.GRUCell(n, n).double()
    with torch.no_grad():
        gru.bias_hh.zero_()
        gru.weight_hh.copy_(torch.cat([unit.gates.weight.flip(0), unit.candidate.weight]))
        gru.weight_hh[:n], gru.weight_hh[n : 2 * n] = 0.0, -unit.gates.weight[:n]
        x, s = torch.randn(3, n).double(), torch.randn(3, n).double()
        drive = x @ gru.weight_ih.T + gru.bias_ih
        open_gate = drive.clone()
        open_gate[:, :n] = 100.0  # torch's first block is the reset gate
        gru.weight_ih.zero_()
        for row in range(3):
            gru.bias_ih.copy_(open_gate[row])
            paper = torch.cat(
                [-open_gate[row, n : 2 * n], open_gate[row, :n], open_gate[row, 2 * n :]]
            )
            ours = unit(paper[None], s[row : row + 1])
            torch.testing.assert_close(ours, gru(x[row : row + 1], s[row : row + 1]))


def test_gated_unit_resets_before_the_product():
    """The candidate is tanh(drive + U (r s)), not tanh(drive + r (U s)) as in torch's variant."""
    unit = GatedUnit(2).double()
    with torch.no_grad():
        unit.gates.weight.zero_()
        unit.candidate.weight.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    drive = torch.tensor([[100.0, 100.0, 100.0, -100.0, 0.0, 0.0]]).double()  # z = 1, r = (1, 0)
    new = unit(drive, torch.tensor([[0.3, 0.7]]).double())
    torch.testing.assert_close(new, torch.tensor([[0.0, 0.3]]).double().tanh())


def test_recurrent_matrices_start_orthogonal():
    unit = GatedUnit(5)
    for matrix in (*unit.gates.weight.chunk(2), unit.candidate.weight):
        torch.testing.assert_close(matrix @ matrix.T, torch.eye(5), atol=1e-5, rtol=0)


def test_encoder_is_that_of_the_paper():
    encoder = Encoder(symbols=7, embed_dim=3, hidden_dim=4).double()
    source = [5, 1, 6, 6, 2]
    found = encoder(torch.tensor([source]), torch.tensor([5]))
    oracle = encoder_by_the_paper(encoder, source)
    torch.testing.assert_close(found.annotations[0], oracle)
    torch.testing.assert_close(found.last_forward[0], oracle[-1, :4])
    torch.testing.assert_close(found.first_backward[0], oracle[0, 4:])


def test_padded_batch_equals_single_sentences():
    encoder = Encoder(symbols=7, embed_dim=3, hidden_dim=4).double()
    sentences = [[5, 1, 6, 6, 2], [3], [4, 4, 1]]
    lengths = torch.tensor([len(s) for s in sentences])
    batch = encoder(torch.tensor([s + [0] * (6 - len(s)) for s in sentences]), lengths)
    other = encoder(torch.tensor([s + [6] * (6 - len(s)) for s in sentences]), lengths)
    assert all(torch.equal(a, b) for a, b in zip(batch, other, strict=True))
    assert batch.mask.sum(-1).squeeze(1).tolist() == lengths.tolist()
    for i, s in enumerate(sentences):
        single = encoder(torch.tensor([s]), torch.tensor([len(s)]))
        torch.testing.assert_close(batch.annotations[i, : len(s)], single.annotations[0])
        torch.testing.assert_close(batch.last_forward[i], single.last_forward[0])
        torch.testing.assert_close(batch.first_backward[i], single.first_backward[0])


def test_stacked_encoder_is_that_of_its_equations():
    encoder = StackedEncoder(symbols=7, embed_dim=3, hidden_dim=4, layers=3).double()
    source = [5, 1, 6, 6, 2]
    found = encoder(torch.tensor([source]), torch.tensor([5]))
    states, last = stacked_by_its_equations(encoder, source)
    torch.testing.assert_close(found.annotations[0], torch.stack(states))
    for layer, (h, c) in enumerate(last):
        torch.testing.assert_close(found.hidden[0, layer], h)
        torch.testing.assert_close(found.cell[0, layer], c)


def test_padded_batch_of_the_stacked_encoder_equals_single_sentences():
    """In any order of lengths; the last states are those after the last true symbol."""
    encoder = StackedEncoder(symbols=7, embed_dim=3, hidden_dim=4, layers=2).double()
    sentences = [[3], [5, 1, 6, 6, 2], [4, 4, 1]]
    lengths = torch.tensor([len(s) for s in sentences])
    batch = encoder(torch.tensor([s + [0] * (6 - len(s)) for s in sentences]), lengths)
    other = encoder(torch.tensor([s + [6] * (6 - len(s)) for s in sentences]), lengths)
    assert all(torch.equal(a, b) for a, b in zip(batch, other, strict=True))
    assert batch.mask.sum(-1).squeeze(1).tolist() == lengths.tolist()
    for i, s in enumerate(sentences):
        single = encoder(torch.tensor([s]), torch.tensor([len(s)]))
        torch.testing.assert_close(batch.annotations[i, : len(s)], single.annotations[0])
        assert (batch.annotations[i, len(s) :] == 0).all()
        torch.testing.assert_close(batch.hidden[i], single.hidden[0])
        torch.testing.assert_close(batch.cell[i], single.cell[0])


def test_gradients_of_the_encoder():
    encoder = Encoder(symbols=4, embed_dim=2, hidden_dim=2).double()
    source, lengths = torch.tensor([[3, 1, 2], [2, 0, 0]]), torch.tensor([3, 1])

    def annotations(weight):
        return torch.func.functional_call(encoder, {"embed.weight": weight}, (source, lengths))[0]

    assert torch.autograd.gradcheck(annotations, encoder.embed.weight.detach().requires_grad_())


@pytest.mark.parametrize(
    ("source", "lengths", "error", "message"),
    [
        ([[1.0]], [1], TypeError, "source must be an int32 or int64 tensor, got torch.float32"),
        ([[1, 9]], [2], ValueError, "source must hold symbols 0..6, got 1..9"),
        ([[-1, 2]], [2], ValueError, "source must hold symbols 0..6, got -1..2"),
        ([[1, 2]], [3], ValueError, "lengths must be between 0 and S = 2, got 3"),
        ([[1, 2]], [0], ValueError, "every source needs at least 1 symbol, got length 0"),
        ([[1, 2]], [1.0], TypeError, "lengths must be an integer tensor, got torch.float32"),
        ([[1, 2]], [1, 2], ValueError, r"lengths must have shape \(1,\), one for each source"),
    ],
)
@pytest.mark.parametrize("kind", ["Encoder", "StackedEncoder"])
def test_clear_errors(kind, source, lengths, error, message):
    with as_installed():
        from attnbook import recurrent

        encoder = getattr(recurrent, kind)(symbols=7, embed_dim=3, hidden_dim=4)
        with pytest.raises(error, match=message):
            encoder(torch.tensor(source), torch.tensor(lengths))


def test_lengths_in_a_list_are_an_error():
    with as_installed():
        from attnbook.recurrent import Encoder

        encoder = Encoder(symbols=7, embed_dim=3, hidden_dim=4)
        with pytest.raises(TypeError, match="lengths must be an integer tensor, got list"):
            encoder(torch.tensor([[1]]), [1])


def test_empty_source_is_an_error():
    encoder = Encoder(symbols=7, embed_dim=3, hidden_dim=4)
    with pytest.raises(ValueError, match=r"source must have shape \(batch, at least 1 position\)"):
        encoder(torch.zeros(1, 0, dtype=torch.long), torch.zeros(1, dtype=torch.long))
