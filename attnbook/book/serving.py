"""While the site is served: pages that have not changed are not made anew.

MkDocs makes every page at every save. Most of that time goes to the reference (mkdocstrings) and to
the search index, for pages that nobody has touched. Here they are kept from one save to the next,
by a digest of all that they are made from. `mkdocs build` keeps nothing of this.
"""

import errno
import hashlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from mkdocs.structure.toc import TableOfContents

from attnbook._reach import PACKAGE, digest


@dataclass(frozen=True)
class _Rendered:
    """What rendering leaves on a page, and the anchors that it registered for cross-references."""

    content: str | None
    toc: TableOfContents
    title: str | None
    anchors: set[str]
    links: dict[str, dict[str, str]]  # by the path of the file that is linked to
    registered: list[tuple[tuple[Any, ...], dict[str, Any]]]


class Kept:
    """What is kept from one save to the next."""

    def __init__(self) -> None:
        self.serving = False  # the first build comes before
        self._rendered: dict[str, tuple[str, _Rendered]] = {}
        self._entries: dict[str, list[Any]] = {}

    def keep_rendering(self, page: Page, config: MkDocsConfig, files: Files) -> None:
        """Let a page be rendered only if something has changed; call it before it is rendered."""
        key = _key(page, config, files)
        kept_key, kept = self._rendered.get(page.file.src_uri, ("", None))
        autorefs: Any = config.plugins.get("autorefs")
        render = page.render

        def once(config: MkDocsConfig, files: Files) -> None:
            registered, undo = _recorded(autorefs)
            try:
                render(config, files)
            finally:
                undo()
            links = {f.src_uri: found for f, found in (page.links_to_anchors or {}).items()}
            made = _Rendered(
                page.content,
                page.toc,
                page._title_from_render,
                set(page.present_anchor_ids or ()),
                links,
                registered,
            )
            self._rendered[page.file.src_uri] = (key, made)

        def again(config: MkDocsConfig, files: Files) -> None:
            assert kept is not None
            page.content, page.toc = kept.content, kept.toc
            page._title_from_render = kept.title
            page.present_anchor_ids = set(kept.anchors)
            files_now = {path: files.get_file_from_path(path) for path in kept.links}
            page.links_to_anchors = {f: kept.links[path] for path, f in files_now.items() if f}
            for rest, named in kept.registered:
                autorefs.register_anchor(page, *rest, **named)

        same = kept is not None and key == kept_key
        page.render = again if same else once  # type: ignore[method-assign]

    def keep_search(self, config: MkDocsConfig) -> None:
        """Let the search index read a page only if it has changed; call it once a build."""
        index = getattr(config.plugins.get("material/search"), "search_index", None)
        if index is None:
            return
        read: Callable[[Page], None] = index.add_entry_from_context

        def add(page: Page) -> None:
            key = digest([page.url, str(page.title), page.content or ""])
            start = len(index.entries)
            if key in self._entries:
                index.entries += [dict(entry) for entry in self._entries[key]]
            else:
                read(page)
            self._entries[key] = [dict(entry) for entry in index.entries[start:]]

        index.add_entry_from_context = add
        self._entries = {key: self._entries[key] for key in list(self._entries)[-1000:]}


def check_free(host: str, port: int) -> None:
    """Refuse an address at which something else answers, before a site is built for it.

    Raises:
        PluginError: says how to take another.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                message = f"{host}:{port} is taken; take another port: make serve PORT={port + 1}"
                raise PluginError(message) from None


def _recorded(autorefs: Any) -> tuple[list[Any], Callable[[], None]]:
    """Record the anchors that a page registers from now on; give the record and a way to end it."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    if autorefs is None:
        return calls, lambda: None
    register = autorefs.register_anchor

    def recording(page: Page, *rest: Any, **named: Any) -> None:
        calls.append((rest, named))
        register(page, *rest, **named)

    autorefs.register_anchor = recording
    return calls, lambda: delattr(autorefs, "register_anchor")


def _key(page: Page, config: MkDocsConfig, files: Files) -> str:
    """Everything that a page is rendered from."""
    text = page.markdown or ""
    parts = [text, _stamp(Path(config.config_file_path)), *sorted(f.src_uri for f in files)]
    if ":::" in text:
        parts += [_stamp(path) for path in sorted(PACKAGE.rglob("*.py"))]
    return digest(parts)


def _stamp(path: Path) -> str:
    if not path.exists():
        return str(path)
    return f"{path} {hashlib.sha256(path.read_bytes()).hexdigest()}"
