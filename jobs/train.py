"""Runs a recipe up to its trained students, on the data that ``jobs/synthesize.py`` has made:

ray job submit --working-dir . -- python jobs/train.py jobs/configs/quickstart.yaml

Takes what ``step-ray run`` takes. What is missing before is made; submitted again, it continues.
"""

from step_ray.commands.job import run_job

if __name__ == "__main__":
    run_job("run", "--until", "training")
