"""A Ray of several nodes on this machine, each with an address of the loopback of its own, that come and go."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from clusters import BIN, environment, processes_of

SETTINGS = {
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "4",
    "RAY_worker_maximum_startup_concurrency": "16",
}
"""The death of a node is seen within 2 seconds, instead of 13 to 64; and a head without CPUs may start many actors."""


@dataclass
class Machine:
    """One node; its processes are those that name its address, and what they have started."""

    address: str
    cpus: int
    folder: Path

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in processes_of(self.folder):
            with contextlib.suppress(psutil.Error):
                if self.address in " ".join(process.cmdline()):
                    found += [process, *process.children(recursive=True)]
        return list(dict.fromkeys(found))

    def lose(self) -> None:
        """End all of it at once, as a power cut does."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()


@dataclass
class Nodes:
    """The cluster. ``variables`` is the environment that a driver joins it with."""

    folder: Path
    variables: dict[str, str]
    machines: list[Machine] = field(default_factory=list)

    def add(self, cpus: int) -> Machine:
        """A node more, which has joined when this returns."""
        machine = Machine(f"127.0.0.{len(self.machines) + 3}", cpus, self.folder)
        ray_start(self.variables, cpus, f"--address={self.variables['RAY_ADDRESS']}", machine.address)
        self.machines.append(machine)
        return machine

    def drain(self, machine: Machine, seconds: int) -> None:
        """Tell Ray that the node will be taken away, as clouds tell of spot instances; it is not taken away."""
        node = next(row["NodeID"] for row in self.ask("ray.nodes()") if row["NodeManagerAddress"] == machine.address)
        command = [
            str(BIN / "ray"), "drain-node", f"--address={self.variables['RAY_ADDRESS']}", f"--node-id={node}",
            "--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot",
            f"--deadline-remaining-seconds={seconds}",
        ]  # fmt: skip
        done = subprocess.run(command, env=self.variables, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stdout + done.stderr

    def ask(self, expression: str) -> Any:
        """What a Python expression gives on a driver of its own, as JSON; ``ray`` and ``state`` are there."""
        script = (
            "import json, ray; from ray._private.state import state; from ray.util import placement_group_table\n"
            "ray.init(logging_level='ERROR', log_to_driver=False)\n"
            f"print(json.dumps({expression}, default=str))"
        )
        done = subprocess.run(
            [BIN / "python", "-c", script], env=self.variables, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def held(self) -> dict[str, Any]:
        """Placement groups, and actors that live."""
        return self.ask(
            "{'groups': [g for g in placement_group_table().values() if g['state'] != 'REMOVED'], "
            "'actors': [a['ActorClassName'] for a in state.actor_table(None, None, 'ALIVE').values()]}"
        )


@contextmanager
def nodes(folder: Path, head_cpus: int = 0, port: int = 0, options: Sequence[str] = (), **more: str) -> Iterator[Nodes]:
    """A head and no other node yet. options: of ``ray start --head``. more: environment of the nodes."""
    folder.mkdir(parents=True, exist_ok=True)
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    access = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    variables = environment(**access, **SETTINGS, **more)
    try:
        said = ray_start(
            variables, head_cpus, "--head", "127.0.0.2", f"--port={port}", f"--temp-dir={folder}",
            "--include-dashboard=False", *options,
        )  # fmt: skip
        found = re.search(r"--address='([^']+)'", said)
        assert found, said
        yield Nodes(folder, {**variables, "RAY_ADDRESS": found[1]})
    finally:
        for process in processes_of(folder):
            with contextlib.suppress(psutil.Error):
                process.kill()


def ray_start(variables: dict[str, str], cpus: int, role: str, address: str, *more: str) -> str:
    command = [
        str(BIN / "ray"), "start", role, f"--num-cpus={cpus}", f"--node-ip-address={address}",
        "--disable-usage-stats", "--object-store-memory=100000000", "--dashboard-agent-listen-port=0", *more,
    ]  # fmt: skip
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wait_for(condition: Any, what: str, timeout_s: float = 120, found: Callable[[], Any] = str) -> None:
    """Come back once something is so; ``found`` says what is there instead when time is up."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"after {timeout_s:.0f} s still not: {what}: {found()}"
        time.sleep(0.2)
