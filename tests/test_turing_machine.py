import copy
import math

import pytest
import torch
from building import as_installed
from slots import B, M, N, address_by_hand, read_by_hand, write_by_hand
from torch.autograd import gradcheck
from torch.testing import assert_close

from attnbook.addressing import Head
from attnbook.turing_machine import FeedForwardController, LSTMController, TuringMachine

CONTROLLERS = {"feed-forward": FeedForwardController, "lstm": LSTMController}
each_controller = pytest.mark.parametrize("controller", CONTROLLERS)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def made(controller="feed-forward", dtype=torch.float64, **options):
    sizes = {"read_heads": 2, "write_heads": 2, "slots": N, "memory_dim": M, **options}
    model = TuringMachine(4, 2, 6, controller=CONTROLLERS[controller], **sizes).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():  # away from special points
            parameter.add_(0.5 * torch.randn_like(parameter))
    return model


def flat(rows):
    return [number for row in rows for number in row]


def as_tensor(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def linear_by_hand(layer, x):
    rows = zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
    return [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in rows]


def controller_by_hand(controller, x, carried):
    if isinstance(controller, FeedForwardController):
        return [max(v, 0.0) for v in linear_by_hand(controller.layer, x)], None
    cell = controller.cell
    C = cell.hidden_size
    h, c = carried or ([0.0] * C, [0.0] * C)
    drive = [
        sum(w * v for w, v in zip(cell.weight_ih[r].tolist(), x, strict=True))
        + sum(w * v for w, v in zip(cell.weight_hh[r].tolist(), h, strict=True))
        + (cell.bias_ih[r] + cell.bias_hh[r]).item()
        for r in range(4 * C)
    ]

    def sigmoid(v):
        return 1 / (1 + math.exp(-v))

    i, f, g, o = (drive[n * C : (n + 1) * C] for n in range(4))
    c = [sigmoid(f[n]) * c[n] + sigmoid(i[n]) * math.tanh(g[n]) for n in range(C)]
    h = [sigmoid(o[n]) * math.tanh(c[n]) for n in range(C)]
    return h, (h, c)


@torch.no_grad()
def run_by_hand(model, inputs):
    """One input: the outputs and the heads' weights at every step."""
    R, W = model.read_heads, model.write_heads
    softplus = torch.nn.functional.softplus
    memory = [[1e-3] * M for _ in range(N)]
    weights = [[1.0] + [0.0] * (N - 1) for _ in range(R + W)]
    reads, carried = [[1e-3] * M for _ in range(R)], None
    outputs, places = [], []
    for x in inputs.tolist():
        hidden, carried = controller_by_hand(model.controller, x + flat(reads), carried)
        numbers = as_tensor(linear_by_hand(model.where, hidden)).view(R + W, -1)
        head = Head(
            numbers[:, :M],
            softplus(numbers[:, M : M + 1]),
            numbers[:, M + 1 : M + 2].sigmoid(),
            numbers[:, M + 3 :].softmax(-1),
            1 + softplus(numbers[:, M + 2 : M + 3]),
        )
        weights = [address_by_hand(memory, weights[h], head, h) for h in range(R + W)]
        what = as_tensor(linear_by_hand(model.what, hidden)).view(W, 2, M)
        memory = write_by_hand(
            memory, weights[R:], what[:, 0].sigmoid().tolist(), what[:, 1].tolist()
        )
        reads = [read_by_hand(memory, weights[r]) for r in range(R)]
        outputs.append(linear_by_hand(model.output, hidden + flat(reads)))
        places.append(weights)
    return as_tensor(outputs), as_tensor(places), as_tensor(memory)


@each_controller
def test_the_machine_is_that_of_the_paper(controller):
    model, inputs = made(controller), torch.randn(B, 4, 4, dtype=torch.float64)
    ran = model(inputs)
    for b in range(B):
        outputs, places, memory = run_by_hand(model, inputs[b])
        assert_close(ran.output[b], outputs)
        assert_close(torch.cat([ran.read_weights, ran.write_weights], dim=2)[b], places)
        assert_close(ran.state.memory[b], memory)


# The machine


@each_controller
@pytest.mark.parametrize(("R", "W"), [(1, 1), (2, 1), (1, 3)])
def test_shapes(controller, R, W):
    model = made(controller, read_heads=R, write_heads=W, steps=5)
    ran = model(torch.randn(B, 4, 4).double())
    assert ran.output.shape == (B, 4, 2)
    assert ran.read_weights.shape == (B, 4, R, N)
    assert ran.write_weights.shape == (B, 4, W, N)
    assert ran.state.memory.shape == (B, N, M)


@each_controller
def test_inputs_may_come_in_parts(controller):
    model, inputs = made(controller), torch.randn(B, 6, 4, dtype=torch.float64)
    whole, first = model(inputs), model(inputs[:, :2])
    second = model(inputs[:, 2:], first.state)
    assert_close(torch.cat([first.output, second.output], dim=1), whole.output)
    for end, wanted in zip(second.state[:3], whole.state[:3], strict=True):
        assert_close(end, wanted)


@each_controller
def test_examples_of_a_batch_do_not_see_each_other_nor_steps_the_future(controller):
    model, inputs = made(controller), torch.randn(B, 6, 4, dtype=torch.float64)
    changed = inputs.clone()
    changed[0] += 1
    changed[1, 3:] += 1
    before, after = model(inputs).output, model(changed).output
    assert_close(after[1, :3], before[1, :3], rtol=0, atol=0)
    assert not torch.isclose(after[1, 3:], before[1, 3:]).any()


def test_a_machine_runs_on_another_number_of_slots():
    model = made()
    assert model(torch.zeros(B, 3, 4).double(), model.begin(B, slots=9)).read_weights.shape[-1] == 9


def test_what_one_head_writes_the_machine_reads_at_the_same_step():
    """Equation 2 reads the memory that equations 3 and 4 have just written."""
    model, x = made(), torch.randn(B, 4, dtype=torch.float64)
    _, state = model.step(x, model.begin(B))
    assert_close(state.reads, state.weights[:, : model.read_heads] @ state.memory)


@each_controller
def test_gradients_are_those_of_differences(controller):
    model = made(controller, read_heads=1, write_heads=2)

    def run(inputs, *parameters):
        named = dict(zip(dict(model.named_parameters()), parameters, strict=True))
        return torch.func.functional_call(model, named, (inputs,)).output

    inputs = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(run, (inputs, *model.parameters()), fast_mode=True)


@each_controller
def test_parameters_survive_saving(controller, tmp_path):
    model, inputs = made(controller), torch.randn(B, 4, 4, dtype=torch.float64)
    torch.save(model.state_dict(), tmp_path / "machine.pt")
    other = made(controller)
    other.load_state_dict(torch.load(tmp_path / "machine.pt"))
    assert torch.equal(other(inputs).output, model(inputs).output)
    assert torch.equal(copy.deepcopy(model)(inputs).output, model(inputs).output)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@each_controller
def test_precisions(controller, dtype):
    model = made(controller, dtype=dtype)
    ran = model(torch.randn(B, 4, 4, dtype=dtype))
    assert ran.output.dtype == ran.state.memory.dtype == dtype
    assert ran.output.isfinite().all()
    ran.output.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


# Mistakes


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("TuringMachine(4, 2, 6, steps=2)", "steps must be odd, got 2"),
        ("TuringMachine(4, 2, 6, write_heads=0)", "write_heads must be at least 1, got 0"),
        ("TuringMachine(4, 2, 0)", "hidden_dim must be at least 1, got 0"),
        ("TuringMachine(4, 2, 6).begin(1, slots=0)", "slots must be at least 1, got 0"),
        (
            "TuringMachine(4, 2, 6)(x(2, 3, 5))",
            r"inputs must have shape \(batch, at least 1 step, 4\), got \(2, 3, 5\)",
        ),
        ("TuringMachine(4, 2, 6)(x(2, 0, 4))", r"got \(2, 0, 4\)"),
        (
            "TuringMachine(4, 2, 6)(x(2, 3, 4), TuringMachine(4, 2, 6).begin(1))",
            "state is of 1 inputs but there are 2",
        ),
    ],
)
def test_clear_errors(call, message):
    with as_installed():
        from attnbook import turing_machine

        with pytest.raises(ValueError, match=message):
            eval(call, {**vars(turing_machine), "x": torch.zeros})
