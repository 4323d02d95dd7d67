"""A user's mistake is named: the argument, what was expected, what came.

These run on the package as users import it, so that what is tested is what they see; under the
tests' own run-time type checks some of the same mistakes would stop earlier, with another message.
"""

import re
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor


def rows(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(*shape, dtype=dtype)


GOOD: dict[str, Any] = {"query": rows(2, 3, 4), "key": rows(2, 5, 4), "value": rows(2, 5, 6)}

ATTENTION: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "integer query": (
        {"query": rows(2, 3, 4).long()},
        TypeError,
        "query must be a floating-point tensor, got torch.int64",
    ),
    "boolean key": (
        {"key": rows(2, 5, 4).bool()},
        TypeError,
        "key must be a floating-point tensor, got torch.bool",
    ),
    "complex value": (
        {"value": rows(2, 5, 6, dtype=torch.complex64)},
        TypeError,
        "value must be a floating-point tensor, got torch.complex64",
    ),
    "a list": (
        {"key": [[1.0]]},
        TypeError,
        "key must be a floating-point tensor, got list",
    ),
    "query of one axis": (
        {"query": rows(4)},
        ValueError,
        "query must have at least two axes (positions, width), got shape (4,)",
    ),
    "value of one axis": (
        {"value": rows(5)},
        ValueError,
        "value must have at least two axes (positions, width), got shape (5,)",
    ),
    "dtypes of query and key": (
        {"key": rows(2, 5, 4).double()},
        TypeError,
        "query is torch.float32 but key is torch.float64",
    ),
    "dtypes of query and value": (
        {"value": rows(2, 5, 6).half()},
        TypeError,
        "query is torch.float32 but value is torch.float16",
    ),
    "widths": (
        {"key": rows(2, 5, 3)},
        ValueError,
        "query has width 4 but key has width 3",
    ),
    "numbers of keys and values": (
        {"value": rows(2, 4, 6)},
        ValueError,
        "key has 5 positions but value has 4",
    ),
    "leading axes of query and key": (
        {"key": rows(3, 5, 4)},
        ValueError,
        "leading axes of query (2,) and key (3,) do not broadcast",
    ),
    "leading axes of query and value": (
        {"value": rows(3, 5, 6)},
        ValueError,
        "leading axes of query (2,) and value (3,) do not broadcast",
    ),
    "leading axes of key and value": (
        {"query": rows(3, 4), "value": rows(7, 5, 6)},
        ValueError,
        "leading axes of key (2,) and value (7,) do not broadcast",
    ),
    "float mask": (
        {"mask": torch.zeros(3, 5)},
        TypeError,
        "mask must be a boolean tensor, True = may attend, got torch.float32",
    ),
    "integer mask": (
        {"mask": torch.ones(3, 5).int()},
        TypeError,
        "mask must be a boolean tensor, True = may attend, got torch.int32",
    ),
    "mask that is no tensor": (
        {"mask": True},
        TypeError,
        "mask must be a boolean tensor, True = may attend, got bool",
    ),
    "transposed mask": (
        {"mask": torch.ones(5, 3).bool()},
        ValueError,
        "mask of shape (5, 3) does not broadcast to the scores' shape (2, 3, 5)",
    ),
    "padding mask without its query axis": (
        {"mask": torch.ones(2, 5).bool()},
        ValueError,
        "mask of shape (2, 5) does not broadcast to the scores' shape (2, 3, 5)",
    ),
    "mask with more axes than the scores": (
        {"mask": torch.ones(1, 2, 3, 5).bool()},
        ValueError,
        "mask of shape (1, 2, 3, 5) does not broadcast to the scores' shape (2, 3, 5)",
    ),
    "devices of query and key": (
        {"query": rows(2, 3, 4).to("meta")},
        ValueError,
        "query is on meta but key is on cpu",
    ),
    "devices of query and value": (
        {"value": rows(2, 5, 6).to("meta")},
        ValueError,
        "query is on cpu but value is on meta",
    ),
    "mask on another device": (
        {"mask": torch.ones(3, 5, dtype=torch.bool, device="meta")},
        ValueError,
        "mask is on meta but the scores are on cpu",
    ),
    "dropout of one": ({"dropout": 1.0}, ValueError, "dropout must be in [0, 1), got 1.0"),
    "negative dropout": ({"dropout": -0.1}, ValueError, "dropout must be in [0, 1), got -0.1"),
    "dropout that is no number": (
        {"dropout": float("nan")},
        ValueError,
        "dropout must be in [0, 1), got nan",
    ),
}


@pytest.mark.parametrize("path", ["attend", "fused.sdpa", "fused.tiled"])
@pytest.mark.parametrize("case", ATTENTION)
def test_attention_names_the_mistake(case: str, path: str, installed: ModuleType) -> None:
    """The readable path and the fast ones say the same."""
    changed, error, message = ATTENTION[case]
    module, _, name = path.rpartition(".")
    attention = getattr(getattr(installed, module) if module else installed, name)
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        attention(**{**GOOD, **changed})


PARTS: dict[str, tuple[str, type[Exception], str]] = {
    # core
    "weights and values": (
        "aggregate(rows(3, 5), rows(4, 2))",
        ValueError,
        "weights have 5 positions but value has 4",
    ),
    "integer weights": (
        "aggregate(rows(3, 5).int(), rows(5, 2))",
        TypeError,
        "weights must be a floating-point tensor, got torch.int32",
    ),
    "weights of one axis": (
        "aggregate(rows(5), rows(5, 2))",
        ValueError,
        "weights must have at least two axes (positions, width), got shape (5,)",
    ),
    "weights of another type than the values": (
        "aggregate(rows(3, 5), rows(5, 2).double())",
        TypeError,
        "weights is torch.float32 but value is torch.float64",
    ),
    "leading axes of weights and values": (
        "aggregate(rows(2, 3, 5), rows(4, 5, 2))",
        ValueError,
        "leading axes of weights (2,) and value (4,) do not broadcast",
    ),
    "weights on another device": (
        "aggregate(rows(3, 5).to('meta'), rows(5, 2))",
        ValueError,
        "weights is on meta but value is on cpu",
    ),
    "a score by its name": (
        "attend(rows(3, 4), rows(5, 4), rows(5, 4), score='dot')",
        TypeError,
        "score must be callable, got str",
    ),
    "no normaliser": (
        "attend(rows(3, 4), rows(5, 4), rows(5, 4), normalize=None)",
        TypeError,
        "normalize must be callable, got NoneType",
    ),
    "a score of another shape": (
        "attend(rows(3, 4), rows(5, 4), rows(5, 4), score=lambda q, k: k @ q.mT)",
        ValueError,
        "score must return (*b, L, S) with (L, S) = (3, 5), got (5, 3)",
    ),
    "a score that sums too much": (
        "attend(rows(3, 4), rows(5, 4), rows(5, 4), score=lambda q, k: (q @ k.mT).sum())",
        ValueError,
        "score must return (*b, L, S) with (L, S) = (3, 5), got ()",
    ),
    "a score that is no tensor": (
        "attend(rows(3, 4), rows(5, 4), rows(5, 4), score=lambda q, k: 0.0)",
        TypeError,
        "score must return a tensor, got float",
    ),
    "a normaliser that was not called": (
        "attend(rows(3, 4), rows(5, 4), rows(5, 4), normalize=sample)",
        TypeError,
        "normalize must return a tensor, got function: entmax, gumbel and sample make a "
        "normaliser when called, as in normalize=sample()",
    ),
    "entmax that was not called": (
        "attend(rows(3, 4), rows(5, 4), rows(5, 4), normalize=entmax)",
        TypeError,
        "alpha must be a number, got Tensor",
    ),
    "gumbel that was not called": (
        "attend(rows(3, 4), rows(5, 4), rows(5, 4), normalize=gumbel)",
        TypeError,
        "temperature must be a number, got Tensor",
    ),
    "a normaliser that sums": (
        "attend(rows(3, 4), rows(5, 4), rows(5, 4), normalize=lambda z: z.sum(-1))",
        ValueError,
        "normalize must return weights of the scores' shape (3, 5), got (3,)",
    ),
    "weights of queries of one axis": (
        "attention_weights(rows(4), rows(5, 4))",
        ValueError,
        "query must have at least two axes (positions, width), got shape (4,)",
    ),
    # scores
    "zero bandwidth": ("gaussian(0.0)", ValueError, "bandwidth must be positive, got 0.0"),
    "bandwidth that is no number": (
        "gaussian(float('nan'))",
        ValueError,
        "bandwidth must be positive, got nan",
    ),
    "a feature map that is none": (
        "log_kernel(3)",
        TypeError,
        "feature_map must be callable, got int",
    ),
    "dot of two widths": (
        "dot()(rows(3, 4), rows(5, 2))",
        ValueError,
        "query has width 4 but key has width 2",
    ),
    "cosine of two widths": (
        "cosine()(rows(3, 4), rows(5, 2))",
        ValueError,
        "query has width 4 but key has width 2",
    ),
    "gaussian of two widths": (
        "gaussian()(rows(3, 4), rows(5, 1))",
        ValueError,
        "query has width 4 but key has width 1",
    ),
    "kernel of two widths": (
        "log_kernel(torch.exp)(rows(3, 4), rows(5, 2))",
        ValueError,
        "query has width 4 but key has width 2",
    ),
    "additive query": (
        "Additive(3, 2, 4)(rows(3, 4), rows(5, 2))",
        ValueError,
        "query has width 4 but query_dim is 3",
    ),
    "additive key": (
        "Additive(3, 2, 4)(rows(3, 3), rows(5, 4))",
        ValueError,
        "key has width 4 but key_dim is 2",
    ),
    "concat query": (
        "Concat(3, 2, 4)(rows(3, 2), rows(5, 3))",  # the sum of the widths is right
        ValueError,
        "query has width 2 but query_dim is 3",
    ),
    "concat key": (
        "Concat(3, 2, 4)(rows(3, 3), rows(5, 3))",
        ValueError,
        "key has width 3 but key_dim is 2",
    ),
    "bilinear query": (
        "Bilinear(3, 2)(rows(3, 2), rows(5, 2))",
        ValueError,
        "query has width 2 but query_dim is 3",
    ),
    "bilinear key": (
        "Bilinear(3, 2)(rows(3, 3), rows(5, 3))",
        ValueError,
        "key has width 3 but key_dim is 2",
    ),
    "location query": (
        "Location(3, 4)(rows(3, 2), rows(4, 2))",
        ValueError,
        "query has width 2 but query_dim is 3",
    ),
    "more keys than locations": (
        "Location(3, 4)(rows(3, 3), rows(5, 2))",
        ValueError,
        "key has 5 positions but Location was built with max_keys=4",
    ),
    # normalizers
    "zero temperature": (
        "softmax(rows(3), 0.0)",
        ValueError,
        "temperature must be positive, got 0.0",
    ),
    "negative temperature": ("gumbel(-1.0)", ValueError, "temperature must be positive, got -1.0"),
    "alpha of one": ("entmax(1.0)", ValueError, "alpha must be in (1, 2], got 1.0"),
    "alpha above two": ("entmax(2.1)", ValueError, "alpha must be in (1, 2], got 2.1"),
    "alpha that is no number": (
        "entmax(float('nan'))",
        ValueError,
        "alpha must be in (1, 2], got nan",
    ),
    **{
        f"{normalizer} of {what}": (
            f"{normalizer}({made})",
            TypeError,
            f"scores must be a floating-point tensor, got {got}",
        )
        for normalizer in (
            "softmax",
            "sparsemax",
            "entmax()",
            "sigmoid",
            "hardmax",
            "gumbel()",
            "sample()",
            "LinearChain()",
        )
        for what, made, got in (
            ("integers", "rows(3).long()", "torch.int64"),
            ("a list", "[1.0]", "list"),
        )
    },
    "scores without an axis": (
        "softmax(torch.tensor(1.0))",
        ValueError,
        "scores must have at least one axis, got a single number",
    ),
    "a choice of another shape": (
        "log_probability(rows(2, 3), rows(3))",
        ValueError,
        "choice has shape (3,) but scores have (2, 3)",
    ),
    "a choice that is an index": (
        "log_probability(rows(2, 3), torch.ones(2, 3).long())",
        TypeError,
        "choice must be a floating-point tensor, got torch.int64",
    ),
    # masks
    "fractional count": ("causal(2.0, 3)", TypeError, "L must be an integer, got float"),
    "boolean count": ("causal(2, True)", TypeError, "S must be an integer, got bool"),
    "negative count": ("causal(2, -3)", ValueError, "S must not be negative, got -3"),
    "negative offset": (
        "causal(2, 3, offset=-1)",
        ValueError,
        "offset must not be negative, got -1",
    ),
    "negative width": ("window(2, 3, width=-1)", ValueError, "width must not be negative, got -1"),
    "fractional width": ("window(2, 3, 1.5)", TypeError, "width must be an integer, got float"),
    "too long": (
        "padding(torch.tensor([2, 4]), 3)",
        ValueError,
        "lengths must be between 0 and S = 3, got 4",
    ),
    "negative length": (
        "padding(torch.tensor([-1, 4]), 3)",
        ValueError,
        "lengths must be between 0 and S = 3, got -1",
    ),
    "fractional lengths": (
        "padding(torch.tensor([2.0]), 3)",
        TypeError,
        "lengths must be an integer tensor, got torch.float32",
    ),
    "a mask for lengths": (
        "padding(torch.tensor([True]), 3)",
        TypeError,
        "lengths must be an integer tensor, got torch.bool",
    ),
    "lengths in a list": (
        "padding([2, 3], 3)",
        TypeError,
        "lengths must be an integer tensor, got list",
    ),
    "no S": ("padding(torch.tensor([2]), 3.0)", TypeError, "S must be an integer, got float"),
    "fractional ids": (
        "document(torch.tensor([0.0, 1.0]))",
        TypeError,
        "ids must be an integer tensor, got torch.float32",
    ),
    "one id": (
        "document(torch.tensor(3))",
        ValueError,
        "ids must have shape (*b, L), got a single number",
    ),
}


@pytest.mark.parametrize("case", PARTS)
def test_a_part_names_the_mistake(case: str, installed: ModuleType) -> None:
    call, error, message = PARTS[case]
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        eval(call, {**vars(installed), "torch": torch, "rows": rows})


def test_the_user_sees_no_run_time_type_checks(installed: ModuleType) -> None:
    """The fixture does what it says: annotations are inert, as they are for a user."""
    assert not hasattr(installed.attend, "__wrapped__")
    assert installed.attend.__module__ == "attnbook.core"
