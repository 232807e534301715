"""Builds the wheel, installs it alone into a bare environment, and uses it there:

python tests/wheel.py

Without torch and Ray every command has its help, the config loads, and what needs more says which
extra brings it. Prints how long `step-ray --help` takes; exit status 1 if something is wrong.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
INSIDE = (
    "step_ray/py.typed", "step_ray/report/web/page.html", "step_ray/report/web/base.css",
    "step_ray/report/web/main.js", "step_ray/teacher/prompts/core.md",
    "step_ray/models/play/model.safetensors", "step_ray/models/play/chat_template.jinja",
    "licenses/LICENSE", "licenses/NOTICE",
)  # fmt: skip
TIMES = 7


def main() -> int:
    """Exit status: 0 if all is as it should be."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        os.chdir(place)  # nothing is to be imported from the folder of the code
        run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", place, ROOT)
        (wheel,) = place.glob("step_ray-*.whl")
        names = zipfile.ZipFile(wheel).namelist()
        for wanted in INSIDE:
            check(any(name.endswith(wanted) for name in names), f"{wanted} is in the wheel")
        strays = [name for name in names if not name.startswith(("step_ray/", "step_ray-"))]
        check(not strays, f"nothing else is in the wheel {strays[:3]}")

        venv.create(place / "bare", with_pip=True)
        bin_ = place / "bare" / "bin"
        constraints = ROOT / "constraints.txt"
        run(bin_ / "python", "-m", "pip", "install", "--quiet", "-c", constraints, wheel)
        before = os.times()
        seconds = [timed(bin_ / "step-ray", "--help") for _ in range(TIMES)]
        spent = sum(os.times()[2:4]) - sum(before[2:4])
        check(
            spent / TIMES < 0.5, f"--help takes {spent / TIMES:.2f} s of CPU"
        )  # whatever else runs
        absent = (
            "import importlib.util as u; print([n for n in ('torch', 'ray') if u.find_spec(n)])"
        )
        check(run(bin_ / "python", "-c", absent).strip() == "[]", "torch and Ray are not there")
        check(
            run(bin_ / "step-ray", "--version").strip() in wheel.name, "the version is the wheel's"
        )
        helped = run(bin_ / "step-ray", "--help")
        for command in ("run", "verify", "doctor", "data", "play"):
            check(command in helped, f"{command} is a command")
            run(bin_ / "step-ray", command, "--help")
        doctor = run(bin_ / "step-ray", "doctor", "--json", status=1)
        found = [one for machine in json.loads(doctor)["machines"].values() for one in machine]
        remedies = " ".join(one["remedy"] for one in found)
        for extra in ("step-ray[ray,torch]", "step-ray[webshop]", "alfworld==0.4.2"):
            check(extra in remedies, f"the doctor says how to get {extra}")
        config = place / "run.yaml"
        config.write_text(f"output: {place}/run\nenv: webshop\n")
        said = run(bin_ / "step-ray", "run", config, status=2)
        check("step-ray[ray,torch]" in said, "a run says what it lacks")
        print(
            f"step-ray --help: median {statistics.median(seconds):.2f} s of {TIMES} "
            f"({min(seconds):.2f} to {max(seconds):.2f}), {wheel.stat().st_size / 1e6:.1f} MB wheel"
        )
    return 0


def run(*command: object, status: int = 0) -> str:
    """What a command says; it has to end with ``status``."""
    done = subprocess.run(
        [str(part) for part in command], text=True, timeout=600,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )  # fmt: skip
    if done.returncode != status:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def timed(*command: object) -> float:
    began = time.perf_counter()
    run(*command)
    return time.perf_counter() - began


def check(right: bool, what: str) -> None:
    if not right:
        sys.exit(f"not so: {what}")
    print(f"ok  {what}")


if __name__ == "__main__":
    sys.exit(main())
