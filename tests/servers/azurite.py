"""Azure Blob Storage, as Azurite plays it."""

from __future__ import annotations

import itertools
from pathlib import Path

from tests.servers.node import node_command
from tests.servers.process import REQUEST_SECONDS, ServerProcess

__all__ = ["ACCOUNT", "KEY", "Azurite"]

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Of every emulator, as its documentation gives it: no secret."""

KEEP_ALIVE_SECONDS = 60
"""Longer than any client keeps a connection that it does not use. Azurite's own 5 seconds end some just as they are."""


class Azurite(ServerProcess):
    """One account with a well-known key. With `folder`, what it holds is kept there and survives `kill`.

    With `certificate` and `key`, files, it speaks HTTPS; `authority` is what signed the certificate.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        certificate: Path | None = None,
        key: Path | None = None,
        authority: Path | None = None,
    ) -> None:
        start = node_command("azurite/dist/src/blob/main.js")
        place = ("--inMemoryPersistence",) if folder is None else ("--location", str(folder))
        tls = () if certificate is None else ("--cert", str(certificate), "--key", str(key))
        super().__init__(
            "Azurite",
            lambda port: (
                *start,
                *("--blobHost", "127.0.0.1", "--blobPort", str(port)),
                *("--silent", "--disableTelemetry", "--skipApiVersionCheck"),
                *("--blobKeepAliveTimeout", str(KEEP_ALIVE_SECONDS)),
                *place,
                *tls,
            ),
            r"listens on https?://127\.0\.0\.1:(\d+)",
            certificate=authority,
        )
        self._authority = authority
        self._numbers = itertools.count(1)

    @property
    def endpoint(self) -> str:
        """The account's endpoint."""
        return f"{self.url}/{ACCOUNT}"

    def new_container(self) -> str:
        """The name of a container made just now."""
        from azure.storage.blob import ContainerClient

        name = f"container-{next(self._numbers)}"
        with ContainerClient(
            self.endpoint,
            name,
            credential=KEY,
            connection_verify=True if self._authority is None else str(self._authority),
            connection_timeout=REQUEST_SECONDS,
            read_timeout=REQUEST_SECONDS,
            retry_total=0,
        ) as client:
            client.create_container()
        return name
