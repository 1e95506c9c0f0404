"""Ray's control store is killed in the middle of a search: a message of ours, exit 1, and the same command goes on."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from clusters import environment, free_port, processes_of, ray_cluster, ray_folder
from paths import ROOT
from plans import tiny_plan, write_sentiment
from tiny_models import write_tiny_model

COMMAND = [sys.executable, str(ROOT / "platform" / "search.py"), "plan.yaml"]


@pytest.mark.slow
def test_a_search_says_so_and_goes_on_with_the_same_command(tmp_path: Path) -> None:
    done = search_until_killed(tmp_path, environment(), lambda search: search.children(recursive=True))
    assert_goes_on(tmp_path, environment(), done)


@pytest.mark.slow
def test_a_search_on_a_cluster_goes_on_when_the_cluster_was_started_again(tmp_path: Path) -> None:
    home = {"XDG_STATE_HOME": str(tmp_path / "state")}
    with ray_folder() as folder, ray_cluster(folder) as variables:
        again = ". Start the cluster again before you go on"
        done = search_until_killed(tmp_path, variables | home, lambda _: processes_of(folder), again)
    with ray_folder() as folder, ray_cluster(folder) as variables:
        assert_goes_on(tmp_path, variables | home, done)


def search_until_killed(
    folder: Path,
    variables: dict[str, str],
    processes: Callable[[psutil.Process], list[psutil.Process]],
    advice: str = "",
) -> int:
    """Kill the control store among ``processes`` of a search; number of trials that were complete at its end."""
    write_tiny_model(folder / "model")
    write_sentiment(folder, rows=400)
    (folder / "plan.yaml").write_text(tiny_plan(trials=200, baselines="[]"))
    variables = {**variables, "RAY_gcs_rpc_server_reconnect_timeout_s": "25"}
    with (folder / "log").open("w") as log:
        search = subprocess.Popen(COMMAND, cwd=folder, env=variables, stdout=log, stderr=log)
        try:
            wait_for("trial 1 complete", folder / "log", search)
            (store,) = [each for each in processes(psutil.Process(search.pid)) if each.name() == "gcs_server"]
            store.kill()
            assert search.wait(timeout=120) == 1
        finally:
            search.kill()
    told = (folder / "log").read_text()
    assert re.search(
        r"tiny: Ray's control store at \S+ has not answered for \d+ s: its process \(gcs_server\) or its machine was "
        rf"killed{re.escape(advice)}\. Everything finished is saved; a partial report is in \S+report.html\. "
        r"The same command goes on\.",
        told,
    ), told
    assert (folder / "reports" / "tiny" / "report.html").is_file()
    return len(set(re.findall(r"^trial (\d+) complete", told, re.MULTILINE)))


def assert_goes_on(folder: Path, variables: dict[str, str], done: int) -> None:
    again = [*COMMAND, "--set", f"budget.trials={done + 2}"]
    went_on = subprocess.run(again, cwd=folder, env=variables, capture_output=True, text=True, timeout=300)
    assert went_on.returncode == 0, went_on.stdout + went_on.stderr
    assert "trial 0 complete" not in went_on.stdout, "what was finished is not done again"
    assert f"{done + 2}/{done + 2} trials" in went_on.stdout


def wait_for(text: str, log: Path, search: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 200
    while text not in log.read_text():
        assert search.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.2)


def test_the_process_ends_when_nothing_answers(tmp_path: Path) -> None:
    script = (
        "import time\n"
        "from finesearch.tuning.connection.control_store_watch import watched_control_store\n"
        "with watched_control_store('127.0.0.1:9', lambda why: print(why, flush=True)):\n"
        "    time.sleep(60)\n"
    )
    variables = environment(RAY_gcs_rpc_server_reconnect_timeout_s="12")
    done = subprocess.run([sys.executable, "-c", script], env=variables, capture_output=True, text=True, timeout=50)
    assert done.returncode == 1, done.stderr
    assert re.match(r"Ray's control store at 127\.0\.0\.1:9 has not answered for \d+ s: its process", done.stdout)


@pytest.mark.slow
def test_a_store_that_answers_again_in_time_ends_nothing(tmp_path: Path) -> None:
    script = (
        "import socket, time\n"
        "from finesearch.tuning.connection.control_store_watch import watched_control_store\n"
        f"port = {free_port()}\n"
        "with watched_control_store(f'127.0.0.1:{port}', lambda why: print(why, flush=True)):\n"
        "    time.sleep(3)\n"
        "    with socket.create_server(('127.0.0.1', port)):\n"
        "        time.sleep(7)\n"
        "    time.sleep(4)\n"
    )
    variables = environment(RAY_gcs_rpc_server_reconnect_timeout_s="18")  # the watch waits for 8 s
    done = subprocess.run([sys.executable, "-c", script], env=variables, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
