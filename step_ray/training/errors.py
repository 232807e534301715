"""What a training raises."""

from __future__ import annotations


class TrainError(RuntimeError):
    """A training cannot start, go on or be published; says why and what to do."""
