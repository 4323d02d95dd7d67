"""What the book engine passes around: a page's Python block, and what is wrong with a page."""

from dataclasses import dataclass, field


class PageError(ValueError):
    """What is wrong with a page, and where.

    Attributes:
        page: the page, as it was named to the parser.
        line: the line of the page.
        message: what is wrong.
        code: that line's code, if the fault lies in a block's code.
        block_line: line of the page at which the block's code begins, or None.
        python_line: the line inside the block, from 1, or None.
        details: the traceback from the block inwards, or the difference in output; may be empty.
    """

    def __init__(
        self,
        page: str,
        line: int,
        message: str,
        *,
        code: str = "",
        block_line: int | None = None,
        details: str = "",
    ) -> None:
        super().__init__(
            f"{page or '<page>'}:{line}: {message}" + (f"\n    {code}" if code else "")
        )
        self.page, self.line, self.message, self.code = page, line, message, code
        self.block_line = block_line
        self.python_line = None if block_line is None else line - block_line + 1
        self.details = details


@dataclass(frozen=True)
class Block:
    """One Python fence. `text[start:end]` is the whole fence, prefix of its first line included."""

    language: str  # "python" or "pycon"
    source: str  # the code, without fence and prefix, each line ended by \n
    line: int  # line of the opening fence, from 1
    attrs: dict[str, str | bool] = field(default_factory=dict)
    prefix: str = ""  # what stands before the fence on every line of it: indentation, "> "
    start: int = 0
    end: int = 0
    page: str = ""
    index: int = 0  # place among the page's blocks

    @property
    def code_line(self) -> int:
        """Line of the page at which the code begins."""
        return self.line + 1

    @property
    def fig(self) -> str:
        """The name of the figure that the block draws, or ""."""
        return self.value("fig")

    @property
    def table(self) -> str:
        """The name of the table that the block computes, or ""."""
        return self.value("table")

    @property
    def hide(self) -> bool:
        """Runs, but is not shown."""
        return bool(self.attrs.get("hide"))

    @property
    def no_run(self) -> bool:
        """Shown, but does not run; `reason` says why."""
        return bool(self.attrs.get("no_run"))

    @property
    def leaf(self) -> bool:
        """Draws or tabulates: later blocks see nothing of what it did."""
        return bool(self.fig or self.table)

    def value(self, name: str) -> str:
        """The attribute `name` as text, "" where it is not given."""
        return str(self.attrs.get(name, ""))
