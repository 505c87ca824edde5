"""A server of somebody else's as a process beside the tests."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

__all__ = ["ServerProcess"]

START_SECONDS = 60.0
"""How long a server may take before it answers: a wide bound for a busy machine, never waited for in vain."""

REQUEST_SECONDS = 20.0
"""How long one request of a fixture may take."""

_ROOT = Path(__file__).parents[2]
_TIED = str(Path(__file__).with_name("tied.py"))


class ServerProcess:
    """A server on a free port of 127.0.0.1; it dies with the thread that started it, at the latest.

    `command` gives the command line for a port, 0 meaning any; the server then prints the port it took, as the first
    group of `announced`. After `kill` it can be started again, on the same port. `certificate`: the authority that
    signed the server's, for one that speaks HTTPS.
    """

    def __init__(
        self, name: str, command: Callable[[int], Sequence[str]], announced: str, *, certificate: Path | None = None
    ) -> None:
        self.name = name
        self.port = 0
        self._command = command
        self._announced = re.compile(announced)
        self._context = None if certificate is None else ssl.create_default_context(cafile=str(certificate))
        self._process: subprocess.Popen[bytes] | None = None
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `stop`)

    @property
    def url(self) -> str:
        return f"{'http' if self._context is None else 'https'}://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when the server answers. Raises `RuntimeError` with what it printed if it does not."""
        assert self._process is None, f"{self.name} runs already"
        self._output.truncate(0)
        self._output.seek(0)
        command = list(self._command(self.port))
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", _TIED, str(os.getpid()), *command],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # An interrupt from the keyboard is for the tests, which stop it themselves.
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            code = self._process.poll()
            if code is not None or time.monotonic() > deadline:
                what = f"did not answer within {START_SECONDS:g} s" if code is None else f"ended with code {code}"
                raise RuntimeError(f"{self.name} {what}: {' '.join(command)}\nIt printed:\n{self.output()}")
            time.sleep(0.02)

    def kill(self) -> None:
        """Ends the server at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Connections are still taken and nothing is answered, until `resume`."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """Ends the server for good."""
        self.kill()
        self._output.close()

    def request(self, method: str, path: str) -> int:
        """Sends a request without a body and returns the status of the answer."""
        with contextlib.closing(self._connection()) as connection:
            connection.request(method, path)
            return connection.getresponse().status

    def output(self) -> str:
        """The end of what the server printed since it was started."""
        size = os.fstat(self._output.fileno()).st_size
        # Not `seek`: the server writes through the same position.
        return os.pread(self._output.fileno(), 20_000, max(size - 20_000, 0)).decode(errors="replace")

    def _connection(self) -> http.client.HTTPConnection:
        if self._context is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=REQUEST_SECONDS)
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=REQUEST_SECONDS, context=self._context)

    def _answers(self) -> bool:
        found = self._announced.search(self.output())
        if found is None:
            return False
        self.port = int(found[1])
        try:
            self.request("GET", "/")
        except (TimeoutError, http.client.HTTPException, ConnectionError):
            return False
        return True
