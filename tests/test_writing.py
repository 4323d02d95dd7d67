import pytest
import torch
from building import as_installed
from hypothesis import given, settings
from hypothesis import strategies as st
from slots import B, M, N, somewhere, write_by_hand
from torch.autograd import gradcheck
from torch.testing import assert_close

from attnbook.writing import write


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def test_writing_is_that_of_the_paper():
    memory, where = torch.randn(B, N, M).double(), somewhere()
    erased, added = torch.rand(B, 2, M).double(), torch.randn(B, 2, M).double()
    found = write(memory, where, erased, added)
    for b in range(B):
        wanted = write_by_hand(*(part[b].tolist() for part in (memory, where, erased, added)))
        assert_close(found[b], torch.tensor(wanted, dtype=torch.float64))


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


def test_gradients_are_exact():
    memory, where = torch.randn(N, M).double().requires_grad_(), somewhere()[0].requires_grad_()
    e, a = (torch.rand(2, M).double().requires_grad_() for _ in range(2))
    assert gradcheck(write, (memory, where, e, a))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("erase(x(5, 3), x(1, 4), x(1, 3))", "weights have 4 slots but memory 5"),
        ("erase(x(5, 3), x(1, 5), x(1, 2))", "vectors have width 2 but memory 3"),
        ("add(x(5, 3), x(1, 5), x(2, 3))", "vectors have 2 heads but weights 1"),
    ],
)
def test_clear_errors(call, message):
    with as_installed():
        from attnbook import writing

        with pytest.raises(ValueError, match=message):
            eval(call, {**vars(writing), "x": torch.zeros})
