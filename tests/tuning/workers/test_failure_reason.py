"""What the report says of a trial that failed."""

from __future__ import annotations

import pytest

from finesearch.errors import DataError
from finesearch.tuning.workers.failure_reason import failure_reason


def test_memory_that_ran_out_says_what_needs_less_of_it() -> None:
    on_a_gpu = RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    assert failure_reason(on_a_gpu).endswith("2.00 GiB. A smaller batch_size or max_length needs less.")
    assert failure_reason(MemoryError()).startswith("out of memory")


@pytest.mark.parametrize("kind", [DataError, MemoryError, RuntimeError])
def test_no_reason_tells_a_secret(kind: type[Exception]) -> None:
    said = failure_reason(kind("s3://key:hunter22hunter22@bucket/rows: out of memory"))
    assert "hunter22" not in said
    assert "bucket/rows" in said
