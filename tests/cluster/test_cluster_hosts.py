"""The hosts that other tests use: separate where real ones are, joined where those are, and gone afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hosts import NETWORK, Lan, require_hosts

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

SPACES = ("net", "pid", "mnt", "ipc", "uts")


@pytest.fixture
def lan() -> Iterator[Lan]:
    require_hosts()
    with Lan(2) as made:
        yield made


def spaces_in_use() -> set[str]:
    """Every namespace that a process of this machine is in."""
    found = set()
    for pid in psutil.pids():
        for space in SPACES:
            try:
                found.add(os.readlink(f"/proc/{pid}/ns/{space}"))
            except OSError:
                continue
    return found


def test_hosts_share_one_folder_and_a_wire_and_nothing_else(lan: Lan) -> None:
    first, second = lan.hosts
    for folder in ("/tmp", "/root", "/etc", "/usr/local", "/dev/shm"):
        first.run(f"echo mine >{folder}/private")
        assert second.run(f"cat {folder}/private", check=False).returncode != 0
        assert folder == "/root" or not Path(folder, "private").exists()
    first.run("echo ours >/mnt/shared/note")
    assert second.run("cat /mnt/shared/note").stdout == "ours\n"
    assert (lan.shared / "note").read_text() == "ours\n"
    assert [host.run("hostname").stdout for host in lan.hosts] == ["h1\n", "h2\n"]
    assert len(first.run("ps -e -o pid=").stdout.split()) < 8, "processes of the machine are not seen"
    assert first.run("ping -c 1 -W 2 h2 || bash -c ': </dev/tcp/h2/22'", check=False).returncode == 0


def test_a_host_has_the_dependencies_and_not_the_project(lan: Lan) -> None:
    first = lan.hosts[0]
    assert "No module named 'finesearch'" in first.run("python -c 'import ray, finesearch'", check=False).stdout
    environment = first.run("python -c 'import sys; print(sys.prefix)'").stdout.strip()
    assert "Read-only file system" in first.run(f"touch {environment}/new", check=False).stdout


def test_one_logs_in_from_the_host_that_has_the_key(lan: Lan) -> None:
    desk = lan.add(with_key=True)
    ssh = "ssh -o BatchMode=yes -o StrictHostKeyChecking=no"
    assert desk.run(f"{ssh} h2 hostname 2>/dev/null").stdout == "h2\n"
    refused = lan.hosts[0].run(f"{ssh} h2 hostname", check=False)
    assert refused.returncode == 255
    assert "Permission denied" in refused.stdout


def test_a_partition_can_be_ended_and_a_power_cut_cannot(lan: Lan) -> None:
    first, second = lan.hosts
    reach = "timeout 2 bash -c ': </dev/tcp/h2/22'"
    first.run(reach)
    lan.cut(second)
    assert first.run(reach, check=False).returncode != 0
    assert second.run("hostname").stdout == "h2\n", "it runs on"
    lan.join(second)
    first.run(reach)
    started = second.start("sleep 1000", lan.folder / "sleep.log")
    lan.lose(second)
    assert started.poll() is not None
    assert first.run(reach, check=False).returncode != 0


def test_two_lans_with_the_same_addresses_do_not_meet(lan: Lan) -> None:
    with Lan(1) as other:
        assert other.hosts[0].address == lan.hosts[0].address == f"{NETWORK}.11"
        lan.hosts[0].run("echo one >/mnt/shared/note")
        assert other.hosts[0].run("cat /mnt/shared/note", check=False).returncode != 0
        assert other.hosts[0].run("timeout 2 bash -c ': </dev/tcp/h2/22'", check=False).returncode != 0


def test_no_process_mount_namespace_or_file_is_left() -> None:
    require_hosts()
    before, mounts_before = spaces_in_use(), Path("/proc/self/mountinfo").read_text()
    with Lan(2) as lan:
        for host in lan.hosts:
            host.run("setsid sleep 1000 >/dev/null 2>&1 &")  # a daemon that nobody waits for
            host.start("trap '' TERM HUP; sleep 1000; sleep 1000", lan.folder / f"{host.name}-stubborn.log")
        held = spaces_in_use() - before
        assert len(held) >= 2 * len(SPACES) + 1, "two hosts and the wire between them"
        assert "fs-lan" not in Path("/proc/self/mountinfo").read_text(), "mounts are seen inside alone"
        processes = [child for child in psutil.Process().children(recursive=True) if child.is_running()]
    assert not lan.folder.exists()
    assert not [process for process in processes if process.is_running()]
    assert not held & spaces_in_use()
    assert Path("/proc/self/mountinfo").read_text() == mounts_before
