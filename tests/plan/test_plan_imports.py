import json
import subprocess
import sys
from pathlib import Path

HEAVY = ("torch", "ray", "transformers", "datasets", "optuna", "deepspeed", "numpy", "pyarrow", "pandas")
PLATFORM = Path(__file__).parents[2] / "platform"


def test_importing_plan_loads_no_heavy_library() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(PLATFORM)!r}); import finesearch.plan, json; "
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
    assert loaded.isdisjoint(HEAVY)
    assert {name for name in json.loads(done.stdout) if name.startswith("finesearch.")} == {
        name
        for name in json.loads(done.stdout)
        if name.startswith(("finesearch.plan", "finesearch.errors", "finesearch.redaction"))
    }
