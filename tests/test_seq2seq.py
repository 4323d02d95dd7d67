import importlib
import itertools
import math
from typing import NamedTuple

import pytest
import torch
from building import as_installed
from torch import nn
from torch.nn import functional as F

from attnbook import Bilinear, Concat, Location, attend
from attnbook.bahdanau import BahdanauAttention, BahdanauDecoder, rnn_encdec, rnn_search
from attnbook.luong import LocalP, local_m, luong
from attnbook.recurrent import Encoder
from attnbook.seq2seq import Decoded, Found, Seq2Seq, Step, _best

END, WIDTH = 2, 4


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def luong_with(score=None, window=None, **fixed):
    """A way to build Luong's model, with a score and a window made for its width."""

    def make(hidden_dim, **options):
        parts = {"score": score(hidden_dim)} if score else {}
        parts |= {"window": window(hidden_dim)} if window else {}
        return luong(hidden_dim=hidden_dim, **parts, **fixed, **options)

    return make


MODELS = {
    "none": rnn_encdec,
    "bahdanau": rnn_search,
    "luong": luong_with(),
    "luong, general, no feeding": luong_with(lambda n: Bilinear(n, n), input_feeding=False),
    "luong, concat, two layers": luong_with(lambda n: Concat(n, n, 3), layers=2),
    "luong, location": luong_with(lambda n: Location(n, 8)),
    "luong, local-m": luong_with(window=lambda n: local_m(1)),
    "luong, local-p": luong_with(window=lambda n: LocalP(n, 2)),
}
NO_CONTENT = {"none", "luong, location"}  # what the encoder says moves no weight
every_model = pytest.mark.parametrize("name", MODELS)


def small(name="bahdanau", target_symbols=7, noise=0.3, **options):
    sizes = {"source_symbols": 9, "target_symbols": target_symbols}
    model = MODELS[name](**sizes, embed_dim=3, hidden_dim=WIDTH, **options).double()
    with torch.no_grad():
        for parameter in model.parameters():  # away from special points
            parameter.add_(noise * torch.randn_like(parameter))
    return model


@every_model
def test_padding_changes_nothing(name):
    model = small(name)
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
        if name != "none":
            torch.testing.assert_close(decoded.weights[i, :, : len(s)], single.weights[0])
            assert (decoded.weights[i, :, len(s) :] == 0).all()
    if name != "none":
        total = decoded.weights.sum(-1)
        assert (total < 1).all() if "local-p" in name else total.allclose(torch.ones(3, 3).double())


@every_model
def test_no_symbol_sees_itself_or_the_future(name):
    model = small(name)
    source, lengths = torch.tensor([[5, 1, 8]]), torch.tensor([3])
    target = torch.tensor([[3, 4, 5, 2]])
    for i in range(4):
        changed = target.clone()
        changed[0, i] = 6
        a, b = model(source, lengths, target).logits, model(source, lengths, changed).logits
        assert torch.equal(a[:, : i + 1], b[:, : i + 1])
        assert i == 3 or not torch.allclose(a[:, i + 1], b[:, i + 1])


# Does it read the encoder?


def encoded_by(model):
    return model.encoder(torch.tensor([[5, 1, 8, 4, 3]]), torch.tensor([5]))


def first_weights(decoder, encoded):
    return decoder.step(torch.tensor([1]), decoder.start(encoded), encoded).weights[0]


def contract_reads_the_encoder(decoder, encoded):
    """Changing an annotation changes the weight at its place, if the first step looks there."""
    before = first_weights(decoder, encoded)
    for j in range(5):
        annotations = encoded.annotations.clone()
        annotations[0, j] += torch.randn_like(annotations[0, j])
        after = first_weights(decoder, encoded._replace(annotations=annotations))
        assert torch.allclose(after[j], before[j]) == (before[j] == 0)


def contract_no_order(decoder, encoded):
    """The weights of shuffled annotations are the shuffled weights."""
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = encoded._replace(annotations=encoded.annotations[:, order])
    expected = first_weights(decoder, encoded)[order]
    torch.testing.assert_close(first_weights(decoder, shuffled), expected)


class FakeAttention(BahdanauAttention):
    """What is often sold under the paper's name: a softmax over positions from the state alone."""

    def __init__(self):
        super().__init__(WIDTH, 2 * WIDTH, WIDTH)
        self.location = Location(WIDTH, 10)

    def forward(self, state, keys, annotations, mask):
        return attend(state.unsqueeze(1), keys, annotations, score=self.location, mask=mask)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in NO_CONTENT])
def test_weights_come_from_the_encoder(name):
    model = small(name)
    contract_reads_the_encoder(model.decoder, encoded_by(model))


@pytest.mark.parametrize("name", [n for n in MODELS if n not in NO_CONTENT and "local" not in n])
def test_global_attention_knows_no_order(name):
    model = small(name)
    contract_no_order(model.decoder, encoded_by(model))


@pytest.mark.parametrize("contract", [contract_reads_the_encoder, contract_no_order])
def test_the_fake_fails_the_contracts(contract):
    model = small("bahdanau")
    model.decoder.attention = FakeAttention().double()
    with pytest.raises(AssertionError):
        contract(model.decoder, encoded_by(model))


@pytest.mark.parametrize("contract", [contract_reads_the_encoder, contract_no_order])
def test_the_location_score_fails_them_as_equation_8_says(contract):
    model = small("luong, location")  # "from solely the target hidden state"
    with pytest.raises(AssertionError):
        contract(model.decoder, encoded_by(model))


@every_model
def test_gradcheck(name):
    model = small(name)
    inputs = torch.tensor([[5, 1], [3, 0]]), torch.tensor([2, 1]), torch.tensor([[3, 2], [4, 2]])
    names = [name for name, _ in model.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in model.parameters()]

    def logits(*values):
        return torch.func.functional_call(model, dict(zip(names, values, strict=True)), inputs)[0]

    assert torch.autograd.gradcheck(logits, values, fast_mode=True)


@every_model
def test_greedy_is_teacher_forcing_on_its_own_output(name):
    model = small(name)
    source, lengths = torch.tensor([[5, 1, 8], [7, 6, 0]]), torch.tensor([3, 2])
    decoded = model.greedy(source, lengths, max_steps=6)
    forced = model(source, lengths, decoded.symbols)
    ended = (decoded.symbols == END).cumsum(1) - (decoded.symbols == END).long() > 0
    torch.testing.assert_close(decoded.logits[~ended], forced.logits[~ended])
    assert (decoded.symbols[ended] == END).all()
    assert torch.equal(decoded.logits.argmax(-1)[~ended], decoded.symbols[~ended])
    if name != "none":
        torch.testing.assert_close(decoded.weights[~ended], forced.weights[~ended])


def test_decoding_stops_at_the_end_symbol_and_at_max_steps():
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
    model = small("none")
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


@every_model
def test_a_beam_of_one_is_greedy(name):
    source, lengths = torch.randint(0, 9, (30, 6)), torch.randint(1, 7, (30,))
    written = set()
    for _ in range(5):
        model = small(name, noise=1.0)
        greedy, beam = model.greedy(source, lengths, 9), model.beam(source, lengths, 9, width=1)
        assert torch.equal(beam.symbols, greedy.symbols)
        written |= {tuple(symbols) for symbols in greedy.symbols.tolist()}
        if name != "none":
            torch.testing.assert_close(beam.weights, greedy.weights)
    assert len(written) > 10, "too dull to tell"


def log_prob_of(model, source, lengths, symbols):
    """`log P` of the symbols `(B, T)` of each source, up to and with the first end."""
    logits = model(source, lengths, symbols).logits.log_softmax(-1)
    there = (symbols == END).cumsum(1) - (symbols == END).long() == 0
    return (logits.gather(2, symbols.unsqueeze(-1)).squeeze(-1) * there).sum(1)


def all_sequences(symbols, max_steps):
    """Every sequence that ends within the steps, or is cut there."""
    others = [s for s in range(symbols) if s != END]
    for n in range(max_steps):
        yield from ((*head, END) for head in itertools.product(others, repeat=n))
    yield from itertools.product(others, repeat=max_steps)


@every_model
@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0, 3.0])
def test_a_wide_beam_is_exhaustive(name, length_penalty):
    V, T = 4, 4
    model = small(name, target_symbols=V, noise=1.0)
    source, lengths = torch.tensor([[5, 1, 8], [7, 0, 0], [4, 6, 0]]), torch.tensor([3, 1, 2])
    every = list(all_sequences(V, T))
    padded = torch.tensor([(*sequence, *[END] * (T - len(sequence))) for sequence in every])
    found = model.beam(source, lengths, T, width=4 * 27, length_penalty=length_penalty)
    total = 0.0
    for b in range(3):
        n = lengths[b]
        alone = source[b : b + 1, :n].expand(len(every), -1), n.expand(len(every))
        log_prob = log_prob_of(model, *alone, padded)
        total += log_prob.exp().sum().item()
        lengths_of = torch.tensor([float(len(sequence)) for sequence in every])
        score = log_prob / ((5 + lengths_of) / 6) ** length_penalty
        best = score.argmax()
        ours = found.symbols[b].tolist()
        assert ours == padded[best][: len(ours)].tolist()
        torch.testing.assert_close(found.log_prob[b], log_prob[best])
    assert total == pytest.approx(3.0)  # so nothing was left out


def beam_by_hand(model, source, max_steps, width, length_penalty):
    """One source, lists of hypotheses, no stopping before the last step: `(symbols, log P)`."""
    inputs = torch.tensor([source]), torch.tensor([len(source)])
    unfinished, best = [((), 0.0)], None
    for t in range(1, max_steps + 1):
        candidates = []
        for prefix, log_prob in unfinished:
            last = model(*inputs, torch.tensor([[*prefix, END]])).logits[0, -1].log_softmax(-1)
            candidates += [((*prefix, s), log_prob + x) for s, x in enumerate(last.tolist())]
        candidates.sort(key=lambda candidate: -candidate[1])
        for sequence, log_prob in candidates[:width]:
            score = log_prob / ((5 + t) / 6) ** length_penalty
            if (sequence[-1] == END or t == max_steps) and (best is None or score > best[0]):
                best = score, sequence, log_prob
        unfinished = [c for c in candidates if c[0][-1] != END][:width]
    return list(best[1]), best[2]


@every_model
@pytest.mark.parametrize(("width", "length_penalty"), [(2, 0.0), (3, 1.0), (2, 3.0)])
def test_beam_is_that_of_lists(name, width, length_penalty):
    """In a padded batch, too: what each source gets alone."""
    model = small(name, target_symbols=5, noise=1.0)
    sources = [[5, 1, 8, 3], [7], [2, 2, 5]]
    padded = torch.tensor([s + [8] * (6 - len(s)) for s in sources])
    lengths = torch.tensor([len(s) for s in sources])
    found = model.beam(padded, lengths, 4, width=width, length_penalty=length_penalty)
    for b, source in enumerate(sources):
        symbols, log_prob = beam_by_hand(model, source, 4, width, length_penalty)
        assert found.symbols[b].tolist() == (symbols + [END] * 4)[: found.symbols.shape[1]]
        assert found.log_prob[b].item() == pytest.approx(log_prob)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "none"])
def test_decoding_never_looks_at_padding(name):
    """At no step, of any hypothesis; and what stands in the padding moves nothing."""
    model = small(name, noise=1.0)
    seen, step = [], model.decoder.step

    def watched(symbol, state, encoded):
        result = step(symbol, state, encoded)
        seen.append((result.weights, encoded.mask))
        return result

    model.decoder.step = watched
    lengths, results = torch.tensor([5, 2, 3]), []
    source = torch.randint(0, 9, (3, 5))
    for filler in (0, 8):
        padded = torch.where(torch.arange(5) < lengths[:, None], source, filler)
        results.append((model.greedy(padded, lengths, 6), model.beam(padded, lengths, 6, width=3)))
    for weights, mask in seen:
        assert (weights[~mask[:, 0]] == 0).all()
        assert mask.sum().item() in (10, 30)  # of 3 and of 9 rows: the true symbols, no more
    (greedy, beam), (other_greedy, other_beam) = results
    assert torch.equal(greedy.logits, other_greedy.logits)
    assert all(torch.equal(a, b) for a, b in zip(beam, other_beam, strict=True))
    there = (torch.arange(5) < lengths[:, None]).unsqueeze(1)
    assert (beam.weights.masked_select(~there.expand_as(beam.weights)) == 0).all()


class Known(NamedTuple):
    """An encoder's or a decoder's whole state: nothing but how many there are."""

    rows: torch.Tensor


class Reader:
    """An encoder that reads nothing."""

    hidden_dim = 1

    def __call__(self, source, lengths):
        return Known(lengths)


class Chain(nn.Module):
    """A decoder with given probabilities of each symbol after each."""

    hidden_dim = 1

    def __init__(self, after):
        super().__init__()
        self.embed = nn.Embedding(6, 1)
        self.table = torch.zeros(6, 6)
        for symbol, probabilities in after.items():
            for following, p in probabilities.items():
                self.table[symbol, following] = p

    def start(self, encoded):
        return encoded

    def step(self, symbol, state, encoded):
        return Step(self.table[symbol].log(), state, None)

    def forward(self, encoded, previous):
        return Decoded(self.table[previous].log(), None, previous)


def chain(after):
    model = Seq2Seq(Reader(), Chain(after))
    return model, torch.tensor([[3], [3]]), torch.tensor([1, 1])


A, B, X = 3, 4, 5


def test_a_beam_of_two_finds_what_greedy_misses():
    model, *inputs = chain(
        {1: {A: 0.6, B: 0.4}, A: {X: 0.4, B: 0.3, A: 0.3}, B: {END: 0.9, X: 0.1}, X: {END: 1.0}}
    )
    assert model.greedy(*inputs, 5).symbols[0].tolist() == [A, X, END]  # 0.24
    found = model.beam(*inputs, 5, width=2)
    assert found.symbols.tolist() == [[B, END]] * 2
    assert found.log_prob.tolist() == pytest.approx([math.log(0.36)] * 2)
    assert found.weights is None


def test_the_length_penalty_lets_a_longer_sequence_win():
    """And the one that was finished first is kept until then."""
    model, *inputs = chain(
        {1: {END: 0.4, A: 0.6}, A: {B: 0.8, X: 0.2}, B: {END: 0.8, X: 0.2}, X: {X: 1.0}}
    )
    short = model.beam(*inputs, 6, width=2)
    assert short.symbols.tolist() == [[END]] * 2  # 0.4
    for penalty, symbols in ((0.1, [END]), (1.0, [A, B, END])):  # 0.384
        found = model.beam(*inputs, 6, width=2, length_penalty=penalty)
        assert found.symbols[0].tolist() == symbols
    assert found.log_prob[0].item() == pytest.approx(math.log(0.384))  # not divided


def test_the_search_goes_on_while_a_longer_sequence_could_win():
    """0.35 is behind 0.4 until, three symbols later, its length counts."""
    model, *inputs = chain(
        {1: {END: 0.4, A: 0.35, 0: 0.25}, 0: {0: 1.0}, A: {B: 1.0}, B: {X: 1.0}, X: {END: 1.0}}
    )
    found = model.beam(*inputs, 6, width=2, length_penalty=1.0)
    assert found.symbols[0].tolist() == [A, B, X, END]


def test_sequences_open_at_the_last_step_count_as_they_are():
    model, *inputs = chain({1: {END: 0.1, A: 0.9}, A: {A: 1.0}})
    assert model.beam(*inputs, 3, width=2).symbols[0].tolist() == [A, A, A]


def test_among_equals_the_first_is_chosen():
    model = small()
    with torch.no_grad():
        model.decoder.output.weight.zero_()
        model.decoder.output.bias.zero_()
    inputs = torch.tensor([[5, 1], [3, 0]]), torch.tensor([2, 1])
    assert model.beam(*inputs, 3, width=1).symbols.tolist() == [[0, 0, 0]] * 2
    assert model.greedy(*inputs, 3).symbols.tolist() == [[0, 0, 0]] * 2
    assert model.beam(*inputs, 3, width=3).symbols.tolist() == [[END]] * 2  # the third of equals


def test_the_largest_are_taken_in_order():
    scores = torch.randint(0, 4, (50, 12)).double()
    scores[:, ::5] = -math.inf
    for k in (1, 3, 11, 12):
        for row, places in zip(scores.tolist(), _best(scores, k).tolist(), strict=True):
            assert places == sorted(range(12), key=lambda place: -row[place])[:k]


def test_beam_in_single_precision_is_as_long_as_it_needs():
    model = small().float()
    found = model.beam(torch.tensor([[5, 1]]), torch.tensor([2]), 4, width=2)
    assert isinstance(found, Found)
    assert found.log_prob.dtype == torch.float32


@pytest.mark.parametrize("name", ["none", "bahdanau", "luong"])
def test_learns_one_batch_by_heart(name):
    model = MODELS[name](source_symbols=9, target_symbols=7, embed_dim=8, hidden_dim=16)
    source = torch.randint(3, 9, (8, 5))
    lengths = torch.tensor([5, 5, 5, 4, 4, 3, 2, 5])
    target = torch.cat([torch.randint(3, 7, (8, 3)), torch.full((8, 1), END)], dim=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(120):
        optimizer.zero_grad()
        F.cross_entropy(model(source, lengths, target).logits.mT, target).backward()
        optimizer.step()
    assert torch.equal(model.greedy(source, lengths, max_steps=9).symbols, target)


@every_model
def test_state_dict_round_trip(name):
    model, other = small(name), small(name)
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
@pytest.mark.parametrize("make", ["bahdanau.rnn_search", "luong.luong"])
def test_clear_errors(make, target, error, message):
    module, function = make.split(".")
    with as_installed():
        build = getattr(importlib.import_module(f"attnbook.{module}"), function)
        model = build(source_symbols=9, target_symbols=7, hidden_dim=4)
        with pytest.raises(error, match=message):
            model(torch.tensor([[5, 1, 8]]), torch.tensor([3]), torch.tensor(target))


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (torch.tensor([5, 1, 8]), ValueError, r"source must have shape \(batch, .* got \(3,\)"),
        (None, TypeError, "source must be an int32 or int64 tensor, got NoneType"),
    ],
)
@pytest.mark.parametrize("make", ["bahdanau.rnn_search", "luong.luong"])
def test_a_source_that_is_none_says_so(make, source, error, message):
    module, function = make.split(".")
    with as_installed():
        build = getattr(importlib.import_module(f"attnbook.{module}"), function)
        model = build(source_symbols=9, target_symbols=7, hidden_dim=4)
        lengths = torch.ones(1).long()
        for run in (
            lambda: model(source, lengths, torch.tensor([[3, 2]])),
            lambda: model.greedy(source, lengths, max_steps=2),
            lambda: model.beam(source, lengths, max_steps=2),
        ):
            with pytest.raises(error, match=message):
                run()


def test_start_and_end_must_be_target_symbols():
    with pytest.raises(ValueError, match=r"end must be in the target's 0..6, got 7"):
        small(end=7)
    with pytest.raises(ValueError, match=r"start must be in the target's 0..6, got -1"):
        small(start=-1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_steps": 0}, "max_steps must be at least 1, got 0"),
        ({"max_steps": 3, "width": 0}, "width must be at least 1, got 0"),
        ({"max_steps": 3, "length_penalty": -1.0}, "length_penalty must not be negative, got -1.0"),
    ],
)
def test_a_search_that_cannot_be_says_so(options, message):
    with pytest.raises(ValueError, match=message):
        small().beam(torch.tensor([[5]]), torch.tensor([1]), **options)
    if options == {"max_steps": 0}:
        with pytest.raises(ValueError, match=message):
            small().greedy(torch.tensor([[5]]), torch.tensor([1]), **options)


def test_an_encoder_and_a_decoder_of_two_widths_are_named():
    with pytest.raises(
        ValueError, match=r"^encoder has hidden_dim 6 but decoder has hidden_dim 5$"
    ):
        Seq2Seq(Encoder(10, 4, 6), BahdanauDecoder(7, 4, 5, 3))
