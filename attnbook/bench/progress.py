"""One line that says how far a run is, on a terminal and nowhere else."""

import sys
from collections.abc import Sequence
from time import perf_counter
from types import TracebackType
from typing import TextIO

__all__ = ["Progress"]

WIDTH = 24


class Progress:
    """A bar on standard error, wiped before each line that is printed.

    Args:
        total: of steps.
        stream: standard error when None. Nothing is written to one that is not a terminal.
    """

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self.total, self.done, self.begun = max(total, 1), 0, perf_counter()
        self.stream = sys.stderr if stream is None else stream
        self.live = self.stream.isatty()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.wipe()

    def at(self, what: str) -> None:
        """Say what is being done."""
        if not self.live:
            return
        full = WIDTH * self.done // self.total
        spent = int(perf_counter() - self.begun)
        bar = "#" * full + "." * (WIDTH - full)
        text = f"[{bar}] {self.done}/{self.total} {spent // 60}:{spent % 60:02} {what}"
        self.stream.write(f"\r\x1b[K{text[:100]}")
        self.stream.flush()

    def step(self) -> None:
        """One more is done."""
        self.done += 1

    def print(self, lines: Sequence[str]) -> None:
        """Print lines to standard output, the bar out of their way."""
        self.wipe()
        print("\n".join(lines), flush=True)

    def wipe(self) -> None:
        """Take the bar away."""
        if self.live:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
