"""What tests share: one local Ray cluster for the whole run."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local Ray with 4 CPUs by its own count. Mark tests that use it with ``ray``."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        # Without this Ray writes an access token into the home directory.
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("RAY_ADDRESS", raising=False)  # never somebody's real cluster
        if not os.environ.get("HF_HUB_OFFLINE"):
            patch.setenv("HF_HUB_OFFLINE", "1")
        ray.init(
            address="local",
            num_cpus=4,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
        )
        yield
        ray.shutdown()
