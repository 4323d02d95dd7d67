import copy
import math

import pytest
import torch
from building import as_installed
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.testing import assert_close

from attnbook import turing_machine as machine
from attnbook.core import attend
from attnbook.scores import cosine
from attnbook.turing_machine import (
    FeedForwardController,
    Head,
    LSTMController,
    TuringMachine,
    add,
    address,
    content_weights,
    erase,
    interpolate,
    sharpen,
    shift,
    write,
)

B, N, M, K = 2, 5, 3, 3
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


def heads(H=2, steps=K, leading=(B,)):
    def drawn(*shape):
        return torch.randn(*leading, *shape, dtype=torch.float64)

    return Head(
        drawn(H, M),
        drawn(H, 1).exp(),
        drawn(H, 1).sigmoid(),
        drawn(H, steps).softmax(-1),
        1 + drawn(H, 1).exp(),
    )


def somewhere(H=2):
    return torch.randn(B, H, N, dtype=torch.float64).softmax(-1)


# The paper's equations, in loops over numbers


def cosine_by_hand(u, v):
    """Equation 6, and 0 where it divides by zero."""
    lengths = math.sqrt(sum(a * a for a in u)) * math.sqrt(sum(b * b for b in v))
    return sum(a * b for a, b in zip(u, v, strict=True)) / lengths if lengths else 0.0


def content_by_hand(key, memory, strength):
    """Equation 5."""
    powers = [math.exp(strength * cosine_by_hand(key, slot)) for slot in memory]
    return [p / sum(powers) for p in powers]


def interpolate_by_hand(content, before, gate):
    """Equation 7."""
    return [gate * c + (1 - gate) * b for c, b in zip(content, before, strict=True)]


def shift_by_hand(weights, steps):
    """Equation 8: indices modulo N, and a step s(d) for the distance d = i - j."""
    slots, reach = range(len(weights)), len(steps) // 2
    moved = [0.0 for _ in slots]
    for i in slots:
        for j in slots:
            for d in range(-reach, reach + 1):
                if (i - j - d) % len(weights) == 0:
                    moved[i] += weights[j] * steps[d + reach]
    return moved


def sharpen_by_hand(weights, sharpness):
    """Equation 9."""
    powers = [w**sharpness for w in weights]
    return [p / sum(powers) for p in powers]


def write_by_hand(memory, weights, erased, added):
    """Equations 3 and 4, all heads' erasing before any adding."""
    memory = [list(slot) for slot in memory]
    for w, e in zip(weights, erased, strict=True):
        for i, slot in enumerate(memory):
            memory[i] = [m * (1 - w[i] * e[c]) for c, m in enumerate(slot)]
    for w, a in zip(weights, added, strict=True):
        for i, slot in enumerate(memory):
            memory[i] = [m + w[i] * a[c] for c, m in enumerate(slot)]
    return memory


def read_by_hand(memory, weights):
    """Equation 2."""
    return [
        sum(w * slot[c] for w, slot in zip(weights, memory, strict=True))
        for c in range(len(memory[0]))
    ]


def address_by_hand(memory, before, head, h):
    """Figure 2 for head `h`."""
    content = content_by_hand(head.key[h].tolist(), memory, head.strength[h].item())
    gated = interpolate_by_hand(content, before, head.gate[h].item())
    return sharpen_by_hand(shift_by_hand(gated, head.shift[h].tolist()), head.sharpness[h].item())


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


def test_every_step_is_its_equation():
    memory, before, head = torch.randn(B, N, M).double(), somewhere(), heads(steps=5)
    erased, added = torch.rand(B, 2, M).double(), torch.randn(B, 2, M).double()
    content = content_weights(head.key, memory, head.strength)
    steps = {
        "content": content,
        "gate": interpolate(content, before, head.gate),
        "shift": shift(before, head.shift),
        "sharpen": sharpen(before, head.sharpness),
        "address": address(memory, before, head),
    }
    for b in range(B):
        rows, alone = memory[b].tolist(), Head(*(part[b] for part in head))
        for h in range(2):
            was, looked = before[b, h].tolist(), content[b, h].tolist()
            k, beta, g, s, gamma = (part[b, h].tolist() for part in head)
            wanted = {
                "content": content_by_hand(k, rows, beta[0]),
                "gate": interpolate_by_hand(looked, was, g[0]),
                "shift": shift_by_hand(was, s),
                "sharpen": sharpen_by_hand(was, gamma[0]),
                "address": address_by_hand(rows, was, alone, h),
            }
            for name, weights in wanted.items():
                assert steps[name][b, h].tolist() == pytest.approx(weights, rel=1e-12), name
        args = (part[b].tolist() for part in (memory, before, erased, added))
        assert_close(write(memory, before, erased, added)[b], as_tensor(write_by_hand(*args)))


# What each step does


def test_content_is_the_books_attention():
    memory, head = torch.randn(B, N, M).double(), heads(H=1)
    for b in range(B):
        score = cosine(head.strength[b].item())
        wanted = attend(head.key[b], memory[b], memory[b], score=score).weights
        assert_close(content_weights(head.key, memory, head.strength)[b], wanted)


def test_slots_and_keys_of_zeros_have_the_cosine_zero():
    memory = torch.tensor([[0.0, 0.0], [1.0, 0.0]], requires_grad=True)
    key = torch.tensor([[0.0, 0.0], [1.0, 0.0]], requires_grad=True)
    weights = content_weights(key, memory, strength=torch.ones(2, 1))
    assert_close(weights[0], torch.tensor([0.5, 0.5]))
    assert_close(weights[1], torch.tensor([0.0, 1.0]).softmax(-1))
    weights.square().sum().backward()
    assert memory.grad.isfinite().all()
    assert key.grad.isfinite().all()


def test_a_closed_gate_stays_and_an_open_one_goes():
    found, before = somewhere(), somewhere()
    zero = torch.zeros(B, 2, 1, dtype=torch.float64)
    assert torch.equal(interpolate(found, before, zero), before)
    assert torch.equal(interpolate(found, before, zero + 1), found)


@pytest.mark.parametrize("steps", [1, 3, 5, 7])
def test_a_step_forward_is_to_the_next_higher_slot(steps):
    """From every slot by every step, round the end, and further than the memory is long."""
    reach = steps // 2
    for start in range(N):
        for step in range(-reach, reach + 1):
            here = torch.eye(N)[[start]]
            moved = shift(here, torch.eye(steps)[[step + reach]])
            assert moved[0].argmax() == (start + step) % N
            assert moved.sum() == 1


def test_sharpening_sums_to_one_and_keeps_the_order():
    weights = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
    for power in (1.0, 2.0, 9.0):
        sharp = sharpen(weights, torch.full((1, 1), power, dtype=torch.float64))
        assert_close(sharp.sum(), torch.tensor(1.0).double())
        assert_close(sharp[0, 0] / sharp[0, 1], torch.tensor((0.5 / 0.3) ** power).double())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_high_powers_of_small_weights_do_not_vanish(dtype):
    """As they stand, 1/128 to the power 50 is 0 in single precision, and 0 / 0 no number."""
    weights = torch.full((1, 128), 1 / 128, dtype=dtype)
    weights[0, 3] = 2 / 128
    sharp = sharpen(weights, torch.full((1, 1), 50.0, dtype=dtype))
    assert sharp.dtype == dtype
    assert_close(sharp, torch.eye(128, dtype=dtype)[[3]])


def test_nowhere_stays_nowhere_and_has_a_gradient():
    weights = torch.zeros(1, 1, N, requires_grad=True)
    power = torch.full((1, 1, 1), 3.0, requires_grad=True)
    sharp = sharpen(shift(weights, torch.eye(3)[2].expand(1, 1, 3)), power)
    assert sharp.tolist() == [[[0.0] * N]]
    sharp.sum().backward()
    assert weights.grad.isfinite().all()
    assert power.grad.isfinite().all()


def test_adding_comes_after_erasing():
    """What is written where all is erased is what is read there."""
    here, new = torch.eye(N)[[2]], torch.randn(1, M)
    memory = write(torch.randn(N, M), here, erased=torch.ones(1, M), added=new)
    assert torch.equal(here @ memory, new)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(3)))
def test_the_order_of_the_writing_heads_is_free(order):
    torch.manual_seed(0)
    memory, where = torch.randn(N, M).double(), torch.rand(3, N).double()
    erased, added = torch.rand(3, M).double(), torch.randn(3, M).double()
    wanted = write(memory, where, erased, added)
    assert_close(write(memory, where[order], erased[order], added[order]), wanted)


def test_nothing_erased_and_nothing_added_leave_the_memory():
    memory, where, nothing = torch.randn(B, N, M), torch.rand(B, 2, N), torch.zeros(B, 2, M)
    assert torch.equal(write(memory, where, nothing, nothing), memory)
    assert torch.equal(write(memory, torch.zeros(B, 2, N), nothing + 1, nothing + 1), memory)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(1, 3), st.sampled_from([1, 3, 5]), st.integers(0, 2**31 - 1))
def test_weights_are_a_distribution_whatever_the_heads_are_told(slots, H, steps, seed):
    """Equation 1, and the memory's places are alike: all moved round, the weights move round."""
    torch.manual_seed(seed)
    memory = torch.randn(slots, M).double()
    before = torch.randn(H, slots).double().softmax(-1)
    head = heads(H, steps, leading=())
    weights = address(memory, before, head)
    assert (weights >= 0).all()
    assert_close(weights.sum(-1), torch.ones(H).double())
    around = address(memory.roll(2, 0), before.roll(2, -1), head)
    assert_close(around, weights.roll(2, -1))


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


def test_gradients_of_the_steps():
    head = [part[0].requires_grad_() for part in heads(steps=5)]
    memory = torch.randn(N, M).double().requires_grad_()
    before = somewhere()[0].requires_grad_()
    assert gradcheck(lambda m, w, *h: address(m, w, Head(*h)), (memory, before, *head))
    e, a = (torch.rand(2, M).double().requires_grad_() for _ in range(2))
    assert gradcheck(write, (memory, before, e, a))


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
        ("interpolate(x(1, 5), x(1, 4), x(1, 1))", "content has 5 slots but before has 4"),
        ("shift(x(1, 5), x(1, 2))", "steps must hold an odd number of steps, got 2"),
        ("erase(x(5, 3), x(1, 4), x(1, 3))", "weights have 4 slots but memory 5"),
        ("erase(x(5, 3), x(1, 5), x(1, 2))", "vectors have width 2 but memory 3"),
        ("add(x(5, 3), x(1, 5), x(2, 3))", "vectors have 2 heads but weights 1"),
        ("content_weights(x(1, 3), x(5, 2), x(1, 1))", "query has width 3 but key has width 2"),
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


def test_a_memory_of_integers_is_refused():
    with as_installed():
        from attnbook import turing_machine

        with pytest.raises(TypeError, match=r"key must be a floating-point tensor, got torch\.int"):
            turing_machine.content_weights(
                torch.zeros(1, 3), torch.zeros(5, 3).long(), torch.ones(1, 1)
            )


def test_all_that_the_chapter_names_is_public():
    assert {erase, add, write, shift} <= {getattr(machine, name) for name in machine.__all__}
