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
    alone: bool = False  # for one loan
    free: list[Slot] = field(default_factory=list)
    lent: int = 0
    stuck: int = 0

    @property
    def retired(self) -> bool:
        return self.alone or self.stuck >= _TOO_MANY_STUCK

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
        self._deaths: deque[int] = deque()  # read without the lock, which a start of Java holds
        _pools.add(self)

    def acquire(self) -> Simulator:
        """A simulator that is nobody else's until its ``release``."""
        return Simulator(self)

    def lend(self, *, alone: bool = False) -> Slot:
        """A free slot, or a new one; ``alone``: in a process that nobody shares, which ends with
        this loan. Raises EnvError when Java cannot be started."""
        with _lock:
            if self._closed:
                raise EnvError("this pool of ScienceWorld simulators is closed; make another")
            while self._orphans:
                self._return(self._orphans.popleft(), stuck=False)
            for host in () if alone else self._hosts:
                if host.free and not host.retired:
                    host.lent += 1
                    return host.free.pop()
            return self._new_slot(alone)

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
                self._bury(host)

    def close(self) -> None:
        """Ends all Java processes and the pool; simulators still lent fail at their next call."""
        with _lock:
            self._closed = True
            for host in self._hosts:
                host.jvm.leave()  # all at once, then wait for each
            for host in self._hosts:
                host.jvm.end()
            self._hosts.clear()

    def deaths(self) -> int:
        """How many Java processes were found dead since it was asked the last time."""
        return sum(self._deaths.popleft() for _ in range(len(self._deaths)))

    @property
    def processes(self) -> list[int]:
        """Process ids of the Java processes."""
        with _lock:
            return [host.jvm.process.pid for host in self._hosts]

    def _bury(self, host: _Host) -> None:
        self._hosts.remove(host)
        self._deaths.append(1)
        host.jvm.end(0.0)

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

    def _new_slot(self, alone: bool) -> Slot:
        try:
            try:
                return self._slot_of(self._host(alone))
            except ConnectionError:  # somebody else's doing ended that process meanwhile
                return self._slot_of(self._host(alone))
        except (OSError, JavaError) as error:
            raise EnvError(f"a ScienceWorld simulator could not be made: {error}") from error

    def _host(self, alone: bool) -> _Host:
        for dead in [host for host in self._hosts if not host.jvm.alive]:
            self._bury(dead)
        with_room = (host for host in self._hosts if host.room(self.slots_per_jvm))
        host = None if alone else next(with_room, None)
        if host is None:
            host = _Host(Jvm(1 if alone else self.slots_per_jvm, self.timeout), alone)
            self._hosts.append(host)
        return host

    def _slot_of(self, host: _Host) -> Slot:
        try:
            slot = host.jvm.new_slot()
        except ConnectionError:
            self._bury(host)
            raise
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
