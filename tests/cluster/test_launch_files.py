"""The files that `ray up` reads for a cloud: valid for the Ray that is installed, closed from the first moment on."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ray.autoscaler._private.command_runner import _with_interactive
from ray.autoscaler._private.util import prepare_config, validate_config

from paths import ROOT

CLOUDS = ("aws", "gcp")
COMMANDS = (
    "setup_commands", "head_setup_commands", "worker_setup_commands", "head_start_ray_commands",
    "worker_start_ray_commands",
)  # fmt: skip
MARK = "FILL IN"


def text_of(cloud: str) -> str:
    return (ROOT / "cluster" / f"{cloud}.yaml").read_text(encoding="utf-8")


def prepared(cloud: str) -> dict[str, Any]:
    """The configuration as `ray up` would use it, with Ray's own defaults in it."""
    config: dict[str, Any] = prepare_config(yaml.safe_load(text_of(cloud)))
    validate_config(config)
    return config


@pytest.fixture(params=CLOUDS)
def cloud(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_ray_accepts_the_file(cloud: str) -> None:
    config = prepared(cloud)
    # What Ray fills in of itself would install another Ray, or listen on all interfaces.
    given = yaml.safe_load(text_of(cloud))
    assert {*COMMANDS, "file_mounts", "provider", "auth", "available_node_types"} <= set(given)
    assert config["provider"]["cache_stopped_nodes"] is False


def test_workers_are_spot_gpus_and_none_while_nothing_is_to_be_done(cloud: str) -> None:
    types = prepared(cloud)["available_node_types"]
    assert types["worker"]["min_workers"] == 0
    assert types["worker"]["max_workers"] > 0
    assert types["head"]["max_workers"] == 0
    hardware = types["worker"]["node_config"]
    if cloud == "aws":
        assert hardware["InstanceMarketOptions"] == {"MarketType": "spot"}
        assert types["worker"]["resources"] == {}, "learned from the instance type: tests/cluster/test_aws.py"
    else:
        assert hardware["scheduling"]["provisioningModel"] == "SPOT"
        assert types["worker"]["resources"]["GPU"] == 1
        assert "GPU" not in types["head"]["resources"]


def test_every_line_with_a_name_of_the_user_is_marked(cloud: str) -> None:
    lines = text_of(cloud).splitlines()
    for number, line in enumerate(lines):
        if "YOUR-" in line and not line.lstrip().startswith("#"):
            above = [other for other in lines[max(0, number - 5) : number] if other.lstrip().startswith("#")]
            assert MARK in line or any(MARK in other for other in above), f"{cloud}.yaml, line {number + 1}: {line}"
    assert MARK in text_of(cloud)


@pytest.mark.parametrize("key", COMMANDS)
def test_every_command_is_whole_as_ray_wraps_it(cloud: str, key: str) -> None:
    for command in prepared(cloud)[key]:
        assert MARK not in command, "a comment in a folded command swallows what Ray puts behind it"
        wrapped = _with_interactive(command)[-1]
        # The wrapped command is one quoted word: once for the remote shell, once for the bash that it starts.
        script = subprocess.run(["bash", "-c", f"printf %s {wrapped}"], capture_output=True, text=True, check=True)
        done = subprocess.run(["bash", "-n", "-c", script.stdout], capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stderr}"


def test_the_files_that_are_mounted_are_there_and_enough_to_install(cloud: str) -> None:
    mounts = prepared(cloud)["file_mounts"]
    for remote, local in mounts.items():
        assert (ROOT / local).exists(), local
        assert remote == f"~/finesearch/{local}"
    named = re.findall(r'(?:readme|license-files) = \[?"(\w[\w.]*)"', (ROOT / "pyproject.toml").read_text())
    assert {"platform", "pyproject.toml", "constraints.txt", *named} <= set(mounts.values())


def test_everything_is_installed_as_constrained_by_the_script_that_all_files_share(cloud: str) -> None:
    config = prepared(cloud)
    assert "bash ~/finesearch/cluster/install.sh" in config["setup_commands"]
    assert config["file_mounts"]["~/finesearch/cluster"] == "cluster"
    for key in COMMANDS:
        for command in config[key]:
            assert "pip install" not in command or "--constraint constraints.txt" in command
    script = (ROOT / "cluster" / "install.sh").read_text(encoding="utf-8")
    installed = re.findall(r"^ *install (.*)$", script, re.MULTILINE)
    assert installed[0] == "--upgrade pip setuptools wheel"
    assert installed[1].endswith(" torch"), "first, so that nothing else brings in another build"
    torch = re.search(r"^torch==.*$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert torch
    assert f"TORCH  ?= {torch[0]}" in (ROOT / "Makefile").read_text(encoding="utf-8"), "one build, here and there"


def test_ray_starts_with_the_token_inside_the_project(cloud: str) -> None:
    config = prepared(cloud)
    (head,), (worker,) = config["head_start_ray_commands"], config["worker_start_ray_commands"]
    for command in (head, worker):
        assert command.startswith("cd ~/finesearch && . .venv/bin/activate && ")
        assert re.search(r"RAY_AUTH_MODE=token .*ray start", command)
    assert "--dashboard-host=127.0.0.1 --dashboard-port=8265" in head
    assert "RAY_JOB_STOP_WAIT_TIME_S=60" in head
    assert 'RAY_METRICS_GRAFANA_DASHBOARD_OUTPUT_DIR="$PWD/cluster/grafana"' in head
    # The head makes the token before it starts; what it made goes to every worker.
    assert any("auth_token" in command for command in config["head_setup_commands"])
    assert config["cluster_synced_files"] == ["~/.ray/auth_token"]


def test_the_file_says_that_the_network_must_be_private(cloud: str) -> None:
    top = text_of(cloud)[: text_of(cloud).index("cluster_name:")]
    assert "A private network is required" in top


def test_no_rule_is_added_that_opens_to_the_world(cloud: str) -> None:
    config = prepared(cloud)
    assert "0.0.0.0" not in "\n".join(line.partition("#")[0] for line in text_of(cloud).splitlines())
    assert "security_group" not in config["provider"]
    for kind in config["available_node_types"].values():
        hardware = kind["node_config"]
        if cloud == "aws":
            assert hardware["SecurityGroupIds"], "without one Ray makes its own, which opens port 22 to the world"
        else:
            assert "subnetworks/finesearch" in hardware["networkInterfaces"][0]["subnetwork"], "never the default one"


def token_commands(cloud: str) -> list[str]:
    """What the head runs that has to do with the token, before Ray starts."""
    return [command for command in prepared(cloud)["head_setup_commands"] if "auth_token" in command]


def run_in(home: Path, command: str, mask: int = 0o022) -> None:
    environment = {**os.environ, "HOME": str(home)}
    before = os.umask(mask)
    try:
        subprocess.run(["bash", "-c", f"({command})"], env=environment, check=True, capture_output=True, timeout=60)
    finally:
        os.umask(before)


def test_a_fresh_home_has_a_token_that_only_its_owner_reads(cloud: str, tmp_path: Path) -> None:
    commands = token_commands(cloud)
    for command in commands:
        run_in(tmp_path, command, mask=0)
    token = tmp_path / ".ray" / "auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(token.parent.stat().st_mode) == 0o700
    made = token.read_text()
    assert re.fullmatch(r"[0-9a-f]{64}", made)
    for command in commands:
        run_in(tmp_path, command, mask=0)
    assert token.read_text() == made, "a second `ray up` keeps the token"


def test_a_token_that_was_readable_is_closed(cloud: str, tmp_path: Path) -> None:
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("given\n")
    token.chmod(0o644)
    for command in (*token_commands(cloud), *prepared(cloud)["worker_setup_commands"][-1:]):
        run_in(tmp_path, command)
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert token.read_text() == "given\n"


def test_a_worker_without_a_token_does_not_come_up(cloud: str, tmp_path: Path) -> None:
    last = prepared(cloud)["worker_setup_commands"][-1]
    with pytest.raises(subprocess.CalledProcessError, match="auth_token"):
        run_in(tmp_path, last)


def test_what_the_head_needs_to_start_workers_fits_the_constraints(cloud: str) -> None:
    (install,) = [command for command in prepared(cloud)["head_setup_commands"] if "pip install" in command]
    wanted = install.split()[-1]
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    pinned = {canonicalize_name(name): version for name, version in pinned.items()}
    waiting, seen = [wanted], set()
    while waiting:
        name = canonicalize_name(waiting.pop())
        seen.add(name)
        try:
            asked = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:
            pytest.skip(f"{name} is not installed")
        for given in asked:
            if given.marker and not given.marker.evaluate({"extra": ""}):
                continue
            other = canonicalize_name(given.name)
            if other in pinned:
                assert given.specifier.contains(pinned[other]), f"{name} wants {given}, constraints.txt {pinned[other]}"
            if other not in seen:
                waiting.append(other)
