"""A PostgreSQL of a test's own: Debian's, in a temporary folder, run by the user that its package makes."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clusters import free_port
from object_stores import missing

USER, PASSWORD, OWNER = "finder", "canary-p4ssword", "postgres"


@contextmanager
def postgres() -> Iterator[str]:
    """A server that asks for passwords; ``HOST:PORT/DATABASE`` of it, whose :data:`USER` has :data:`PASSWORD`."""
    programs = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not programs and shutil.which("pg_ctl") is None:
        missing("PostgreSQL is not installed: apt-get install postgresql")
    if os.geteuid() != 0:
        missing("PostgreSQL does not run as root, and only root can start it as another user")
    try:
        owner = pwd.getpwnam(OWNER)
    except KeyError:
        missing(f"there is no user {OWNER}")
    bin_ = programs[-1] if programs else str(Path(str(shutil.which("pg_ctl"))).parent)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        (folder / "password").write_text(PASSWORD)
        for path in (folder, folder / "password"):
            os.chown(path, owner.pw_uid, owner.pw_gid)

        def as_owner(*command: str) -> None:
            subprocess.run(
                command, cwd=folder, user=owner.pw_uid, group=owner.pw_gid, check=True, capture_output=True, timeout=60
            )

        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -c fsync=off"
        data = str(folder / "data")
        as_owner(
            f"{bin_}/initdb", "-D", data, "-U", USER, "--pwfile", str(folder / "password"), "-A", "scram-sha-256"
        )  # fmt: skip
        as_owner(f"{bin_}/pg_ctl", "-D", data, "-l", str(folder / "log"), "-w", "-o", options, "start")
        try:
            yield f"127.0.0.1:{port}/postgres"
        finally:
            as_owner(f"{bin_}/pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
