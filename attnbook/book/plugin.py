"""The MkDocs plugin: the book's pages with what their code draws, their notebooks, its look.

It orders the work; `weave` reads a page, `drawn` runs its code, `blockhtml` sets it, `maths` its
formulas. What is wrong with a page ends the build with the page's name and line.
"""

import json
import logging
import re
import shutil
import time
from html import escape
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urljoin

from jinja2 import Environment
from mkdocs.config import config_options
from mkdocs.config.base import Config
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.plugins import BasePlugin, event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page
from mkdocs.structure.toc import AnchorLink

from attnbook.book import (
    assets,
    claims,
    labpages,
    maths,
    numbers,
    published,
    quotes,
    reading,
    serving,
    snippets,
)
from attnbook.book.catalogue import mend, name_sections
from attnbook.book.citations import Bibliography
from attnbook.book.drawn import Drawn, results
from attnbook.book.fences import PageError
from attnbook.book.twins import twin
from attnbook.book.weave import Sources, Weave

_ID = re.compile(r'\sid="([^"]+)"')
_SHORT_CODE = re.compile(r"<code>([^<\n]{1,18})</code>")
_TOC_MATHS = re.compile(r"\\\((.+?)\\\)")
log = logging.getLogger("mkdocs.plugins.attnbook")


class BookConfig(Config):
    """The plugin's options."""

    bibliography = config_options.Type(str, default="bibliography.bib")
    cache = config_options.Type(str, default=".cache/book")


class BookPlugin(BasePlugin[BookConfig]):
    """See the module's docstring."""

    def on_startup(self, *, command: Literal["build", "gh-deploy", "serve"], dirty: bool) -> None:
        """Keep this object, and what it keeps, from one build to the next while serving."""
        self._kept = serving.Kept() if command == "serve" else None

    def on_config(self, config: MkDocsConfig) -> MkDocsConfig:
        """Add the book's style, script and templates to the theme."""
        self._root = Path(config.config_file_path).parent if config.config_file_path else Path()
        if self._kept and not self._kept.serving:
            serving.check_free(*config.dev_addr)
            self._kept.serving = True
        self._cache = self._root / self.config.cache
        config.extra_css.insert(0, f"{assets.FOLDER}/book.css")
        config.extra_javascript.append(f"{assets.FOLDER}/book.js")
        config.theme.dirs.insert(0, str(assets.THEME / "templates"))
        return config

    def on_files(self, files: Files, config: MkDocsConfig) -> Files:
        """Make notebooks pages, add style and script, run the pages whose code has changed."""
        docs = Path(config.docs_dir)
        for file in files.documentation_pages():
            if file.generated_by is None and not file.src_uri.endswith((".md", ".ipynb")):
                message = "a page's name ends in .md; the code of this one would not run"
                raise PluginError(f"{self._name(file)}: {message}")
        for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
            files.remove(file)
            files.append(labpages.page_file(file))
        for name, content in (("book.css", assets.style()), ("book.js", assets.script())):
            files.append(File.generated(config, f"{assets.FOLDER}/{name}", content=content))
        ledger = claims.load(self._root) if (docs / "claims.toml").exists() else claims.Ledger({})
        self._sources = Sources(ledger, Bibliography(docs / self.config.bibliography))
        self._woven: dict[str, Weave] = {}
        self._pieces: dict[str, dict[str, str]] = {}
        self._scripts: dict[str, str] = {}
        self._characters: set[str] = set()
        self._twins: dict[str, str] = {}
        self._about: dict[str, published.About] = {}
        pages = {
            self._name(file): file.content_string
            for file in files.documentation_pages()
            if file.src_uri.endswith(".md") and file.generated_by is None
        }
        start = time.perf_counter()
        self._drawn, errors = results(pages, self._cache / "pages", self._root)
        log.debug("Ran the pages' code in %.1f s", time.perf_counter() - start)
        if errors:
            raise PluginError("\n\n".join(map(_report, errors)))
        return files

    def _name(self, file: File) -> str:
        path = Path(file.abs_src_path or file.src_uri)
        return (
            path.relative_to(self._root).as_posix()
            if path.is_relative_to(self._root)
            else str(path)
        )

    def on_page_read_source(self, *, page: Page, config: MkDocsConfig) -> str | None:
        """Read a notebook as Markdown."""
        if not isinstance(page.file, labpages.LabFile):
            return None
        text, self._pieces[page.file.src_uri] = labpages.markdown(
            Path(page.file.abs_src_path or "")
        )
        return text

    @event_priority(100)
    def on_page_markdown(
        self, markdown: str, *, page: Page, config: MkDocsConfig, files: Files
    ) -> str:
        """Carry out the page's directives."""
        name = self._name(page.file)
        first_line = 1
        if not isinstance(page.file, labpages.LabFile):
            before = page.file.content_string.removesuffix(markdown)
            first_line += before.count("\n")
        try:
            drawn = self._drawn.get(name, Drawn({}, {}))
            woven = Weave(markdown, name, self._sources, drawn, first_line)
            if isinstance(page.file, labpages.LabFile):
                labpages.check(woven.blocks, name)
        except PageError as error:
            raise PluginError(_report(error)) from None
        self._woven[page.file.src_uri] = woven
        page.markdown = woven.markdown
        if self._kept:
            self._kept.keep_rendering(page, config, files)
        return woven.markdown

    def on_env(self, env: Environment, *, config: MkDocsConfig, files: Files) -> None:
        """Have the search read formulas, and know the glossary's names."""
        index = getattr(config.plugins.get("material/search"), "search_index", None)
        reading.search(index)
        name_sections(index, self._root)
        if self._kept:
            self._kept.keep_search(config)

    @event_priority(-50)
    def on_page_content(self, html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
        """Put figures, tables and code in their places, and set the formulas."""
        uri = page.file.src_uri
        woven = self._woven[uri]
        try:
            html = labpages.place(woven.finish(html), self._pieces.get(uri, {}))
            self._twins[uri] = html
            html = numbers.whole(maths.convert(html, woven.page))
            for item in page.toc:
                _set_maths(item, woven.page)
            page.title = _TOC_MATHS.sub(
                lambda m: reading.plain(maths.mathml(m[1])), str(page.title)
            )
        except PageError as error:
            raise PluginError(_report(error)) from None
        except maths.MathsError as error:
            line = woven.line_of(error.latex)
            message = f"cannot set ${error.latex}$: {error.reason}"
            raise PluginError(f"{woven.page}:{line}: {message}") from None
        self._about[page.file.url] = about = published.about(page, html)
        page.meta["description"] = escape(about.description)  # the theme sets it as it stands
        html = _SHORT_CODE.sub(r'<code class="book-short">\1</code>', html)
        html = html.replace("</h1>", f"</h1>\n{self._actions(page)}", 1)
        self._characters |= maths.characters(html)
        page.present_anchor_ids = (page.present_anchor_ids or set()) | set(_ID.findall(html))
        return html

    def _actions(self, page: Page) -> str:
        """The links under a page's title."""
        stem = PurePosixPath(page.file.src_uri).stem
        if page.file.src_uri.startswith("chapters/") or isinstance(page.file, labpages.LabFile):
            link = f'<a href="{stem}.ipynb" download>Download as notebook</a>'
            return f'<p class="book-actions" data-search-exclude="yes">{link}</p>'
        return ""

    def on_nav(self, nav: Navigation, *, config: MkDocsConfig, files: Files) -> None:
        """Keep the order of the pages, for llms.txt."""
        self._nav = nav

    def on_page_context(
        self, context: Any, *, page: Page, config: MkDocsConfig, nav: Navigation
    ) -> None:
        """Give the template what is said of the page."""
        context["about"] = self._about[page.file.url]
        context["card"] = assets.CARD
        context["card_url"] = urljoin(config.site_url or "", assets.CARD.file)

    def on_post_page(self, output: str, *, page: Page, config: MkDocsConfig) -> str:
        """Add what the page's buttons copy, and write its notebook beside it."""
        woven = self._woven[page.file.src_uri]
        source, folder = Path(page.file.src_uri), Path(page.file.abs_dest_path).parent
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{source.stem}.md").write_text(self._twin(page), encoding="utf-8")
        if isinstance(page.file, labpages.LabFile):
            shutil.copyfile(page.file.abs_src_path or "", folder / source.name)
        elif source.parent.name == "chapters":
            url = page.canonical_url or ""
            notebook = snippets.notebook(
                woven.text,
                str(page.title),
                woven.page,
                lambda cell: woven.portable(cell, url),
                woven.first_line,
            )
            text = json.dumps(notebook, indent=1, ensure_ascii=False)
            (folder / f"{source.stem}.ipynb").write_text(text + "\n", encoding="utf-8")
        output = _named(output)
        if not woven.blocks:
            return output
        sessions = {b.index: snippets.plain(b) for b in woven.blocks if b.language == "pycon"}
        data = {"pieces": snippets.pieces(woven.blocks), "copy": sessions}
        packed = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
        tag = f'<script type="application/json" id="book-scripts">{packed}</script>\n</body>'
        return output.replace("</body>", tag, 1)

    def on_post_template(self, output: str, *, template_name: str, config: MkDocsConfig) -> str:
        """Mend the theme's markup on pages without a source, such as that of a wrong address."""
        return _named(output)

    def _twin(self, page: Page) -> str:
        """The page as Markdown; where the title is no heading of the page, below its title."""
        text = twin(self._twins[page.file.src_uri], page.file.url, frozenset(self._about))
        return text if re.search(r"^# ", text, re.M) else f"# {page.title}\n\n{text}"

    def on_post_build(self, *, config: MkDocsConfig) -> None:
        """Write what belongs to all pages: the list of them, the maths font, the picture."""
        site = Path(config.site_dir)
        text = published.llms(
            config.site_name,
            config.site_description or "",
            config.site_url or "",
            self._nav,
            self._about,
        )
        (site / "llms.txt").write_text(text, encoding="utf-8")
        mend(site)
        assets.font(self._characters, self._cache, site / assets.FOLDER)
        assets.card(self._cache, site / assets.FOLDER)
        assets.forget(self._cache)


def _report(error: PageError) -> str:
    where = f"{error.page}:{error.line}: {error.message}"
    return f"{where}\n{error.details or error.code}".rstrip()


def _named(html: str) -> str:
    """Name the theme's search dialogue, for readers who hear the page."""
    return html.replace('role="dialog">', 'role="dialog" aria-label="Search">')


def _set_maths(item: AnchorLink, page: str) -> None:
    """Set the formulas of an entry of the table of contents, and of those below it."""
    title = quotes.turned(item.title)
    item.title = _TOC_MATHS.sub(lambda match: maths.mathml(match[1], page=page), title)
    for child in item.children:
        _set_maths(child, page)
