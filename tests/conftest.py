"""What tests share: one local Ray cluster for the whole run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

# The tensors of tests are small: a second thread would do little but wait for the first.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local Ray with 4 CPUs by its own count. Mark tests that use it with ``ray``."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        # Without this Ray writes an access token into the home directory.
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("RAY_ADDRESS", raising=False)  # never somebody's real cluster
        patch.setenv("STEP_RAY_TOKEN", "secret")  # of what is served to people outside
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")  # GB
        if not os.environ.get("HF_HUB_OFFLINE"):
            patch.setenv("HF_HUB_OFFLINE", "1")
        _start(ray)
        yield
        ray.shutdown()


def _start(ray: Any, attempts: int = 3) -> None:
    """Starts Ray; it gives itself 30 s for that, which a crowded machine may exceed."""
    for left in reversed(range(attempts)):
        try:
            ray.init(
                address="local",
                num_cpus=4,
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
            )
            return
        except Exception as error:
            if not left or "timed out" not in str(error):
                raise
            ray.shutdown()
