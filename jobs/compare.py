"""Runs what is missing of a suite of recipes, seeds and environments, and writes its table:

ray job submit --working-dir . -- python jobs/compare.py SUITE.yaml

Takes what ``step-ray compare`` takes. Submitted again, it continues.
"""

from step_ray.commands.job import run_job

if __name__ == "__main__":
    run_job("compare")
