"""``step-ray drill``: faults on purpose, on one's own cluster and config, and what came of them."""
