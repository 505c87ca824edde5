"""Where in Azure Blob Storage a store lies, checked before anything is sent."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

__all__ = ["AzurePlace"]

_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_CONTAINER = re.compile(r"(?=.{3,63}\Z)[a-z0-9]+(-[a-z0-9]+)*")
_ROOM_FOR_KEYS = 512
"""Names of blobs have up to 1024 characters; those of the root leave this many to the keys below it."""


@dataclass(frozen=True, slots=True)
class AzurePlace:
    """An account, a container in it, the prefix of all names (empty, or ending in `/`), and who is let in.

    `key` None: whoever azure-identity finds.
    """

    account: str
    container: str
    prefix: str
    endpoint: str
    key: str | None = field(repr=False)

    @classmethod
    def of(cls, account: str, container: str, root_path: str, key: str | None, endpoint: str | None) -> Self:
        """Raises `ValueError` where a part cannot be one; no message holds the key."""
        if not _ACCOUNT.fullmatch(account):
            raise ValueError(f"{account!r} is no Azure storage account: 3 to 24 lower-case letters and digits")
        if not _CONTAINER.fullmatch(container):
            raise ValueError(
                f"{container!r} is no Azure container: 3 to 63 lower-case letters, digits and hyphens between them"
            )
        address = f"https://{account}.blob.core.windows.net" if endpoint is None else _address(endpoint, account)
        if key is None and not address.startswith("https://"):
            raise ValueError(
                f"{address}: without a key the endpoint must be https://; tokens are not sent in the clear"
            )
        return cls(account, container, _prefix(root_path), address, None if key is None else _checked_key(key))

    @property
    def name(self) -> str:
        return f"az://{self.container}/{self.prefix}".rstrip("/")


def _prefix(root_path: str) -> str:
    path = root_path.strip("/")
    if not path:
        return ""
    if any(name.strip(".") == "" or name.endswith(".") for name in path.split("/")):
        raise ValueError(f"{root_path!r} is no root path: a name in it is empty or ends with a dot")
    if "\\" in path or not path.isprintable() or len(path) > _ROOM_FOR_KEYS:
        raise ValueError(
            f"{root_path!r} is no root path: up to {_ROOM_FOR_KEYS} characters that can be printed, no backslash"
        )
    return f"{path}/"


def _address(endpoint: str, account: str) -> str:
    # Not shown before it is known that it holds no secret.
    parts = urlsplit(endpoint.strip())
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(
            "the Azure endpoint has a query, a fragment or a user in it. Give its address alone, and the key as key"
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{endpoint!r} is no Azure endpoint: http:// or https://, a host, perhaps a port and a path")
    path = parts.path.strip("/")
    if not path and _has_no_room_for_the_account(parts.hostname):
        path = account
    return f"{parts.scheme}://{parts.netloc}/{path}".rstrip("/")


def _has_no_room_for_the_account(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def _checked_key(key: str) -> str:
    key = key.strip()
    try:
        decoded = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if not decoded:
        raise ValueError(
            "the key of the Azure account is not in base64. Copy one of the two account keys; a shared access "
            "signature or a connection string is none"
        )
    return key
