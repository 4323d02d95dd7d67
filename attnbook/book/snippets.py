"""What a reader takes from a page: a block, a script that runs alone, the page as a notebook.

    plain(block)                *copy*: the code, without prompts and outputs
    runnable(blocks, index)     *copy runnable*: a script for a fresh interpreter
    pieces(blocks)              the same, as data: for each block what it adds to a script
    ASSEMBLE_JS                 the function that makes a script from the pieces in the browser
    notebook(text, title)       the page as a notebook, not executed

For the plugin. A page would grow with the square of its blocks if every block carried its whole
script; so put `json.dumps(pieces(blocks))` into the page once (`<script type="application/json">`,
with `</` escaped), ship `ASSEMBLE_JS` once for the site, and give the button of block `i`
`attnbookScript(pieces, i)`: it is character for character `runnable(blocks, i)`, which is made
from the same pieces by the same steps and is what the tests execute. A piece is

    {"where": "chapters/03-scores.md, line 41", for the comment at the top of the script
     "imports": [["from attnbook import", "dot"], ["import math", ""]],   gathered at the top
     "body": "...",     the block as an earlier block of a script
     "last": "...",     the block as the last one, printing or saving; absent where it is the body
     "leaf": 1,         absent unless it is a figure or a table: later scripts leave it out
     "labs": 1}         absent unless it needs attnbook[labs]

and `null` for a block that does not run, which has no script.
"""

from typing import Any

from attnbook.book.bindings import Import, Names
from attnbook.book.blocks import Block
from attnbook.book.download import notebook
from attnbook.book.rewrite import (
    final_expression,
    hoistable,
    needs_labs,
    readable,
    without_imports,
)
from attnbook.book.scripts import code

__all__ = ["ASSEMBLE_JS", "assembled", "notebook", "pieces", "plain", "runnable"]

Piece = dict[str, Any]

ASSEMBLE_JS = """\
function attnbookScript(pieces, index) {
  const used = pieces.filter((p, i) => p && (i === index || (i < index && !p.leaf)));
  const heads = new Map([["import torch", new Set()]]);
  for (const p of used) for (const [head, name] of p.imports) {
    if (!heads.has(head)) heads.set(head, new Set());
    if (name) heads.get(head).add(name);
  }
  const imports = [...heads].map(([head, names]) => (head + " " + [...names].join(", ")).trim());
  imports.sort((a, b) => b.startsWith("from __future__") - a.startsWith("from __future__"));
  const extra = used.some((p) => p.labs) ? "'attnbook[labs]'" : "attnbook";
  const last = pieces[index];
  const bodies = used.map((p) => (p === last && p.last) || p.body).filter((body) => body);
  const comment = `# ${last.where}\\n# Needs: pip install ${extra}`;
  return [comment, imports.join("\\n"), "torch.manual_seed(0)", ...bodies].join("\\n\\n") + "\\n";
}
"""


def plain(block: Block) -> str:
    r"""The block as a reader copies it: no prompts, no outputs.

    >>> from attnbook.book.fences import parse
    >>> block, = parse("```pycon\n>>> for x in 1, 2:\n...     x\n1\n2\n```\n")
    >>> print(plain(block))
    for x in 1, 2:
        x
    """
    return code(block)


def runnable(blocks: list[Block], index: int) -> str:
    r"""A script that shows what block `index` shows, alone in a fresh interpreter.

    It holds the earlier blocks but for figures and tables, then this one. A figure is
    saved as SVG under its name, a table printed row by row.

    Args:
        blocks: all blocks of the page, as `parse` gives them.
        index: which one.

    Raises:
        ValueError: the block does not run.
        PageError: a block cannot be read as Python.

    >>> from attnbook.book.fences import parse
    >>> page = "```python\nimport math\nx = 2\n```\n\n```pycon\n>>> math.sqrt(x)\n1.41\n```\n"
    >>> print(runnable(parse(page, "demo.md"), 1), end="")
    # demo.md, line 6
    # Needs: pip install attnbook
    <BLANKLINE>
    import torch
    import math
    <BLANKLINE>
    torch.manual_seed(0)
    <BLANKLINE>
    x = 2
    <BLANKLINE>
    print(math.sqrt(x))
    """
    return assembled(pieces(blocks), index)


def assembled(found: list[Piece | None], index: int) -> str:
    """The script of block `index` from the page's pieces, as `ASSEMBLE_JS` makes it."""
    last = found[index]
    if last is None:
        raise ValueError(f"block {index} does not run, so it has no script")
    used = [p for p in found[:index] if p and not p.get("leaf")] + [last]
    heads: dict[str, dict[str, None]] = {"import torch": {}}
    for piece in used:
        for head, name in piece["imports"]:
            heads.setdefault(head, {}).update({name: None} if name else {})
    imports = [f"{head} {', '.join(names)}".strip() for head, names in heads.items()]
    imports.sort(key=lambda line: not line.startswith("from __future__"))
    extra = "'attnbook[labs]'" if any(p.get("labs") for p in used) else "attnbook"
    bodies = [p["body"] for p in used[:-1]] + [last.get("last") or last["body"]]
    comment = f"# {last['where']}\n# Needs: pip install {extra}"
    parts = [comment, "\n".join(imports), "torch.manual_seed(0)", *filter(None, bodies)]
    return "\n\n".join(parts) + "\n"


def pieces(blocks: list[Block]) -> list[Piece | None]:
    """What each block adds to a script, and None for a block that does not run.

    Raises:
        PageError: a block cannot be read as Python.
    """
    running = [block for block in blocks if not block.no_run]
    for block in running:
        readable(block)
    sources = [code(block) for block in running]
    hoisted, names = hoistable(sources), Names.of(sources)
    return [None if block.no_run else _piece(block, hoisted, names) for block in blocks]


def _piece(block: Block, hoisted: set[Import], names: Names) -> Piece:
    imports, body = without_imports(code(block, "earlier", names), hoisted)
    _, last = without_imports(_last(block, names), hoisted)
    piece: Piece = {
        "where": f"{block.page or 'page'}, line {block.line}",
        "imports": [list(key) for key in imports],
        "body": body,
    }
    if last != body:
        piece["last"] = last
    if block.leaf:
        piece |= {"body": "", "leaf": 1}
    if block.fig or needs_labs(block):
        piece["labs"] = 1
    return piece


def _last(block: Block, names: Names) -> str:
    """The block as the last of a script: it prints what a session shows, or saves its figure."""
    if not block.leaf:
        return code(block, "last", names)
    before, value, after = final_expression(block)
    if block.table:
        return f"{before}for row in {value}:{after}\n    print(row)"
    name = value if value.isidentifier() else "figure"
    bind = "" if value == name else f"{name} = {value}\n"
    save = f'({name}.savefig if hasattr({name}, "savefig") else {name}.save)("{block.fig}.svg")'
    return f"{before}{bind}{save}{after}"
