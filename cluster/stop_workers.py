"""Stop Ray on the workers of a cluster file with provider local: ``ray down`` stops the head alone.

    ray down -y cluster/ssh.yaml && python cluster/stop_workers.py cluster/ssh.yaml

Every Ray that runs on those machines is stopped, whoever started it. Exit code: 0 none runs there any more; 1 some
machine could not be reached or asked; 2 this is no such file.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

# Processes that outlive a polite `ray stop` are killed; that there were none to stop is no failure.
STOP = "~/finesearch/.venv/bin/ray stop --force"
CONNECT_TIMEOUT_S = 10
STOP_TIMEOUT_S = 120


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    path = Path(arguments[0])
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        workers, login = config["provider"]["worker_ips"], config["auth"]["ssh_user"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        print(f"{path}: expected a cluster file with provider.worker_ips and auth.ssh_user: {error!r}", file=sys.stderr)
        return 2
    key = config["auth"].get("ssh_private_key")
    with ThreadPoolExecutor(max(1, len(workers))) as threads:
        failures = [said for said in threads.map(lambda worker: stop(worker, login, key), workers) if said]
    for said in failures:
        print(said, file=sys.stderr)
    print(f"{path}: Ray stopped on {len(workers) - len(failures)} of {len(workers)} worker(s)")
    return 1 if failures else 0


def stop(worker: str, login: str, key: str | None) -> str:
    """Stop Ray on one machine; what went wrong, or nothing."""
    # As `ray up` logs in: machines of a private network, whose host keys nobody has noted.
    options = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
    command = [
        "ssh",
        *(word for option in options for word in ("-o", option)),
        "-o",
        f"ConnectTimeout={CONNECT_TIMEOUT_S}",
    ]
    if key:
        command += ["-o", "IdentitiesOnly=yes", "-i", str(Path(key).expanduser())]
    try:
        done = subprocess.run(
            [*command, f"{login}@{worker}", STOP], capture_output=True, text=True, timeout=STOP_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"{worker}: `ray stop` took longer than {STOP_TIMEOUT_S} s; log in and look."
    if done.returncode:
        return f"{worker}: could not stop Ray ({done.stderr.strip() or done.stdout.strip()}); log in and run {STOP}"
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
