"""Runs a recipe on the cluster it is submitted to:

ray job submit --working-dir . -- python jobs/run.py jobs/configs/quickstart.yaml

Takes what ``step-ray run`` takes. Submitted again, it continues the run.
"""

from step_ray.commands.job import run_job

if __name__ == "__main__":
    run_job("run")
