import pytest
import torch
from building import as_installed
from hypothesis import given, settings
from hypothesis import strategies as st
from slots import (
    B,
    M,
    N,
    address_by_hand,
    content_by_hand,
    heads,
    interpolate_by_hand,
    sharpen_by_hand,
    shift_by_hand,
    somewhere,
)
from torch.autograd import gradcheck
from torch.testing import assert_close

from attnbook.addressing import Head, address, content_weights, interpolate, sharpen, shift
from attnbook.core import attend
from attnbook.scores import cosine


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def test_every_step_is_its_equation():
    memory, before, head = torch.randn(B, N, M).double(), somewhere(), heads(steps=5)
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


def test_gradients_are_exact():
    head = [part[0].requires_grad_() for part in heads(steps=5)]
    memory = torch.randn(N, M).double().requires_grad_()
    before = somewhere()[0].requires_grad_()
    assert gradcheck(lambda m, w, *h: address(m, w, Head(*h)), (memory, before, *head))


# Mistakes


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("interpolate(x(1, 5), x(1, 4), x(1, 1))", "content has 5 slots but before has 4"),
        ("shift(x(1, 5), x(1, 2))", "steps must hold an odd number of steps, got 2"),
        ("content_weights(x(1, 3), x(5, 2), x(1, 1))", "query has width 3 but key has width 2"),
    ],
)
def test_clear_errors(call, message):
    with as_installed():
        from attnbook import addressing

        with pytest.raises(ValueError, match=message):
            eval(call, {**vars(addressing), "x": torch.zeros})


def test_a_memory_of_integers_is_refused():
    with as_installed():
        from attnbook import addressing

        with pytest.raises(TypeError, match=r"key must be a floating-point tensor, got torch\.int"):
            addressing.content_weights(
                torch.zeros(1, 3), torch.zeros(5, 3).long(), torch.ones(1, 1)
            )
