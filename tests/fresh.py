"""Scripts run in a process that has imported libraries, and nothing of the package."""

import contextlib
import io
import os
import runpy
import traceback
from multiprocessing.connection import Connection
from pathlib import Path


def printed_by(folder: Path, scripts: list[str]) -> dict[str, str]:
    """Run the scripts of a folder in one new process; what each printed.

    Raises:
        AssertionError: a script raised; its traceback.
    """
    from attnbook.book.drawn import processes  # here: a new process imports this file alone

    receiver, sender = processes().Pipe(duplex=False)
    process = processes().Process(target=_run, args=(folder, scripts, sender))
    process.start()
    sender.close()
    printed, error = receiver.recv()
    process.join()
    assert not error, error
    return printed


def _run(folder: Path, scripts: list[str], sender: Connection) -> None:
    import torch

    torch.set_num_threads(1)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(MPLBACKEND="Agg", HOME=str(folder))
    printed: dict[str, str] = {}
    try:
        for path in scripts:
            with contextlib.redirect_stdout(io.StringIO()) as output:
                runpy.run_path(path, run_name="__main__")
            printed[path] = output.getvalue()
    except BaseException:
        sender.send((printed, traceback.format_exc()))
    else:
        sender.send((printed, ""))
