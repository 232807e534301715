"""Simulators for this process, in as few Java processes as needed, used again and again.

A new slot costs half a second and its first steps are slow, for Java compiles each one's classes
anew; loading another task into an old slot takes 50 ms. So slots are lent, never discarded, but
for those that got stuck: a Java thread cannot be killed, so a process with several stuck ones
takes no new work and ends with its last loan.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections import deque
from dataclasses import dataclass, field

from step_ray.envs.base import EnvError
from step_ray.envs.scienceworld.client import JavaError, leave_all
from step_ray.envs.scienceworld.jvm import Jvm, Slot
from step_ray.envs.scienceworld.simulator import Simulator

_TOO_MANY_STUCK = 3
_lock = threading.Lock()  # of all pools: Java processes are started one at a time


@dataclass(eq=False, slots=True)
class _Host:
    jvm: Jvm
    free: list[Slot] = field(default_factory=list)
    lent: int = 0
    stuck: int = 0

    @property
    def retired(self) -> bool:
        return self.stuck >= _TOO_MANY_STUCK

    def room(self, slots: int) -> bool:
        return not self.retired and self.lent + len(self.free) < slots


class SimulatorPool:
    """Lends simulators; starts a Java process when those it has are full. Thread-safe.

    ``slots_per_jvm``: simulators per Java process. ``timeout``: seconds that one call of a
    simulator may take. In a forked child the pool starts empty.
    """

    def __init__(self, slots_per_jvm: int = 8, timeout: float = 60.0) -> None:
        if slots_per_jvm < 1 or timeout <= 0:
            raise EnvError(
                f"slots_per_jvm={slots_per_jvm} and timeout={timeout} must be positive numbers"
            )
        self.slots_per_jvm = slots_per_jvm
        self.timeout = timeout
        self._hosts: list[_Host] = []
        self._orphans: deque[Slot] = deque()
        self._closed = False
        _pools.add(self)

    def acquire(self) -> Simulator:
        """A simulator that is nobody else's until its ``release``."""
        return Simulator(self)

    def lend(self) -> Slot:
        """A free slot, or a new one. Raises EnvError when Java cannot be started."""
        with _lock:
            if self._closed:
                raise EnvError("this pool of ScienceWorld simulators is closed; make another")
            while self._orphans:
                self._return(self._orphans.popleft(), stuck=False)
            for host in self._hosts:
                if host.free and not host.retired:
                    host.lent += 1
                    return host.free.pop()
            return self._new_slot()

    def take_back(self, slot: Slot, *, stuck: bool = False) -> None:
        """The slot is free again; ``stuck``: no, it still works on a call."""
        with _lock:
            self._return(slot, stuck)

    def abandon(self, slot: Slot) -> None:
        """As :meth:`take_back`, a little later and without the lock: for finalizers."""
        self._orphans.append(slot)

    def lost(self, slot: Slot) -> None:
        """The slot's connection broke: its Java process is given up, with all its slots."""
        with _lock:
            slot.connection.close()
            if host := self._host_of(slot):
                self._hosts.remove(host)
                host.jvm.end(0.0)

    def close(self) -> None:
        """Ends all Java processes and the pool; simulators still lent fail at their next call."""
        with _lock:
            self._closed = True
            for host in self._hosts:
                host.jvm.leave()  # all at once, then wait for each
            for host in self._hosts:
                host.jvm.end()
            self._hosts.clear()

    @property
    def processes(self) -> list[int]:
        """Process ids of the Java processes."""
        with _lock:
            return [host.jvm.process.pid for host in self._hosts]

    def _host_of(self, slot: Slot) -> _Host | None:
        return next((host for host in self._hosts if host.jvm is slot.jvm), None)

    def _return(self, slot: Slot, stuck: bool) -> None:
        host = self._host_of(slot)
        if host is None:
            slot.connection.close()
            return
        host.lent -= 1
        if stuck:
            host.stuck += 1
            slot.connection.close()
        else:
            host.free.append(slot)
        if host.retired and not host.lent:
            self._hosts.remove(host)
            host.jvm.end()

    def _new_slot(self) -> Slot:
        self._hosts = [host for host in self._hosts if host.jvm.alive]
        host = next((host for host in self._hosts if host.room(self.slots_per_jvm)), None)
        if host is None:
            host = _Host(Jvm(self.slots_per_jvm, self.timeout))
            self._hosts.append(host)
        try:
            slot = host.jvm.new_slot()
        except (OSError, JavaError) as error:
            raise EnvError(f"a ScienceWorld simulator could not be made: {error}") from error
        host.lent += 1
        return slot

    def _forget(self) -> None:
        """In the child of a fork: the processes are the parent's."""
        for host in self._hosts:
            host.jvm.leave()
        self._hosts = []
        self._orphans.clear()


_pools: weakref.WeakSet[SimulatorPool] = weakref.WeakSet()
_shared: dict[tuple[int, float], SimulatorPool] = {}


def pool(slots_per_jvm: int = 8, timeout: float = 60.0) -> SimulatorPool:
    """The pool that all of this process shares, one for each setting."""
    with _lock:
        key = (slots_per_jvm, timeout)
        if key not in _shared or _shared[key]._closed:
            _shared[key] = SimulatorPool(slots_per_jvm, timeout)
        return _shared[key]


@atexit.register
def _close_all() -> None:
    for each in list(_pools):
        each.close()


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # perhaps a thread of the parent held it
    leave_all()
    for each in list(_pools):
        each._forget()


os.register_at_fork(after_in_child=_after_fork)
