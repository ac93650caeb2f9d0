"""Real servers for tests, and what may befall them: killed, frozen, wiped, cut off.

Each runs in a folder of the test, on a port that was free, and ends with its `with` block:

    with EtcdServer(tmp_path) as etcd:
        etcd.kill()
        etcd.start()

The programs have to be installed: `etcd`, `nats-server`, `redis-server`. All methods block.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

_PATIENCE = 20.0
_LOOK = 0.01


class NotInstalled(RuntimeError):
    """The program of a server is not on this machine."""


class FaultyServer:
    """A server that can be killed, frozen and wiped, and comes back on the same port.

    Attributes:
        program: What it runs.
        port: Where it listens, on 127.0.0.1.
        folder: Where it keeps its data.
    """

    program = ""

    def __init__(self, folder: str | os.PathLike[str], *, port: int | None = None, program: str | None = None) -> None:
        self.folder = Path(folder)
        self.port = port or free_port()
        self._program = program or shutil.which(self.program) or shutil.which(self.program, path="/usr/sbin")
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen = False
        if self._program is None:
            raise NotInstalled(f"{self.program} is not installed")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def address(self) -> str:
        """`127.0.0.1:PORT`."""
        return f"127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        """Return the arguments of the program."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it, and return when it accepts connections. Raises TimeoutError with its last words."""
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / "log.txt"
        with log.open("ab") as output:
            command = [str(self._program), *self.command()]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)  # noqa: S603
        deadline = time.monotonic() + _PATIENCE
        while not self._is_ready():
            if time.monotonic() > deadline or self._process.poll() is not None:
                self.kill()
                raise TimeoutError(f"{self.program} did not start: {log.read_text('utf-8', 'replace')[-2000:]}")
            time.sleep(_LOOK)

    def kill(self) -> None:
        """End it at once, as a crash does. What it has written stays."""
        if self._process is not None:
            self._process.kill()  # a frozen process too
            self._process.wait()
            self._process, self._frozen = None, False

    def freeze(self) -> None:
        """Stop its process, so that its connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen one go on."""
        self._signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Kill it, delete its data and start it again: revisions begin anew."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.start()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise RuntimeError(f"{self.program} does not run")
        self._process.send_signal(number)

    def _is_ready(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class EtcdServer(FaultyServer):
    """One member of etcd.

    Args:
        options: Further options of the program.
    """

    program = "etcd"

    def __init__(self, folder: str | os.PathLike[str], *options: str, **others: Any) -> None:
        super().__init__(folder, **others)
        self._options = options
        self._peer = free_port()

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://{self.address}"

    def command(self) -> Sequence[str]:
        """Return the arguments of the program."""
        client, peer = self.url, f"http://127.0.0.1:{self._peer}"
        return [
            *("--data-dir", str(self.folder / "data"), "--listen-client-urls", client),
            *("--advertise-client-urls", client, "--listen-peer-urls", peer),
            *("--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"),
            *self._options,
        ]

    def _is_ready(self) -> bool:
        from urllib.request import Request, urlopen

        request = Request(f"{self.url}/v3/maintenance/status", b"{}")  # noqa: S310 - it is http
        try:
            with urlopen(request, timeout=1) as response:  # noqa: S310
                return b'"leader"' in response.read()
        except OSError:
            return False


class NatsServer(FaultyServer):
    """A server of NATS with JetStream.

    Args:
        options: Further options of the program.
    """

    program = "nats-server"

    def __init__(self, folder: str | os.PathLike[str], *options: str, **others: Any) -> None:
        super().__init__(folder, **others)
        self._options = options

    @property
    def url(self) -> str:
        """The server's URL."""
        return f"nats://{self.address}"

    def command(self) -> Sequence[str]:
        """Return the arguments of the program."""
        return ["-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self.folder / "data"), *self._options]


class RedisServer(FaultyServer):
    """A server of Redis that keeps every write.

    Args:
        options: Further options of the program.
    """

    program = "redis-server"

    def __init__(self, folder: str | os.PathLike[str], *options: str, **others: Any) -> None:
        super().__init__(folder, **others)
        self._options = options

    @property
    def url(self) -> str:
        """The server's URL."""
        return f"redis://{self.address}"

    def command(self) -> Sequence[str]:
        """Return the arguments of the program."""
        place = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder))
        return [*place, "--appendonly", "yes", "--appendfsync", "always", "--save", "", *self._options]


class Link:
    """A connection to a server that can be cut: a proxy on a port of its own, in a thread.

    While it is `cut`, connections that are open pass nothing and stay open, and new ones are accepted and pass nothing,
    as behind a firewall that drops packets.

    Attributes:
        port: Where it listens, on 127.0.0.1.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []
        self._passes = threading.Event()
        self._passes.set()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.close()
        self._passes.set()
        self.drop()

    def cut(self) -> None:
        """Pass nothing from now on."""
        self._passes.clear()

    def mend(self) -> None:
        """Pass everything again, also what came meanwhile."""
        self._passes.set()

    def drop(self) -> None:
        """Reset the connections that are open."""
        opened, self._open = self._open, []
        for each in opened:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._to), timeout=_PATIENCE)
                except OSError:
                    near.close()
                    continue
                far.settimeout(None)
                self._open += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._passes.wait()
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free by now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
