"""The workflows: GitHub's schema holds, and the benchmark's steps do what they say, in a copy."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def steps(path: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()
    return [step for job in jobs for step in job["steps"]]


def test_are_what_github_reads() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    done = subprocess.run(
        [*command, "vendor.github-workflows", *map(str, WORKFLOWS)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_their_commands_are_shell(path: Path) -> None:
    scripts = [step["run"] for step in steps(path) if "run" in step]
    assert scripts
    for script in scripts:
        subprocess.run(["bash", "-n", "-c", script], check=True)


def test_a_regression_is_named_in_the_summary(tmp_path: Path) -> None:
    """The steps between the timing and the pull request, on a result that became slower."""
    results = tmp_path / "docs" / "benchmarks" / "results"
    results.mkdir(parents=True)
    report = json.loads((ROOT / "docs/benchmarks/results/cpu.json").read_text(encoding="utf-8"))
    report["rows"] = report["rows"][:3]
    (results / "cpu.json").write_text(json.dumps(report), encoding="utf-8")
    author = ["-c", "user.name=t", "-c", "user.email=t@t"]
    for arguments in (["init", "-q"], ["add", "-A"], [*author, "commit", "-q", "-m", "old"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    row = report["rows"][1]
    row["median"] *= 1.2
    (results / "cpu.json").write_text(json.dumps(report), encoding="utf-8")

    named = {step.get("name"): step.get("run") for step in steps(WORKFLOWS[0])}
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "RESULTS": "docs/benchmarks/results",
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_ENV": str(tmp_path / "variables"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "shown.md"),
    }

    def act(name: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", "-e", "-c", named[name]]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done

    assert row["case"] in act("Validate what was written").stdout
    written = (tmp_path / "variables").read_text(encoding="utf-8").splitlines()
    assert written == ["CHANGED<<END", "docs/benchmarks/results/cpu.json", "END"]
    environment["CHANGED"] = "\n".join(written[1:-1])
    act("Name what became slower by more than 15 %")
    summary = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "1 slower by more than 15 %" in summary
    assert f"| {row['case']} | {row['implementation']} |" in summary
