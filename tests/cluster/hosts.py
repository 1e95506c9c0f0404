"""Hosts on one machine that are as separate as real ones: network, processes, file system, home, sshd of their own.

    with Lan(2) as lan:
        first, second = lan.hosts
        first.run("ray start --head --port=6379")
        second.run(f"ray start --address={first.address}:6379")
        lan.lose(second)

Each host is a set of Linux namespaces whose process 1 is sshd (``host_init.sh``). Its root is the machine's own, with
whatever it writes in memory; ``/tmp``, ``/run``, ``/dev/shm`` and the home are empty at first; ``/mnt/shared`` is one
folder for all. Python and the virtual environment are there, read-only; this source tree and the installed finesearch
are not. Nothing of a LAN has a name outside of it: any number may run at once, and all goes with its processes.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = Path(sys.prefix).resolve()
INIT = Path(__file__).with_name("host_init.sh")
NETWORK = "10.77.0"
MOST_HOSTS = 9
PROGRAMS = ("ip", "nsenter", "unshare", "setpriv", "ssh-keygen", "/usr/sbin/sshd")


def require_hosts() -> None:
    """Skip the test where hosts cannot be made; with ``FINESEARCH_REQUIRE_CLUSTER=1`` fail."""
    require(*PROGRAMS, root=True)
    tried = subprocess.run(["unshare", "-m", "-n", "-p", "-f", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=False)
    if tried.returncode:
        missing("this kernel or container lets nobody make mount, network and process namespaces")


def require(*programs: str, root: bool = False) -> None:
    """Skip (or fail, as above) unless these programs are installed and, where asked, the tests run as root."""
    if root and os.geteuid() != 0:
        missing("root is needed, to make namespaces or to start daemons")
    if lacking := [program for program in programs if shutil.which(program) is None]:
        missing(f"not installed: {', '.join(lacking)}")


def missing(why: str) -> None:
    """End the test as skipped or, with ``FINESEARCH_REQUIRE_CLUSTER=1``, as failed."""
    if os.environ.get("FINESEARCH_REQUIRE_CLUSTER") == "1":
        pytest.fail(f"FINESEARCH_REQUIRE_CLUSTER=1, and {why}")
    pytest.skip(why)


class Host:
    """One host of a :class:`Lan`."""

    def __init__(self, folder: Path, number: int, name: str, init: subprocess.Popen[bytes]) -> None:
        self.name, self.address = name, address_of(number)
        self.folder, self.init = folder, init
        self.cable = f"v{number}"
        self._started: list[subprocess.Popen[bytes]] = []
        self._inside: list[psutil.Process] = []

    @property
    def pid(self) -> int:
        """Process 1 of the host, as numbered outside of it."""
        self._inside = self._inside or psutil.Process(self.init.pid).children()
        (child,) = self._inside
        return int(child.pid)

    def path(self, path: str) -> Path:
        """A file of the host, as it is reached from outside."""
        return Path(f"/proc/{self.pid}/root{path}")

    @property
    def log(self) -> str:
        """What its process 1 said."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def command(self, script: str) -> list[str]:
        """What runs a shell script there as a login of root would: in the home, with the profile read."""
        enter = ["nsenter", "-t", str(self.pid), "-m", "-n", "-p", "-u", "-i", "-r", "-w", "--"]
        clean = ["env", "-i", "HOME=/root", "USER=root", "TERM=dumb"]
        return [*enter, *clean, "bash", "-lc", f"cd ~\n{script}"]

    def run(self, script: str, timeout_s: float = 120, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a shell script there to its end; standard error comes with standard output.

        Raises:
            AssertionError: it failed, and ``check`` is set.
            subprocess.TimeoutExpired: it took longer; it ends with its host at the latest.
        """
        done = subprocess.run(
            self.command(script), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=timeout_s, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, (
            f"{self.name}: {script!r} ended with {done.returncode}:\n{done.stdout}"
        )
        return done

    def start(self, script: str, log: Path) -> subprocess.Popen[bytes]:
        """Start a shell script there; what it says goes to ``log``, a file outside of the host."""
        with log.open("wb") as out:
            process = subprocess.Popen(
                self.command(script), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )
        self._started.append(process)
        return process

    def end(self) -> None:
        """Kill everything that runs there."""
        self.init.kill()  # unshare, which takes process 1 along, and that everything else
        for process in (self.init, *self._started):
            process.wait()
        _, alive = psutil.wait_procs(self._inside, timeout=20)
        assert not alive, f"{self.name} goes on after it was killed: {alive}"


class Lan:
    """``count`` hosts named h1, h2, ... on one wire, gone without a trace when the context ends."""

    def __init__(self, count: int = 2) -> None:
        self.hosts: list[Host] = []
        self._count, self._made = count, 0

    def __enter__(self) -> Lan:
        self.folder = Path(tempfile.mkdtemp(prefix="fs-lan-"))
        try:
            self.shared = self.folder / "shared"
            self.shared.mkdir()
            key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / "key")]
            subprocess.run(key, check=True, timeout=30)
            names = [f"{address_of(number)} h{number}" for number in range(1, MOST_HOSTS + 1)]
            (self.folder / "names").write_text("\n".join(["127.0.0.1 localhost", *names]) + "\n")
            bridge = f"ip link set lo up; ip link add br0 type bridge; ip address add {NETWORK}.1/24 dev br0"
            script = f"{bridge}; ip link set br0 up; exec sleep infinity"
            self._switch = _started_aside(["-n"], ["bash", "-c", script], self.folder / "switch.log")
            _wait_for(lambda: "br0" in self._on_switch("ip -br address show up"), 10, lambda: "no bridge")
            for _ in range(self._count):
                self.add()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def add(self, with_key: bool = False) -> Host:
        """Another host; ``with_key``: from which one may log into all others."""
        self._made += 1
        number = self._made
        assert number <= MOST_HOSTS, f"{MOST_HOSTS} hosts have names"
        folder = self.folder / f"h{number}"
        folder.mkdir()
        site = Path(psutil.__file__).parents[1]
        installed = [path for path in site.glob("*.pth") if "finesearch" in path.name]
        variables = {
            "HOST_NAME": f"h{number}",
            "HOST_ADDRESS": address_of(number),
            "HOST_FOLDER": str(folder),
            "HOST_LAN": str(self.folder),
            "HOST_READ_ONLY": _listed([ENVIRONMENT, Path(sys.base_prefix).resolve()]),
            "HOST_HIDDEN_FOLDERS": _listed([ROOT]),
            "HOST_HIDDEN_FILES": _listed([path.resolve() for path in installed]),
            "HOST_PROJECT_ENVIRONMENT": str(ENVIRONMENT),
            "HOST_KEY": "yes" if with_key else "",
        }
        init = _started_aside(["-n", "-m", "-p", "-u", "-i"], [str(INIT)], folder / "log", variables)
        host = Host(folder, number, f"h{number}", init)
        self.hosts.append(host)
        _wait_for(lambda: _network_of(init.pid) not in ("", _network_of(os.getpid())), 10, lambda: host.log)
        ends = f"ip link add eth0 netns {init.pid} type veth peer name {host.cable} netns {self._switch.pid}"
        subprocess.run(ends.split(), check=True, timeout=10)
        self._on_switch(f"ip link set {host.cable} master br0 up")
        _wait_for(lambda: "Server listening on 0.0.0.0" in host.log, 20, lambda: host.log)
        assert host.pid > 0, "known from now on, also when it is gone"
        return host

    def lose(self, host: Host) -> None:
        """A power cut: nothing on the host runs any more, and nobody was told."""
        self.cut(host)  # first, or the kernel would close its connections in good order
        host.end()
        self.hosts.remove(host)

    def cut(self, host: Host) -> None:
        """Partition: the host runs on, and neither hears nor is heard."""
        self._on_switch(f"ip link set {host.cable} down")

    def join(self, host: Host) -> None:
        """End a partition."""
        self._on_switch(f"ip link set {host.cable} up")

    def _on_switch(self, command: str) -> str:
        enter = ["nsenter", "-t", str(self._switch.pid), "-n", "--"]
        done = subprocess.run([*enter, *command.split()], capture_output=True, text=True, check=True, timeout=10)
        return done.stdout

    def _end(self) -> None:
        for host in self.hosts:
            host.init.kill()  # all at once: taking the spaces down is what takes time
        for host in self.hosts:
            host.end()
        self.hosts.clear()
        if hasattr(self, "_switch"):
            self._switch.kill()
            self._switch.wait()
        shutil.rmtree(self.folder)


def address_of(number: int) -> str:
    """The address of host ``number``, from 1."""
    return f"{NETWORK}.{10 + number}"


def quoted(*words: object) -> str:
    """Words as a shell reads them.

    >>> quoted("echo", "a b")
    "echo 'a b'"
    """
    return shlex.join(str(word) for word in words)


def _started_aside(
    spaces: list[str], command: list[str], log: Path, variables: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a command in namespaces of its own that ends when this process does, however that ends."""
    if "-p" in spaces:
        spaces = [*spaces, "--propagation", "private", "--fork", "--kill-child"]
    whole = ["setpriv", "--pdeathsig", "KILL", "unshare", *spaces, *command]
    with log.open("wb") as out:
        return subprocess.Popen(
            whole, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **(variables or {})},
        )  # fmt: skip


def _network_of(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return ""


def _wait_for(holds: Callable[[], bool], timeout_s: float, otherwise: Callable[[], str]) -> None:
    by = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < by, f"not within {timeout_s:g} s: {otherwise()}"
        time.sleep(0.02)


def _listed(paths: list[Path]) -> str:
    return "".join(f"{path}:" for path in paths)
