"""A stand-in for jaxtyping where it is not installed: annotations that say nothing of axes.

A bare machine that only runs the benchmark needs torch alone. `Float[Tensor, "L D"]` is then
`Tensor`.
"""

import sys
from types import ModuleType
from typing import Any


class _Axes:
    def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
        return item[0]


try:
    import jaxtyping  # noqa: F401
except ModuleNotFoundError:
    stand_in = ModuleType("jaxtyping", __doc__)
    names = ("Bool", "Complex", "Float", "Float32", "Float64", "Int", "Shaped")
    vars(stand_in).update(dict.fromkeys(names, _Axes))
    sys.modules["jaxtyping"] = stand_in
