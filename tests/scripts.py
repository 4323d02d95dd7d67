"""The scripts that made the data of the package."""

import importlib
import sys
from types import ModuleType

from anchors import ROOT

DATA = ROOT / "attnbook" / "tasks" / "data"


def script(name: str) -> ModuleType:
    """A script of the data folder, imported as it is when it runs: from its own folder."""
    sys.path.insert(0, str(DATA))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(DATA))
