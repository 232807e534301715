"""Runs a recipe on the cluster it is submitted to:

ray job submit --working-dir . -- python jobs/run.py jobs/configs/quickstart.yaml

Takes what ``step-ray run`` takes. Submitted again, it continues the run.
"""

import sys

from step_ray.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "run")
    main()
