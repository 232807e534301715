"""Runs a recipe up to the published data, golden and reflected:

ray job submit --working-dir . -- python jobs/synthesize.py jobs/configs/quickstart.yaml

Takes what ``step-ray run`` takes. Submitted again, it continues; the next is ``jobs/train.py``.
"""

from step_ray.commands.job import run_job

if __name__ == "__main__":
    run_job("run", "--until", "synthesis")
