"""Runs a recipe to its end, evaluation and report, with the students of ``jobs/train.py``:

ray job submit --working-dir . -- python jobs/evaluate.py jobs/configs/quickstart.yaml

Takes what ``step-ray run`` takes. What is missing before is made; submitted again, it continues.
"""

from step_ray.commands.job import run_job

if __name__ == "__main__":
    run_job("run")
