"""The Triton kernel of the additive score, in Triton's interpreter, and compiled for two GPUs."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import extras
import jaxtyping
import pytest
import torch
from torch import Tensor

from attnbook import Additive, attend, causal

os.environ.setdefault("TRITON_INTERPRET", "1")  # Triton reads it as it is imported, and not again
pytestmark = pytest.mark.filterwarnings(
    "ignore:overflow encountered in exp:RuntimeWarning"  # NumPy's, of the interpreter: inf is meant
)


@pytest.fixture(scope="module")
def module() -> ModuleType:
    return extras.library("attnbook.fused.additive_triton", "triton")


def inputs(
    lengths: tuple[int, int], hidden: int, batch: tuple[int, ...] = (), size: float = 1.0
) -> tuple[Additive, Tensor, Tensor]:
    torch.manual_seed(0)
    score = Additive(4, 5, hidden).double()
    L, S = lengths
    query, key = torch.randn(*batch, L, 4), torch.randn(*batch, S, 5)
    return score, size * query.double(), size * key.double()


def answers(
    score: Callable[[Tensor, Tensor], Tensor], parts: list[Tensor], query: Tensor, key: Tensor
) -> list[Tensor]:
    """Scores, and the gradients of both inputs and of the three parameters."""
    query, key = query.clone().requires_grad_(), key.clone().requires_grad_()
    scores = score(query, key)
    upstream = torch.linspace(-1, 1, scores.numel()).view(scores.shape).to(scores)
    return [scores.detach(), *torch.autograd.grad(scores, [query, key, *parts], upstream)]


CASES = {
    "ragged tiles": ((17, 20), 33, (2,), 1.0),
    "more than one tile": ((70, 66), 3, (), 1.0),
    "one of everything": ((1, 1), 1, (2, 1), 1.0),
    "beyond the guard": ((5, 7), 9, (1,), 1e4),
    "no queries": ((0, 3), 4, (2,), 1.0),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_equals_the_additive_score(module: ModuleType, case: str, dtype: torch.dtype) -> None:
    score, query, key = inputs(*CASES[case])
    parts = [score.query.weight, score.key.weight, score.v.weight]
    for part in parts:  # both sides begin from the same rounded numbers
        part.data = part.data.to(dtype).double()
    query, key = query.to(dtype).double(), key.to(dtype).double()
    exact = answers(score, parts, query, key)
    score.to(dtype)
    plain = answers(score, parts, query.to(dtype), key.to(dtype))
    found = answers(module.TritonAdditive(score), parts, query.to(dtype), key.to(dtype))
    for n, (want, same, got) in enumerate(zip(exact, plain, found, strict=True)):
        assert got.dtype == dtype
        assert got.isfinite().all()
        if want.numel():
            scale = float(want.abs().max()) + 1
            error, budget = (float((x.double() - want).abs().max()) for x in (got, same))
            eps = torch.finfo(dtype).eps * scale
            if dtype == torch.float64:
                eps *= 8  # the plain path is the exact one here
            assert error <= (3 if n else 2) * (budget + eps)


def test_stands_in_the_place_of_the_score(module: ModuleType) -> None:
    """Masks and dead rows are those of `attend`, axes broadcast, and a step asks for one row."""
    score, query, key = inputs((6, 8), 5, (2,))
    value, mask = torch.randn(8, 3).double(), causal(6, 8) & (torch.arange(6) != 4)[:, None]
    fast = module.TritonAdditive(score)
    wanted = attend(query, key[0], value, score=score, mask=mask)
    got = attend(query, key[0], value, score=fast, mask=mask)
    torch.testing.assert_close(got, wanted)
    assert (got.output[:, 4] == 0).all()
    step = fast.compare(fast.query(query[:, 3:4].float().double()), fast.key(key))
    torch.testing.assert_close(step, score(query, key)[:, 3:4], atol=1e-6, rtol=0)


def test_says_what_it_cannot_do(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    score, query, key = inputs((2, 3), 4)
    fast = module.TritonAdditive(score)
    jaxtyping.config.update("jaxtyping_disable", True)  # as a user has it
    try:
        with pytest.raises(TypeError, match="score must be an Additive, got Linear"):
            module.TritonAdditive(torch.nn.Linear(1, 1))
        with pytest.raises(ValueError, match="key must have 4 hidden units, got 5"):
            fast.compare(fast.query(query), key)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    with pytest.raises(ValueError, match="query must have width 4, got 5"):
        fast(key, key)
    scores = fast(query.requires_grad_(), key)
    with pytest.raises(RuntimeError, match="first-order gradients only"):
        torch.autograd.grad(scores.sum(), query, create_graph=True)
    monkeypatch.setattr(module.triton.knobs.runtime, "interpret", False)
    with pytest.raises(ValueError, match="query must be on a GPU, got one on cpu"):
        fast(query, key)


COMPILE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from attnbook.fused.additive_triton import _gradients_kernel, _scores_kernel

lengths = dict.fromkeys("LSH", "i32")
strides = dict.fromkeys(["stride_b", "stride_l", "stride_s"], "i32")
forward = dict.fromkeys(["q", "k", "v", "scores"], "*fp32") | lengths
names = ["one", "other", "v", "gradient", "of_one", "of_v"]
backward = dict.fromkeys(names, "*fp32") | lengths | strides
for capability in (80, 90):
    for kernel, types in ((_scores_kernel, forward), (_gradients_kernel, backward)):
        source = triton.compiler.ASTSource(kernel, {**types, "separable": "*i1"})
        made = triton.compile(source, target=GPUTarget("cuda", capability, 32))
        assert made.asm["cubin"]
        assert ".local" not in made.asm["ptx"], "what a program keeps does not fit its registers"
        print(capability, kernel.fn.__name__)
"""


def test_compiles_for_gpus_that_are_not_here(module: ModuleType, tmp_path: Path) -> None:
    """Down to machine code, by the assembler that Triton carries."""
    variables = {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", COMPILE]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
