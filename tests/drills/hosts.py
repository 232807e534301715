"""Hosts of their own on one machine: network namespaces, joined by a switch that can be unplugged.

Needs root and iproute2's ``ip``. Nothing of the machine's own network is touched: the switch has a
namespace too.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from types import TracebackType

_SWITCH = "switch"


def possible() -> bool:
    """Whether this process may make network namespaces joined by a bridge."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        return False
    try:
        with Hosts(["probe"]) as hosts:
            return hosts.run("probe", ["ip", "route"]).returncode == 0
    except subprocess.CalledProcessError:
        return False


class Hosts:
    """Namespaces with an address each, that reach each other and nothing else."""

    def __init__(self, names: Sequence[str]) -> None:
        self._key = f"step-ray-{secrets.token_hex(3)}"
        self.addresses = {name: f"10.231.7.{number}" for number, name in enumerate(names, 1)}

    def __enter__(self) -> Hosts:
        self._namespace(_SWITCH)
        self._ip(_SWITCH, "link add bridge type bridge")
        self._ip(_SWITCH, "addr add 10.231.7.254/24 dev bridge")
        self._ip(_SWITCH, "link set bridge up")
        for name, address in self.addresses.items():
            self._namespace(name)
            self._ip(_SWITCH, f"link add {name} type veth peer name eth0 netns {self._full(name)}")
            self._ip(_SWITCH, f"link set {name} master bridge up")
            self._ip(name, f"addr add {address}/24 dev eth0")
            self._ip(name, "link set eth0 up")
            self._ip(name, "route add default via 10.231.7.254")  # so that it knows its address
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for name in (*self.addresses, _SWITCH):
            subprocess.run(["ip", "netns", "delete", self._full(name)], check=False)

    def command(self, name: str, command: Sequence[str]) -> list[str]:
        """What runs ``command`` on a host."""
        return ["ip", "netns", "exec", self._full(name), *command]

    def run(
        self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(name, command), env=env, capture_output=True, text=True, check=False
        )

    def unplug(self, name: str) -> None:
        """Nothing gets to the host or from it any more; both sides wait for each other."""
        self._ip(_SWITCH, f"link set {name} down")

    def plug(self, name: str) -> None:
        self._ip(_SWITCH, f"link set {name} up")

    def _namespace(self, name: str) -> None:
        subprocess.run(["ip", "netns", "add", self._full(name)], check=True)
        self._ip(name, "link set lo up")

    def _ip(self, name: str, arguments: str) -> None:
        subprocess.run(["ip", "-n", self._full(name), *arguments.split()], check=True)

    def _full(self, name: str) -> str:
        return f"{self._key}-{name}"
