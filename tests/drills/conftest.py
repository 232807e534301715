"""What drills share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.drills.family import Family


@pytest.fixture
def family() -> Iterator[Family]:
    """Processes that end with the test at the latest."""
    family = Family()
    yield family
    while family.alive():  # who was just starting another
        family.kill()
