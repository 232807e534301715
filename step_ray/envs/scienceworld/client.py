"""A small client of py4j's text protocol: one socket, one Java thread, a deadline per call.

py4j's own Python client has no deadline that leaves the other connections alone, and sends a
message for every Java object that Python forgets. Here references are forgotten by hand.

A call raises TimeoutError after its deadline and ConnectionError when the JVM is gone; either
leaves the connection unusable, for an answer may still come. :class:`JavaError` does not.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
import weakref
from dataclasses import dataclass

from step_ray.envs.base import EnvError

_REFERENCES = frozenset("rtlahg")  # object, array, list, map, set, iterator
_NOTHING = frozenset("nv")  # null, void
_ESCAPED = {"n": "\n", "r": "\r"}


class JavaError(EnvError):
    """The Java side raised."""


@dataclass(frozen=True, slots=True)
class Ref:
    """A Java object, by its name in the gateway."""

    name: str


Value = str | int | bool | float | Ref | None


class Connection:
    """One connection to a py4j gateway on this machine; for one thread at a time."""

    def __init__(self, port: int, token: str, timeout: float) -> None:
        self.timeout = timeout
        self._usable = True
        self._rest = b""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _connections.add(self)
        self._ask(f"A\n{token}\n")

    def call(self, target: Ref | str, method: str, *arguments: Value) -> Value:
        """Calls a method of an object, or a static one of the class named by ``target``."""
        name = target.name if isinstance(target, Ref) else f"z:{target}"
        return self._command(f"c\n{name}\n{method}\n", *arguments)

    def text(self, target: Ref | str, method: str, *arguments: Value) -> str:
        """As :meth:`call`, for a method that returns a string."""
        return str(self.call(target, method, *arguments))

    def ref(self, target: Ref | str, method: str, *arguments: Value) -> Ref:
        """As :meth:`call`, for a method that returns an object."""
        return _object(self.call(target, method, *arguments))

    def new(self, java_class: str, *arguments: Value) -> Ref:
        """Calls a constructor."""
        return _object(self._command(f"i\n{java_class}\n", *arguments))

    def array(self, java_class: str, *items: Value) -> Ref:
        """A new Java array of the items."""
        made = _object(self._command("a\nc\n", java_class, len(items)))
        for index, item in enumerate(items):
            self._command(f"a\ns\n{made.name}\n", index, item)
        return made

    def forget(self, *refs: Ref) -> None:
        """Lets Java's garbage collector have the objects."""
        for ref in refs:
            self._ask(f"m\nd\n{ref.name}\ne\n")

    def close(self) -> None:
        """Ends the connection; a call in another thread ends with ConnectionError."""
        self._usable = False
        with contextlib.suppress(OSError):  # the other side has gone already
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def leave(self) -> None:
        """Closes this process's end alone, in a child of a fork: the parent's goes on."""
        self._usable = False
        self._socket.close()

    def _command(self, head: str, *arguments: Value) -> Value:
        parts = "".join(f"{_encode(argument)}\n" for argument in arguments)
        answer = self._ask(f"{head}{parts}e\n")
        kind, value = answer[:1], answer[1:]
        if kind == "y":
            return _decode(value)
        raise JavaError(self._why(value))

    def _why(self, value: str) -> str:
        if value[:1] != "r":
            return _unescape(value[1:]) or "the simulator's gateway refused a call"
        error = Ref(value[1:])
        text = str(self.call(error, "toString"))
        self.forget(error)
        return text

    def _ask(self, message: str) -> str:
        if not self._usable:
            raise ConnectionError("this connection is not in use any more")
        self._usable = False
        try:
            answer = self._exchange(message)
        except (TimeoutError, ConnectionError):
            raise
        except OSError as error:  # closed meanwhile
            raise ConnectionError(str(error)) from error
        self._usable = True
        return answer.removeprefix("!")

    def _exchange(self, message: str) -> str:
        deadline = time.monotonic() + self.timeout
        self._socket.settimeout(self.timeout)
        # Lone surrogates have no UTF-8; as question marks they are one more unknown word.
        self._socket.sendall(message.encode("utf-8", "replace"))
        parts = [self._rest]
        while b"\n" not in parts[-1]:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            part = self._socket.recv(65536)
            if not part:
                raise ConnectionResetError("the simulator's process closed the connection")
            parts.append(part)
        line, _, self._rest = b"".join(parts).partition(b"\n")
        return line.decode("utf-8")


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def leave_all() -> None:
    """In the child of a fork: none of the parent's connections is the child's."""
    for connection in list(_connections):
        connection.leave()


def _object(value: Value) -> Ref:
    if not isinstance(value, Ref):
        raise JavaError(f"the simulator answered {value!r} where an object was expected")
    return value


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\r", "\\r").replace("\n", "\\n")


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: _ESCAPED.get(found[1], found[1]), text)


def _encode(value: Value) -> str:
    if value is None:
        return "n"
    if isinstance(value, bool):
        return f"b{value}".lower()
    if isinstance(value, int):
        return f"i{value}" if -(2**31) <= value < 2**31 else f"L{value}"
    if isinstance(value, float):
        return f"d{value!r}"
    if isinstance(value, Ref):
        return f"r{value.name}"
    return f"s{_escape(value)}"


def _decode(value: str) -> Value:
    kind, rest = value[:1], value[1:]
    if kind == "s":
        return _unescape(rest)
    if kind in _REFERENCES:
        return Ref(rest)
    if kind in _NOTHING:
        return None
    if kind == "b":
        return rest == "true"
    if kind in "iL":
        return int(rest)
    if kind in "dD":
        return float(rest)
    raise JavaError(f"the simulator answered something of the unknown kind {kind!r}")
