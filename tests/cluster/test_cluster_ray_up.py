"""cluster/ssh.yaml and cluster/local.yaml launched: `ray up` over sshd, a search, its report, nothing left running."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from host_ray import START, bring_environment, bring_project, nodes_alive, report_of
from hosts import ROOT, Host, Lan, require, require_hosts

from plans import tiny_plan, write_sentiment
from tiny_models import write_tiny_model

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture
def lan() -> Iterator[Lan]:
    require_hosts()
    require("rsync", "ssh")
    with Lan(0) as made:
        yield made


def write_search(folder: Path) -> None:
    """A search that takes seconds, with model and data beside it."""
    folder.mkdir()
    write_tiny_model(folder / "model")
    write_sentiment(folder)
    (folder / "tiny.yaml").write_text(tiny_plan(trials=2, baselines="[majority]"))


def fill_in(host: Host, name: str, **words: str) -> None:
    """Fill a cluster file in as its user would; small object stores and one CPU for this machine's sake."""
    path = host.path(f"/root/project/cluster/{name}")
    text = (ROOT / "cluster" / name).read_text(encoding="utf-8")
    for before, after in words.items():
        key = before.replace("__", ".")
        text, changed = re.subn(rf"^( *{key}:) [^#\n]*", rf"\1 {after}  ", text, flags=re.MULTILINE)
        assert changed == 1, key
    text = text.replace("  ~/finesearch/platform:", "  ~/finesearch/mine: mine\n  ~/finesearch/platform:")
    text = text.replace("ray start ", f"ray start {START} --num-cpus=1 ")
    path.write_text(text, encoding="utf-8")


def rays(host: Host) -> list[str]:
    """Command lines of Ray's processes there."""
    said = host.run("ps -e -o args=").stdout.splitlines()
    return [line for line in said if re.search(r"gcs_server|raylet|ray::|monitor\.py|dashboard", line)]


def test_ssh_yaml_from_nothing_to_report_and_nothing_left(lan: Lan) -> None:
    desk, head, worker = lan.add(with_key=True), lan.add(), lan.add()
    for host in (head, worker):
        bring_environment(host)
    bring_project(desk, "/root/project")
    write_search(desk.path("/root/project/mine"))
    fill_in(
        desk, "ssh.yaml", head_ip=head.address, worker_ips=f"[{worker.address}]", ssh_user="root",
        ssh_private_key="~/.ssh/id_ed25519",
    )  # fmt: skip
    up = desk.run("cd project && ray up -y cluster/ssh.yaml", timeout_s=180)
    assert "New status: up-to-date" in re.sub(r"\x1b\[[0-9;]*m", "", up.stdout)
    for _ in range(60):
        if nodes_alive(head) == 2:
            break
        head.run("sleep 1")
    assert nodes_alive(head) == 2, head.run("tail -50 /tmp/ray/session_latest/logs/monitor*").stdout

    boards = head.run("ls ~/finesearch/cluster/grafana").stdout.split()
    assert {"finesearch.json", "default_grafana_dashboard.json", "train_grafana_dashboard.json"} <= set(boards)
    provisioned = "/tmp/ray/session_latest/metrics/grafana/provisioning/dashboards/default.yml"
    assert "/root/finesearch/cluster/grafana" in head.run(f"cat {provisioned}").stdout

    for host in (head, worker):
        assert host.run("stat -c %a ~/.ray/auth_token").stdout == "600\n"
    assert head.run("cat ~/.ray/auth_token").stdout == worker.run("cat ~/.ray/auth_token").stdout
    asks = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8265/api/jobs/').status)"
    assert "HTTP Error 401" in head.run(f'python -c "{asks}"', check=False).stdout, "a job needs the token"
    outside = worker.run(f"timeout 5 bash -c ': </dev/tcp/{head.address}/8265'", check=False)
    assert outside.returncode != 0, "the dashboard listens on loopback alone"

    search = "python platform/search.py mine/tiny.yaml --storage /mnt/shared/runs"
    done = desk.run(
        f"cd project && ray exec cluster/ssh.yaml 'cd ~/finesearch && ray job submit -- {search}'", timeout_s=300
    )
    assert "succeeded" in done.stdout, done.stdout
    desk.run("cd project && ray rsync-down cluster/ssh.yaml '~/finesearch/reports/' reports/", timeout_s=60)
    said = report_of(desk.path("/root/project/reports"), "tiny")
    assert not said["partial"]
    assert said["cost"]["trials"]["complete"] == 2

    # From one's own desk: the token is fetched once, the dashboard's port comes over ssh.
    desk.run("cd project && mkdir -p ~/.ray && ray rsync-down cluster/ssh.yaml '~/.ray/auth_token' ~/.ray/auth_token")
    assert desk.run("stat -c %a ~/.ray/auth_token").stdout == "600\n"
    desk.start("cd project && ray dashboard cluster/ssh.yaml", desk.folder / "dashboard.log")
    desk.run("timeout 30 bash -c 'until (: </dev/tcp/localhost/8265) 2>/dev/null; do sleep 0.2; done'")
    hello = "RAY_AUTH_MODE=token ray job submit --address http://localhost:8265 -- hostname"
    assert f"\n{head.name}\n" in desk.run(hello).stdout
    wrong = "mkdir -p /tmp/wrong/.ray && echo wrong >/tmp/wrong/.ray/auth_token && HOME=/tmp/wrong"
    assert "Forbidden: Invalid authentication token" in desk.run(f"{wrong} {hello}", check=False).stdout

    desk.run("cd project && ray down -y cluster/ssh.yaml", timeout_s=120)
    assert not rays(head)
    assert rays(worker), "which is why there is a script that stops workers"
    stopped = desk.run("cd project && python cluster/stop_workers.py cluster/ssh.yaml", timeout_s=120)
    assert "Ray stopped on 1 of 1 worker(s)" in stopped.stdout
    assert not rays(worker)


def test_local_yaml_makes_one_machine_a_head(lan: Lan) -> None:
    host = lan.add(with_key=True)
    bring_environment(host)
    bring_project(host, "/root/project")
    write_search(host.path("/root/project/mine"))
    fill_in(host, "local.yaml")
    assert host.run("ls -A ~/.ray", check=False).returncode != 0, "a fresh home"
    host.run("cd project && ray up -y cluster/local.yaml", timeout_s=180)
    assert host.run("stat -c %a ~/.ray/auth_token").stdout == "600\n"
    refused = host.run("cd project && RAY_AUTH_MODE=disabled ray job submit -- echo open", check=False)
    assert refused.returncode != 0
    assert "open\n" not in refused.stdout
    search = "python platform/search.py mine/tiny.yaml"
    done = host.run(
        f"cd project && ray exec cluster/local.yaml 'cd ~/finesearch && ray job submit -- {search}'", timeout_s=300
    )
    assert "succeeded" in done.stdout, done.stdout
    assert report_of(host.path("/root/finesearch/reports"), "tiny")["cost"]["trials"]["complete"] == 2
    host.run("cd project && ray down -y cluster/local.yaml", timeout_s=120)
    assert not rays(host)
