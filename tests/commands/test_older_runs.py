"""A run folder that an older version began is gone on with.

``run_of_an_older_version.tar.xz`` holds a folder with model, data, plan and a run whose driver was killed while trial 2
trained. Two trials and the baseline had ended; trial 2 had one evaluation and its state to go on from. The study is
kept as SQL text. ``/FOLDER-OF-THE-OLD-RUN`` stands for the folder that the run was made in.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from clusters import environment, ray_folder
from paths import ROOT

PLACEHOLDER = "/FOLDER-OF-THE-OLD-RUN"
ARCHIVE = Path(__file__).with_name("run_of_an_older_version.tar.xz")


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    """The folder as the older version left it, moved to ``tmp_path``."""
    with tarfile.open(ARCHIVE) as archive:
        # Python 3.11.4 asks for a filter, and 3.11.3 knows none.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(tmp_path)
    run = tmp_path / "runs" / "tiny"
    for path in [*run.rglob("*.json"), run / "plan.yaml", run / "study.sql"]:
        path.write_text(path.read_text(encoding="utf-8").replace(PLACEHOLDER, str(tmp_path)), encoding="utf-8")
    for path in run.rglob("manifest.json"):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        for name, known in manifest["files"].items():
            content = (path.parent / name).read_bytes()
            known.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        path.write_text(json.dumps(manifest), encoding="utf-8")
    with sqlite3.connect(run / "study.db") as study:
        study.executescript((run / "study.sql").read_text(encoding="utf-8"))
    (run / "study.sql").unlink()
    return tmp_path


def attributes(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """What the study keeps of each trial, by the name of its study and its number."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    with sqlite3.connect(folder / "runs" / "tiny" / "study.db") as study:
        rows = study.execute(
            "select study_name, number, key, value_json from trial_user_attributes "
            "join trials using (trial_id) join studies using (study_id)"
        ).fetchall()
    for name, number, key, value in rows:
        found.setdefault((name, number), {})[key] = json.loads(value)
    return found


@pytest.mark.ray
def test_a_run_of_an_older_version_is_gone_on_with(old_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = attributes(old_run)
    with ray_folder() as folder:
        monkeypatch.setenv("RAY_TMPDIR", str(folder))
        command = [sys.executable, str(ROOT / "platform" / "search.py"), "tiny.yaml", "--set", "budget.trials=3"]
        done = subprocess.run(command, cwd=old_run, env=environment(), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    after = attributes(old_run)
    ended = [trial for trial, kept in before.items() if "outcome" in kept]
    assert len(ended) == 3, "two trials and the baseline had ended"
    for trial in ended:
        assert after[trial] == before[trial], "what had ended was not run again"
    (running,) = set(before) - set(ended)
    assert after[running]["step:1"] == before[running]["step:1"], "it went on from its last evaluation"
    assert after[running]["outcome"]["state"] == "complete"
    report = json.loads((old_run / "reports" / "tiny" / "report.json").read_text(encoding="utf-8"))
    assert report["cost"]["trials"]["complete"] == 3
    assert "precision: auto\n" in (old_run / "runs" / "tiny" / "plan.yaml").read_text(encoding="utf-8")
    assert [row["rank"] for row in report["ranked"]] == [1, 2]
    for row in report["ranked"]:
        assert row["validation"] == pytest.approx(row["revalidated"], abs=1e-9)
