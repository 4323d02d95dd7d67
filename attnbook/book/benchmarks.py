"""The results of the benchmark as tables for docs/benchmarks/index.md.

They are made anew at each build, from the committed files alone: a row whose code has changed since
it was timed is marked, and what one cell says in short its button gives in full, as a command.
"""

from html import escape
from pathlib import Path

from attnbook.bench.report import bytes_in_words, seconds_in_words
from attnbook.bench.results import FOLDER, Results, Row, load_all

HEADS = {
    "work": "What was done",
    "way": "Implementation",
    "time": "Time",
    "ratio": "Against the reference",
    "peer": "Against the best peer",
    "memory": "Peak memory",
    "speed": "Speed",
    "share": "Of the ceiling",
    "error": "Error",
    "command": "Reproduce",
}
NONE: tuple[str, float | None] = ("", None)


def tables(folder: Path = FOLDER) -> list[tuple[str, str]]:
    """A heading in Markdown and a table in HTML for each mechanism of each device.

    Raises:
        ValueError: a result file is not what the schema says.
    """
    found = []
    for stem, results in load_all(folder).items():
        found.append((f"## Every row: {results.device.name}", ""))
        for mechanism in results.names("mechanism"):
            rows = results.select(mechanism=mechanism)
            name = f"tbl-{stem}-{mechanism.replace(' ', '-')}"
            title = mechanism[0].upper() + mechanism[1:]
            shared = _sizes({k: n for k, n in rows[0].shape.items() if _same(k, rows)})
            every = f"In every row: {shared}." if shared and len(rows) > 1 else ""
            found.append((f"### {title}\n\n{every}", _table(name, results, rows)))
    return found


def stamp(results: Results) -> str:
    """What the rows were measured on and with, in one line.

    >>> from attnbook.bench.results import CPU
    >>> when, commit = "2026-01-02T03:04:05+00:00", "0123456789abcdef"
    >>> stamp(Results(when, commit, False, CPU, "2.13.0", None, "0.1.0"))
    'CPU, 1 thread; PyTorch 2.13.0; commit 0123456789, 2026-01-02'
    """
    commit = f"commit {results.commit[:10]}" if results.commit else "no commit"
    changed = " with changes" if results.dirty else ""
    return (
        f"{results.device}; PyTorch {results.torch.partition('+')[0]}; "
        f"{commit}{changed}, {results.timestamp[:10]}"
    )


def work(row: Row, among: list[Row] | None = None) -> str:
    r"""What a row did: its pass, mask and type, and the sizes that the rows around it do not share.

    >>> one = ("", "local", "ours", None, "forward", "float32", {"B": 1, "L": 512}, "causal", "")
    >>> work(Row(*one))
    'forward, causal, B\xa01, L\xa0512'
    """
    mask = [] if row.mask == "none" else [row.mask]
    dtype = [] if row.dtype == "float32" else [row.dtype]
    sizes = {k: n for k, n in row.shape.items() if not (among and _same(k, among))}
    return ", ".join([row.passes, *mask, *dtype, *([_sizes(sizes)] if sizes else [])])


def _sizes(shape: dict[str, int]) -> str:
    return ", ".join(f"{name}\N{NO-BREAK SPACE}{size:,}" for name, size in shape.items())


def _same(name: str, rows: list[Row]) -> bool:
    return len(rows) > 1 and len({row.shape.get(name) for row in rows}) == 1


def _table(name: str, results: Results, rows: list[Row]) -> str:
    cells = [_cells(row, place, rows, results.stale(row)) for place, row in enumerate(rows)]
    heads = [key for key in HEADS if any(texts[key][0] for texts in cells)]
    top = "\n".join(f'<th scope="col" data-sort="{key}">{HEADS[key]}</th>' for key in heads)
    body = "".join(
        "<tr>{}</tr>\n".format("\n".join(_cell(key, *texts[key]) for key in heads))
        for texts in cells
    )
    return (
        f'<div class="book-table" id="{name}"><div class="book-scroll" data-scroll="table">'
        f'<table class="book-grid book-sorted"><thead><tr>{top}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div></div>"
    )


def _cells(
    row: Row, place: int, rows: list[Row], changed: tuple[str, ...]
) -> dict[str, tuple[str, float | None]]:
    """What each cell of a row says, and the number that it is sorted by."""
    way = f"{row.implementation} {(row.version or '').partition('+')[0]}".strip()
    stale = f" (stale: {', '.join(changed)} changed since)" if changed else ""
    time, speed, share = seconds_in_words(row.median), NONE, NONE
    if row.metric:
        speed = f"{row.metric['value']:.3g} {row.metric['name']}", row.metric["value"]
    if row.ceiling:
        share = f"{row.ceiling['pct']:.0f} % of {row.ceiling['kind']}", row.ceiling["pct"]
    if row.status != "ok":
        time = "out of memory" if row.status == "oom" else f"{row.status}: {row.message}"
    return {
        "work": (work(row, rows), place),  # sorted by it, the rows stand as they were timed
        "way": (way + stale, None),
        "time": (time, row.median),
        "ratio": (_times(row.ratio, row.bar), row.ratio),
        "peer": (_times(row.best_peer_ratio, row.peer_bar), row.best_peer_ratio),
        "memory": (bytes_in_words(row.peak_bytes), row.peak_bytes),
        "speed": speed,
        "share": share,
        "error": (f"{row.max_error:.0e}", row.max_error) if row.max_error is not None else NONE,
        "command": (row.command, None),
    }


def _cell(key: str, text: str, value: float | None) -> str:
    if key == "command":
        return f'<td><code class="book-command">{escape(text)}</code></td>'
    style = "" if value is None or key == "work" else ' class="book-number"'
    number = "" if value is None else f' data-value="{value!r}"'
    return f"<td{style}{number}>{escape(text)}</td>"


def _times(ratio: float | None, bar: float | None) -> str:
    if ratio is None:
        return ""
    if bar is None:
        return f"{ratio:.2f}"
    return f"{ratio:.2f} ({'reached' if ratio >= bar else 'missed'}: {bar:g})"
