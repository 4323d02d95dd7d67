import pytest
import torch
from building import as_installed
from torch.nn import functional as F

from attnbook.bahdanau import rnn_encdec, rnn_search

END = 2


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
        from attnbook.bahdanau import rnn_search

        model = rnn_search(source_symbols=9, target_symbols=7, hidden_dim=4)
        with pytest.raises(error, match=message):
            model(torch.tensor([[5, 1, 8]]), torch.tensor([3]), torch.tensor(target))


def test_start_and_end_must_be_target_symbols():
    with pytest.raises(ValueError, match=r"end must be in the target's 0..6, got 7"):
        small(end=7)
    with pytest.raises(ValueError, match=r"start must be in the target's 0..6, got -1"):
        small(start=-1)


def test_greedy_needs_a_step():
    with pytest.raises(ValueError, match="max_steps must be at least 1, got 0"):
        small().greedy(torch.tensor([[5]]), torch.tensor([1]), max_steps=0)
