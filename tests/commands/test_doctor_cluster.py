"""``finesearch doctor`` on a cluster of two nodes: clocks, a real all-reduce between them, storage, access."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_doctor import states

from clusters import BIN, ray_cluster, ray_folder
from plans import tiny_plan, write_sentiment
from tiny_models import write_tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.cluster]
CANARY = "canary-doctor-93"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Two nodes on one machine, the second by an address of its own."""
    home = str(tmp_path_factory.mktemp("home"))
    with ray_folder() as folder, ray_cluster(folder, cpus=2, jobs=True, HOME=home) as variables:
        join = [
            BIN / "ray", "start", f"--address={variables['RAY_ADDRESS']}", "--node-ip-address=127.0.0.2",
            "--num-cpus=2", "--dashboard-agent-listen-port=0", "--disable-usage-stats",
        ]  # fmt: skip
        done = subprocess.run(join, env={**variables, "HOME": home}, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stdout + done.stderr
        yield {**variables, "HOME": home, "HF_TOKEN": CANARY}


def examine(folder: Path, variables: dict[str, str], *arguments: str) -> tuple[int, str]:
    """Exit status and screen."""
    command = [BIN / "python", "-m", "finesearch.cli", "doctor", *arguments]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=200)
    assert CANARY not in done.stdout + done.stderr
    token = variables.get("RAY_AUTH_TOKEN_PATH")
    assert token is None or not Path(token).exists() or Path(token).read_text() not in done.stdout + done.stderr
    assert not done.stderr.strip() or done.returncode, done.stderr
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("project")
    write_tiny_model(made / "model")
    write_sentiment(made, rows=60)
    (made / "tiny.yaml").write_text(tiny_plan())
    return made


def test_a_cluster_of_two_nodes_is_examined(folder: Path, cluster: dict[str, str]) -> None:
    status, screen = examine(folder, cluster, "tiny.yaml", "--storage", str(folder / "runs"))
    assert status == 0, screen
    found = states(screen)
    assert {found[name] for name in ("nodes", "network", "clock", "storage", "dashboard")} == {"ok"}, screen
    assert re.search(r"2 node\(s\) within 0\.\d+ s", screen)
    assert re.search(r"1 MiB summed: gloo [\d.]+ - 127\.0\.0\.2 \d+ ms", screen)
    assert re.search(r"asks for the token; not reachable from other machines", screen)
    assert "and 1 other node(s) see it" in screen
    assert "2 nodes, 4 CPUs" in screen
    assert not [*folder.glob(".finesearch-doctor-*"), *folder.glob(".reach-*")]


def test_a_busy_cluster_is_examined_too(folder: Path, cluster: dict[str, str]) -> None:
    hold = (
        "import ray, time; ray.init(); "
        "ray.get([ray.remote(num_cpus=2)(lambda: time.sleep(300)).remote() for _ in 'ab'])"
    )
    holder = subprocess.Popen([BIN / "python", "-c", hold], env=cluster, stderr=subprocess.DEVNULL)
    try:
        status, screen = examine(folder, cluster)
        assert status == 0, screen
        assert states(screen)["network"] == "ok"
    finally:
        holder.kill()
        holder.wait()


def test_a_cluster_that_refuses_the_token_is_bad(folder: Path, cluster: dict[str, str], tmp_path: Path) -> None:
    wrong = tmp_path / "token"
    wrong.touch(mode=0o600)
    wrong.write_text("0" * 64)
    status, screen = examine(folder, {**cluster, "RAY_AUTH_TOKEN_PATH": str(wrong)})
    assert status == 1
    assert states(screen)["cluster"] == "bad"
    assert "RAY_ADDRESS: the cluster cannot be joined" in screen
