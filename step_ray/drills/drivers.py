"""Drills on drivers, workers, environments and files."""

from __future__ import annotations

import signal
import time

from step_ray import store
from step_ray.drills.lab import DrillFailed, Lab, wait
from step_ray.faults import Fault

_HANDSHAKE = 300.0  # seconds until a driver holds its run


def kill_workers(lab: Lab) -> str:
    run = lab.scratch("kill-workers")
    last = lab.episodes - 1
    run.finish(Fault("kill-worker", episode=0, step=1), Fault("kill-worker", episode=last, step=0))
    return run.same_as_quiet()


def kill_driver(lab: Lab) -> str:
    run = lab.scratch("kill-driver")
    points = (("episodes-done", lab.episodes // 2), ("shard-renamed", 1), ("manifest-written", 1))
    plan = [Fault("kill-driver", name, at) for name, at in points]
    for name, _ in points:
        ended = run.drive(*plan)
        if ended.status != -signal.SIGKILL:
            raise DrillFailed(f"no death at {name}, but status {ended.status}: {ended.output}")
        if name != "manifest-written":
            run.unpublished()
    run.finish(*plan)
    return run.same_as_quiet()


def hang_env(lab: Lab) -> str:
    run = lab.scratch("hang-env")
    run.finish(Fault("hang-env", episode=1, step=1))
    return run.all_but("env_timeout")


def crash_env(lab: Lab) -> str:
    run = lab.scratch("crash-env")
    run.finish(Fault("crash-env", episode=1, step=1))
    return run.all_but("env_error")


def full_disk(lab: Lab) -> str:
    run = lab.scratch("full-disk")
    plan = Fault("full-disk", "shard-written")
    ended = run.drive(plan)
    if ended.status != 2 or "free space" not in ended.output:
        raise DrillFailed(f"status {ended.status}, and no word of it: {ended.output}")
    run.unpublished()
    run.finish(plan)
    return f"said so, published nothing; then {run.same_as_quiet()}"


def corrupt_shard(lab: Lab) -> str:
    run = lab.scratch("corrupt-shard")
    run.finish()
    shard = store.read_manifest(run.data).shards[0].name
    content = bytearray((run.data / shard).read_bytes())
    content[len(content) // 2] ^= 1
    (run.data / shard).write_bytes(content)
    try:
        list(store.read_rows(run.data, ["id"]))
    except store.StoreError as error:
        if shard not in str(error):
            raise DrillFailed(f"the shard is not named: {error}") from error
    else:
        raise DrillFailed("a shard with a flipped bit was read")
    run.finish()
    aside = store.read_manifest(run.data).quarantined
    if [file.name for file in aside] != [f"quarantine/{shard}"]:
        raise DrillFailed(f"quarantined is {[file.name for file in aside]}, not {shard}")
    return f"refused by name, quarantined, made again; {run.same_as_quiet()}"


def two_drivers(lab: Lab) -> str:
    run = lab.scratch("two-drivers")
    with run.driver(pause=True) as first:
        assert first.stdout is not None
        began = time.monotonic()
        while (line := first.stdout.readline()).strip() != "held":
            if not line or time.monotonic() - began > _HANDSHAKE:
                raise DrillFailed("the first driver did not open its run")
        second = run.drive()
        if second.status != 2 or f"process {first.pid} on" not in second.output:
            raise DrillFailed(f"the second driver does not say who holds it: {second.output}")
        assert first.stdin is not None
        first.stdin.write("go on\n")
        first.stdin.flush()
        ended = wait(first)
    if ended.status != 0:
        raise DrillFailed(f"the first driver ended with {ended.status}: {ended.output}")
    return f"the second said who holds the run; the first: {run.same_as_quiet()}"
