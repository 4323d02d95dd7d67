"""The benchmark checks before it times, keeps what it measured, and stops for no implementation."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from attnbook import attend
from attnbook.bench import __main__ as bench
from attnbook.bench import report, runner, timing
from attnbook.bench import run as running
from attnbook.bench.cases import Case, Inputs, Mixes, Way, attention, backward, exact, forward, part
from attnbook.bench.ceilings import bound, ceilings
from attnbook.bench.dot_product import dot_product
from attnbook.bench.progress import Progress
from attnbook.bench.results import Row, digests, load
from attnbook.bench.runner import measure
from attnbook.bench.suite import suite

ROOT = Path(__file__).parents[1]
SHAPE = {"B": 1, "H": 2, "L": 8, "D": 4}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of one run."""
    monkeypatch.setattr(timing, "BLOCK", 0.0)


def readable(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return attend(q, k, v, mask=mask).output


def case(ways: dict[str, Way], passes: str = "forward", shape: dict[str, int] = SHAPE) -> Case:
    every = {"attend": Way(way(readable, passes), ("attnbook.attend",)), **ways}
    return Case(
        "naps",
        shape,
        every,
        "attend",
        attention(shape, "float32"),
        passes,
        exact=exact(readable, passes),
        part=part,
    )


def way(mixes: Mixes, passes: str = "forward") -> Callable[[Inputs], Any]:
    return forward(mixes) if passes == "forward" else backward(mixes)


def raising(error: Exception) -> Callable[[Inputs], Any]:
    def make(x: Inputs) -> Any:
        raise error

    return make


# One case


def test_what_cannot_be_timed_is_a_row_and_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[str] = []
    plain = timing.in_turn
    monkeypatch.setattr(runner, "in_turn", lambda runs, *a: timed.extend(runs) or plain(runs, *a))
    rows = measure(
        case(
            {
                "unscaled": Way(forward(lambda q, k, v, m: readable(2 * q, k, v, m))),
                "large": Way(lambda x: lambda: torch.empty(2**60)),
                "full": Way(raising(torch.OutOfMemoryError("CUDA out of memory.\nTried"))),
                "bad": Way(lambda x: lambda: 1 / 0),
                "gone": Way(raising(ModuleNotFoundError("no", name="gone_layers"))),
            }
        ),
        rounds=1,
    )
    assert timed == ["attend"]
    said = {row.implementation: (row.status, row.message) for row in rows}
    assert said.pop("attend") == ("ok", "")
    status, message = said.pop("unscaled")
    assert (status, message[:23]) == ("error", "ArithmeticError: off by")
    status, message = said.pop("large")
    assert status in ("oom", "error")
    assert message
    assert said == {
        "full": ("oom", "OutOfMemoryError: CUDA out of memory."),
        "bad": ("error", "ZeroDivisionError: division by zero"),
        "gone": ("missing", "gone_layers is not installed: pip install 'attnbook[peers]'"),
    }


def test_a_case_that_cannot_be_set_up_is_rows() -> None:
    def setup(device: str) -> Any:
        raise MemoryError("no room for the inputs")

    rows = measure(replace(case({"other": Way(forward(readable))}), setup=setup), rounds=1)
    assert [row.status for row in rows] == ["oom", "oom"]


def test_a_wrong_gradient_is_not_timed() -> None:
    lost = Way(backward(lambda q, k, v, m: readable(q, 1.01 * k - 0.01 * k.detach(), v, m)))
    row = measure(case({"lost": lost}, "forward + backward"), rounds=1)[1]
    assert (row.status, row.median, row.peak_bytes) == ("error", None, None)


def test_a_row_says_what_was_measured() -> None:
    got = measure(case({"theirs": Way(forward(readable), package="torch")}), "cpu", rounds=3)
    ours, theirs = got
    assert ours.n == theirs.n == 3
    assert ours.median
    assert ours.iqr is not None
    assert ours.peak_bytes
    assert ours.max_error is not None
    assert ours.max_error <= 16 * torch.finfo(torch.float32).eps
    assert ours.version is None
    assert theirs.version
    assert torch.__version__.startswith(theirs.version.partition("+")[0])
    assert "attnbook/core.py" in ours.sources
    assert not theirs.sources
    assert ours.command == (
        'python -m attnbook.bench run --device cpu --case "naps, forward, float32, B1 H2 L8 D4"'
    )


def test_ratios_are_of_the_same_round_and_bars_of_reference_and_peer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A slow spell in the second round changes no ratio."""
    seconds = {
        "attend": [1.0, 9.0, 1.0],
        "slow": [4.0, 36.0, 4.0],
        "half": [1.0, 9.0, 1.0],
        "fast": [0.5, 4.5, 0.5],
    }
    monkeypatch.setattr(runner, "in_turn", lambda runs, *a: (seconds, {}))
    ways = {
        "slow": Way(forward(readable), package="torch"),
        "half": Way(forward(readable), package="torch", scale=2.0),
        "fast": Way(forward(readable), bar=2.0, peer_bar=4.5),
    }
    attend_, slow, half, fast = measure(case(ways))
    assert [row.ratio for row in (attend_, slow, half, fast)] == [1.0, 0.25, 0.5, 2.0]
    assert [row.ratio_iqr for row in (attend_, slow, half, fast)] == [0.0] * 4
    assert [row.median for row in (attend_, slow, half, fast)] == [1.0, 4.0, 2.0, 0.5]
    assert [row.best_peer for row in (attend_, slow, half)] == ["half", "half", "slow"]
    assert (fast.best_peer, fast.best_peer_ratio, fast.peer_bar) == ("half", 4.0, 4.5)
    assert (fast.missed, replace(fast, peer_bar=4.0).missed) == (True, False)
    verdict = report.group([fast])[1]
    assert "at least 2 x attend: reached with 2.00; at least 4.5 x half: MISSED" in verdict


@pytest.mark.parametrize("passes", ["forward", "forward + backward"])
def test_peak_memory_counts_the_weights(passes: str) -> None:
    """The readable path holds L x L numbers several times over; the tiled one does not once."""
    length, threads = 600, torch.get_num_threads()
    small = next(
        c for c in dot_product([length], heads=1, width=4) if (c.mask, c.passes) == ("none", passes)
    )
    peaks = {row.implementation: row.peak_bytes or 0 for row in measure(small, rounds=1)}
    weights = 4 * length**2
    assert peaks["attend"] >= 2 * weights
    assert 0 < peaks["sdpa"] < weights
    assert torch.get_num_threads() == threads


# Timing


def test_ways_are_timed_in_turn_at_least_three_times() -> None:
    order: list[str] = []

    def fails_late() -> None:
        order.append("c")
        if order.count("c") > 1:
            raise RuntimeError("late")

    runs = {"a": lambda: order.append("a"), "b": lambda: order.append("b"), "c": fails_late}
    times, failed = timing.in_turn(runs, "cpu", rounds=9, seconds=0.0)
    assert "".join(order) == "abcabcab"
    assert [len(own) for own in times.values()] == [3, 3]
    assert list(times) == ["a", "b"]
    assert str(failed["c"]) == "late"


def test_a_gpu_is_timed_between_events(monkeypatch: pytest.MonkeyPatch) -> None:
    class Event:
        clock = 0.0

        def __init__(self, enable_timing: bool) -> None:
            self.at = -1.0

        def record(self) -> None:
            self.at = Event.clock

        def elapsed_time(self, other: "Event") -> float:
            return other.at - self.at

    def run() -> None:
        Event.clock += 2.0  # milliseconds

    monkeypatch.setattr(timing, "BLOCK", 0.008)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    times, failed = timing.in_turn({"a": run}, "cuda", rounds=3, seconds=1.0)
    assert (times, failed, Event.clock) == ({"a": [0.002] * 3}, {}, 2.0 * (1 + 3 * 4))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no limit to hit")
def test_a_limit_of_memory_is_an_error_and_passes_over() -> None:
    with (
        timing.limited(1.0),
        pytest.raises((RuntimeError, MemoryError)) as caught,
    ):
        torch.empty(2**33, dtype=torch.uint8)
    assert timing.out_of_memory(caught.value)
    assert torch.empty(2**31, dtype=torch.uint8).shape == (2**31,)
    assert not timing.out_of_memory(RuntimeError("sizes do not fit"))


def test_the_ceiling_is_the_one_that_is_nearest() -> None:
    found = ceilings("cpu", ["float32"], small=True)
    assert [c.kind for c in found] == ["matmul", "copy", "exp", "tanh", "reciprocal"]
    matmul, copy = found[:2]
    work = {"matmul": 0.5e12 * matmul.value, "copy": 0.8e9 * copy.value}
    share = bound(work, 1.0, found, "float32")
    assert share
    assert share["kind"] == "copy"
    assert share["pct"] == pytest.approx(80)
    assert bound(work, 1.0, found, "float16") is None
    assert bound({}, 1.0, found, "float32") is None


# Runs


NAMES = ("first", "second")


def two() -> list[Case]:
    return [replace(case({}), mechanism=name) for name in NAMES]


def go(path: Path | None, cases: list[Case] | None = None, **options: Any) -> int:
    return running.run(two() if cases is None else cases, "cpu", path, small=True, **options)


def test_a_run_prints_and_saves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "results" / "cpu.json"
    assert go(path, rounds=1) == 0
    printed, results = capsys.readouterr(), load(path)
    assert results.device.threads == 1
    assert [(row.mechanism, row.status) for row in results.rows] == [(n, "ok") for n in NAMES]
    for row in results.rows:
        assert report.seconds_in_words(row.median) in printed.out
    assert printed.err == ""  # it is no terminal
    assert results.stale(results.rows[0]) == ()
    assert go(None, rounds=1) == 0
    assert [p.name for p in path.parent.iterdir()] == ["cpu.json"]


def test_an_interrupt_keeps_what_was_measured_and_resume_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, done = tmp_path / "cpu.json", []

    def stops(case: Case, *a: Any, **k: Any) -> list[Row]:
        if case.mechanism == "second" and "second" not in done:
            done.append(case.mechanism)
            raise KeyboardInterrupt
        done.append(case.mechanism)
        return measure(case, *a, **k)

    monkeypatch.setattr(running, "measure", stops)
    assert go(path, rounds=1) == 130
    assert "interrupted: 1 rows were measured" in capsys.readouterr().out
    kept = load(path).rows
    assert [row.mechanism for row in kept] == ["first"]
    assert go(path, rounds=1, resume=True) == 0
    assert done == ["first", "second", "second"]
    assert [row.mechanism for row in load(path).rows] == list(NAMES)
    assert load(path).rows[0] == kept[0]


@pytest.mark.parametrize("what", ["commit", "stale", "torch"])
def test_resume_measures_anew_what_no_longer_holds(tmp_path: Path, what: str) -> None:
    path = tmp_path / "cpu.json"
    go(path, rounds=1)
    old = json.loads(path.read_text())
    if what == "stale":
        old["rows"][0]["sources"]["attnbook/core.py"] = "0"
    else:
        old[what] = "another"
    for row in old["rows"]:
        row["n"] = 99
    path.write_text(json.dumps(old))
    go(path, rounds=1, resume=True)
    counts = {row.mechanism: row.n for row in load(path).rows}
    assert counts == {"first": 1, "second": 99 if what == "stale" else 1}
    assert list(counts) == list(NAMES)  # a case that is measured again keeps its place


def test_an_error_is_the_exit_code_and_a_missing_peer_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    absent = Way(raising(ModuleNotFoundError("no", name="peer")), package="peer")
    assert go(None, [case({"peer": absent})], rounds=1) == 0
    assert "peer is MISSING: peer is not installed" in capsys.readouterr().out
    assert go(None, [case({"bad": Way(raising(TypeError("no such thing")))})], rounds=1) == 1
    assert "bad: ERROR in naps, forward" in capsys.readouterr().out


def test_progress_is_drawn_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream in (Terminal(), io.StringIO()):
        with Progress(4, stream) as bar:
            bar.step()
            bar.at("naps")
        drawn = stream.getvalue()
        assert ("[######..................] 1/4 0:00 naps" in drawn) == stream.isatty()
        assert drawn.endswith("\r\x1b[K") == stream.isatty()


# The command line


def test_the_cases_of_both_devices_have_names_of_their_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for device in ("cpu", "cuda"):
        cases = list(suite(device))
        assert len({c.name for c in cases}) == len(cases) > 20
        assert all(c.reference in c.ways for c in cases)
        ours = {name for c in cases for way in c.ways.values() for name in way.sources}
        assert ours
        assert all(digests([name]) for name in ours)
        assert all(c.exact or c.passes in ("step", "decode") for c in cases)
    assert bench.main(["run", "--list", "--case", "training"]) == 0
    assert capsys.readouterr().out.splitlines() == [c.name for c in cases if c.passes == "step"]
    assert bench.main(["run", "--case", "nothing"]) == 2
    assert "no case is like 'nothing'; --list names them" in capsys.readouterr().err
    assert bench.main(["run", "--device", "cuda", "--list"]) == (
        0 if torch.cuda.is_available() else 2
    )


@pytest.mark.parametrize("option", ["rounds", "threads", "seconds", "memory"])
@pytest.mark.parametrize("given", ["0", "-1", "nan"])
def test_the_command_line_refuses_what_measures_nothing(
    option: str, given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        bench.main(["run", "--list", f"--{option}", given])
    assert f"argument --{option}: " in capsys.readouterr().err


def test_a_bare_machine_needs_torch_alone() -> None:
    """Without jaxtyping and the peers: every module of the suite is imported, and a case runs."""
    blocked = ("jaxtyping", "tqdm", "matplotlib", "einops", "x_transformers", "difflayers")
    script = f"""
import sys
for name in {blocked}:
    sys.modules[name] = None
from attnbook.bench.__main__ import main
from attnbook.bench.models import multi_head
from attnbook.bench.runner import measure
assert main(["run", "--list"]) == 0
for row in measure(multi_head(6, "forward", width=8, heads=2), rounds=1):
    print(row.implementation, row.status)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("\nx-transformers missing\n")
    assert "\nMultiHeadAttention ok\n" in done.stdout
