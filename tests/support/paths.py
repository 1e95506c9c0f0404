"""Where the project and the helpers of its tests lie, for tests that start other processes."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLATFORM = ROOT / "platform"
TESTS = ROOT / "tests"
SUPPORT, TRAINING_SUPPORT, TUNING_SUPPORT = (TESTS / name for name in ("support", "training/support", "tuning/support"))
IMPORT_ROOTS = [PLATFORM, SUPPORT, TRAINING_SUPPORT, TUNING_SUPPORT, TESTS / "training" / "loop"]
PYTHONPATH = os.pathsep.join(map(str, IMPORT_ROOTS))
