"""moto's server, answering one request at a time.

By itself it answers several at once in threads, which its store does not stand: a read beside a write of the same key
fails, and of two creations at once both can succeed, where S3 lets one win. Bodies are still taken side by side.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable
from typing import Any

import moto.server
from werkzeug.exceptions import ClientDisconnected
from werkzeug.wsgi import get_input_stream

__all__: list[str] = []

_turn = threading.Lock()


class _OneAtATime(moto.server.DomainDispatcherApplication):
    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            body = get_input_stream(environ).read()
        except ClientDisconnected as exc:
            return exc(environ, start_response)
        environ |= {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True}
        with _turn:
            return list(super().__call__(environ, start_response))


if __name__ == "__main__":
    moto.server.DomainDispatcherApplication = _OneAtATime
    moto.server.main()
