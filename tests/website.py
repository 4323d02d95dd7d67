"""The real site, built once for a test run, whatever its workers, and served from a sub-path."""

import functools
import http.server
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SUB_PATH = "/course/attention"


def build(shared: Path) -> Path:
    """Build the site strictly under `shared`, or wait for the worker that does.

    Args:
        shared: a folder that all workers of the run see.
    """
    site, done = shared / "site", shared / "site.done"
    try:
        os.close(os.open(shared / "site.lock", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        for _ in range(3000):
            if done.exists():
                break
            time.sleep(0.1)
    else:
        environment = os.environ | {
            "SITE_URL": f"http://127.0.0.1{SUB_PATH}/",
            "NO_MKDOCS_2_WARNING": "1",
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
        built = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        text = "" if built.returncode == 0 else built.stdout[-6000:] + built.stderr[-6000:]
        (shared / "site.part").write_text(text, encoding="utf-8")
        (shared / "site.part").rename(done)
    failure = done.read_text(encoding="utf-8")
    if failure:
        pytest.fail(f"mkdocs build --strict failed:\n{failure}", pytrace=False)
    return site


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """The folder that all workers of a run share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


class _Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args: Any, instead: dict[str, Path], **options: Any) -> None:
        self.instead = instead
        super().__init__(*args, **options)

    def translate_path(self, path: str) -> str:
        if not path.startswith(f"{SUB_PATH}/"):
            return os.devnull + "/nothing"
        if found := self.instead.get(path.removeprefix(f"{SUB_PATH}/")):
            return str(found)
        return super().translate_path(path.removeprefix(SUB_PATH))

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(site: Path, instead: dict[str, Path] | None = None) -> Iterator[str]:
    """Serve a built site on this machine; give its address, with a slash at its end.

    Args:
        site: its folder.
        instead: files to serve in the place of the site's own.
    """
    handler = functools.partial(_Handler, directory=str(site), instead=instead or {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}{SUB_PATH}/"
        server.shutdown()
