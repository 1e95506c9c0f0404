"""DeepSpeed in a warm process: what it keeps, what it says, what it needs."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from finesearch.training.runtime.deepspeed_engine import deepspeed_caches
from paths import PLATFORM, PYTHONPATH
from training_cases import make_runner, run, trial


def test_the_caches_that_outlive_an_engine_are_where_we_clear_them(home: Path, tmp_path: Path) -> None:
    from deepspeed.runtime.zero import parameter_offload
    from deepspeed.runtime.zero.partitioned_param_coordinator import PartitionedParameterCoordinator

    sizes: list[tuple[int, int]] = []
    forget, clear = deepspeed_caches()
    cached = forget.__self__  # type: ignore[attr-defined]

    def look() -> None:
        sizes.append((cached.cache_info().currsize, len(parameter_offload.FWD_MODULE_STACK)))

    make_runner(home, zero_stage=3).run(trial(tmp_path), lambda _: True, look)
    assert max(released for released, _ in sizes) > 0, "ZeRO-3 does not fill this cache any more: is it still needed?"
    assert max(stacked for _, stacked in sizes) > 0, "ZeRO-3 does not fill this list any more: is it still needed?"
    assert (cached.cache_info().currsize, len(parameter_offload.FWD_MODULE_STACK)) == (0, 0)
    assert clear.__self__ is parameter_offload.FWD_MODULE_STACK  # type: ignore[attr-defined]
    assert "_PartitionedParameterCoordinator__params_to_release" in vars(PartitionedParameterCoordinator)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 3])
def test_memory_does_not_grow_over_twenty_trials(stage: int, home: Path, tmp_path: Path) -> None:
    work = make_runner(home, zero_stage=stage)
    sizes = []
    for number in range(20):
        run(work, trial(tmp_path / str(number), number=number, epochs=1, batch_size=26))
        sizes.append(psutil.Process().memory_info().rss)
    # The first trials import and fill pools. One model with its gradients and moments is 0.7 MB.
    assert sizes[-1] - sizes[4] < 12 * 2**20


def test_deepspeed_loads_no_mlflow(tmp_path: Path) -> None:
    (tmp_path / "mlflow.py").write_text("raise AssertionError('it was imported')")
    program = (
        "from finesearch.training.runtime.deepspeed_engine import import_deepspeed, prepare_imports\n"
        "import sys, torch\n"
        "prepare_imports(torch.device('cpu'))\n"
        "import_deepspeed()\n"
        "print('deepspeed' in sys.modules, 'mlflow' in sys.modules)\n"
        "import mlflow\n"
    )
    paths = os.pathsep.join(map(str, [tmp_path, PLATFORM]))
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout == "True False\n"
    assert "it was imported" in done.stderr, "whoever wants it gets it later"


def test_no_launcher_no_network_and_no_noise_are_needed(home: Path, tmp_path: Path) -> None:
    """A clean process with an empty home and none of the launcher's variables, which prints all that it prints."""
    program = (
        "from training_cases import *\n"
        f"work = make_runner(Path({str(home)!r}), zero_stage=3)\n"
        f"result, diary = run(work, trial(Path({str(tmp_path / 'trial')!r})))\n"
        "print('steps', diary.steps)\n"
        "import os, sys\n"
        "print('ray' in sys.modules, 'mpi4py' in sys.modules, os.environ.get('GLOO_SOCKET_IFNAME'))\n"
    )
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV") if name in os.environ}
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {**kept, "PYTHONPATH": PYTHONPATH, "HOME": str(empty), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "steps [1, 2]\nFalse False None\n"
    assert done.stderr == ""
    assert not list(empty.rglob("*.so")), "something was compiled into the home directory"
