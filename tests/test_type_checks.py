"""The axes in annotations are checked while tests run."""

import jaxtyping
import pytest
import torch

import attnbook


def test_a_wrong_shape_is_caught_by_its_annotation() -> None:
    query, key = torch.zeros(2, 4), torch.zeros(3, 4)
    with pytest.raises(jaxtyping.TypeCheckError, match="value"):
        attnbook.attend(query, key, torch.zeros(2, 4))
