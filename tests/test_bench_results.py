"""Result files: the schema says what is wrong and where; two runs are compared row by row."""

import copy
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attnbook.bench import __main__ as bench
from attnbook.bench import report, results
from attnbook.bench.compare import compare, markdown
from attnbook.bench.results import Ceiling, Device, Results, Row, load, save
from attnbook.bench.schema import ROW, check

DEVICE = Device("cuda", "NVIDIA H200", "570.1", "12.8", "Xeon", 1)
ROUND = Row(
    case="naps, forward, float32, L8",
    mechanism="naps",
    implementation="ours",
    version=None,
    passes="forward",
    dtype="float32",
    shape={"L": 8},
    mask="none",
    command="python -m attnbook.bench run",
    n=3,
    median=0.002,
    iqr=0.0001,
    peak_bytes=2**20,
    max_error=1e-7,
    metric={"name": "TFLOP/s", "value": 1.5},
    ceiling={"kind": "matmul", "value": 3.0, "source": "a product", "pct": 50.0},
    reference="theirs",
    ratio=2.0,
    ratio_iqr=0.1,
    bar=1.5,
    best_peer="theirs",
    best_peer_ratio=2.0,
    peer_bar=2.5,
    sources={"attnbook/normalizers.py": "0"},
)
GONE = replace(
    Row(
        **{k: getattr(ROUND, k) for k in ("case", "mechanism", "passes", "dtype", "shape")},
        implementation="theirs",
        version=None,
        mask="none",
        command="c",
    ),
    status="missing",
    message="peer is not installed",
)


def made(*rows: Row, **facts: Any) -> Results:
    given = Results("2026-01-01T00:00:00+00:00", "abc", False, DEVICE, "2.13.0", "3.4", "0.1.0")
    given = replace(given, **facts)
    given.ceilings = [Ceiling("matmul", "float32", 3.0, "TFLOP/s", "a product")]
    given.rows = list(rows)
    return given


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    given = made(ROUND, GONE)
    save(given, tmp_path / "a" / "gpu.json")
    assert load(tmp_path / "a" / "gpu.json") == given
    assert results.load_all(tmp_path / "a") == {"gpu": given}
    assert given.select(mechanism="naps", status="ok") == [ROUND]
    assert given.names("implementation") == ["ours", "theirs"]
    assert set(ROUND.to_dict()) == set(ROW)


def test_a_file_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "gpu.json"
    save(made(ROUND), path)
    before = path.read_text()

    def breaks(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", breaks)
    with pytest.raises(KeyboardInterrupt):
        save(made(ROUND, GONE), path)
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


def wrong(path: str, value: Any) -> Any:
    """A good file with one value in it changed, or taken away."""
    data = json.loads(json.dumps(made(ROUND, GONE).to_dict()))
    at = data
    *steps, last = [int(s) if s.isdigit() else s for s in path.split(".")]
    for step in steps:
        at = at[step]
    if value is KeyError:
        del at[last]
    else:
        at[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema", 2, "schema: expected 3, got 2"),
        ("commit", KeyError, "commit: missing"),
        ("speed", 1, "speed: no such field; there are schema, timestamp"),
        ("dirty", 1, "dirty: expected true or false, got 1"),
        ("device.kind", "tpu", "device.kind: expected one of cpu, cuda, got 'tpu'"),
        ("device", [], "device: expected an object, got []"),
        ("ceilings", {}, "ceilings: expected a list, got {}"),
        ("ceilings.0.value", "3", "ceilings[0].value: expected a finite number from 0 on, got '3'"),
        ("rows.0.median", float("nan"), "rows[0].median: expected a finite number from 0 on or n"),
        ("rows.0.median", None, "rows[0]: status is ok, so n and median must be above 0"),
        ("rows.0.n", True, "rows[0].n: expected a whole number from 0 on, got True"),
        ("rows.0.pass", "backward", "rows[0].pass: expected one of forward, forward + backward"),
        ("rows.0.shape.L", 1.5, "rows[0].shape: expected sizes by name, whole numbers, got"),
        ("rows.0.metric.value", None, "rows[0].metric.value: expected a finite number from 0 on"),
        ("rows.0.implementation", "theirs", "rows[1]: theirs in 'naps, forward, float32, L8' is"),
        ("rows.1.message", "", "rows[1].message: status is missing, so it must say why"),
        ("rows.1.median", 1.0, "rows[1].median: status is missing, so nothing was timed"),
    ],
)
def test_what_is_wrong_is_named(path: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        check(wrong(path, value))
    assert str(caught.value).startswith(message)


def test_a_bad_row_is_not_written_and_a_bad_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^rows\[0\].mask: expected text, got ''$"):
        save(made(replace(ROUND, mask="")), tmp_path / "gpu.json")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"^row.dtype: expected text, got None$"):
        results.checked(replace(ROUND, dtype=None))  # type: ignore[arg-type]
    (tmp_path / "old.json").write_text(json.dumps(wrong("schema", 2)))
    with pytest.raises(ValueError, match=r"^old.json: schema: expected 3, got 2$"):
        load(tmp_path / "old.json")
    (tmp_path / "half.json").write_text("{")
    with pytest.raises(ValueError, match=r"^half.json: "):
        load(tmp_path / "half.json")


def test_a_row_is_stale_once_code_changes_and_not_for_prose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "ROOT", tmp_path)
    file = tmp_path / "mechanism.py"
    file.write_text("def f(x):\n    return x\n")
    row = replace(ROUND, sources={"mechanism.py": results._digest(file)})
    verdicts = []
    for text in ("# Why\ndef f(x):\n    'It is x.'\n    return x\n", "def f(x):\n    return -x\n"):
        file.write_text(text)
        os.utime(file, (len(verdicts) + 1, len(verdicts) + 1))
        verdicts.append(made().stale(row))
    file.unlink()
    assert [*verdicts, made().stale(row)] == [(), ("mechanism.py",), ("mechanism.py",)]


# Two runs


def test_a_regression_is_named_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = replace(ROUND, implementation="other")
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    save(made(ROUND, other, GONE), old)
    save(made(replace(ROUND, median=0.00231), replace(other, median=0.0022), GONE), new)
    assert bench.main(["compare", str(old), str(new)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("2 rows compared: 1 slower by more than 15 % or failing, 0 faster")
    assert "## Regressions" in printed
    assert "| naps, forward, float32, L8 | ours | 2 ms | 2.31 ms | 1.16 |" in printed
    assert "| other |" not in printed
    assert bench.main(["compare", str(old), str(new), "--fail"]) == 1
    assert bench.main(["compare", str(old), str(new), "--fail", "--limit", "0.2"]) == 0
    assert bench.main(["compare", str(new), str(old), "--fail"]) == 0
    assert "## Faster" in capsys.readouterr().out


def test_a_row_that_no_longer_works_is_a_regression_and_a_new_one_is_listed() -> None:
    broken = replace(GONE, implementation="ours", status="oom", message="no memory")
    pairs = compare(made(ROUND), made(broken, GONE))
    assert [pair.worse(0.15) for pair in pairs] == [True, False]
    lines = markdown(pairs, 0.15)
    assert "| naps, forward, float32, L8 | ours | 2 ms | oom |  |" in lines
    assert lines[-3:] == ["## Only in the new run", "", f"- theirs: {ROUND.case}"]


def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = replace(DEVICE, name="NVIDIA B200")
    with pytest.raises(ValueError, match=r"the devices differ: NVIDIA H200 \(cuda\) with 1 th"):
        compare(made(ROUND), made(ROUND, device=other))
    with pytest.raises(ValueError, match="no row in common"):
        compare(made(ROUND), made(GONE))
    assert bench.main(["compare", str(tmp_path / "a.json"), "b.json"]) == 2
    assert "No such file" in capsys.readouterr().err


def test_a_report_says_all_that_matters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gpu.json"
    save(made(ROUND, GONE), path)
    assert bench.main(["report", str(path)]) == 0
    plain = capsys.readouterr().out
    assert bench.main(["report", str(path), "--markdown"]) == 0
    marked = capsys.readouterr().out
    for printed in (plain, marked):
        for part in (
            "NVIDIA H200, driver 570.1, CUDA 12.8; PyTorch 2.13.0",
            "at most, float32: matmul 3 TFLOP/s",
            "at least 1.5 x theirs: reached with 2.00; at least 2.5 x theirs: MISSED with 2.00",
            "theirs is MISSING: peer is not installed",
            "0 of 1 bars reached",
            "MISSED: ours in naps, forward, float32, L8",
        ):
            assert part in printed
    assert "    STALE: attnbook/normalizers.py changed since" in plain
    row = next(line for line in marked.splitlines() if line.startswith("| ours"))
    head = next(line for line in marked.splitlines() if line.startswith("| implementation"))
    assert row.count("|") == head.count("|")
    assert report.group([]) == []
    assert copy.copy(ROUND).to_dict()["pass"] == "forward"
