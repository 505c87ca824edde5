"""STATE on the command line: a directory, `s3://bucket/prefix` or `az://container/prefix`.

Who may write there is the environment's matter, in the names of the vendors' own tools; nothing secret is an argument.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from asyncpersist.disk import Disk
from asyncpersist.errors import StateError, Unsupported
from asyncpersist.io.s3 import AwsS3Settings
from asyncpersist.objectstore.contract import ObjectStore
from asyncpersist.persistence import Backend

__all__ = ["backend_of", "open_state"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_S3_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"


def backend_of(text: str, *, single_writer: bool = False) -> Backend:
    """The backend that `text` names; nothing is opened or asked.

    S3: credentials, region and endpoint are found as the AWS tools find them (`AWS_ACCESS_KEY_ID`, `AWS_PROFILE`,
    `AWS_ENDPOINT_URL` and so on). Azure: `AZURE_STORAGE_ACCOUNT`; `AZURE_STORAGE_KEY`, without which the Azure chain of
    credentials applies; `AZURE_STORAGE_SERVICE_ENDPOINT` for a service elsewhere; or
    `AZURE_STORAGE_CONNECTION_STRING` with all of these.

    Raises `Unsupported` for another scheme, `StateError` for a place that cannot be, or an account that is not known.
    """
    match = _SCHEME.match(text)
    scheme = match[1].lower() if match else ""
    rest = text[match.end() :] if match else text
    try:
        if not scheme:
            return Backend.filesystem(text)
        if scheme == "s3":
            return _s3(text, rest, single_writer)
        if scheme == "az":
            return _azure(text, rest, single_writer)
    except ValueError as exc:
        raise StateError(f"{text!r} cannot be a state: {exc}") from exc
    raise Unsupported(
        f"{text}: states under {scheme}:// are not built; name a directory, s3://bucket/prefix or az://container/prefix"
    )


@asynccontextmanager
async def open_state(state: str) -> AsyncIterator[ObjectStore]:
    """The store that STATE names on the command line. Raises as `backend_of` does."""
    store = backend_of(state).open_store(Disk())
    try:
        yield store
    finally:
        await store.aclose()


def _s3(text: str, rest: str, single_writer: bool) -> Backend:
    bucket, _, prefix = rest.partition("/")
    settings = AwsS3Settings(bucket_name=bucket, with_path_style=_hosts_no_buckets(os.environ))
    return Backend.s3(prefix, settings, single_writer=single_writer)


def _hosts_no_buckets(environment: Mapping[str, str]) -> bool:
    """Whether the endpoint is an address or a short name, below which there are no names of buckets."""
    endpoint = next((environment[name] for name in _S3_ENDPOINTS if environment.get(name)), "")
    host = urlsplit(endpoint).hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return bool(host) and "." not in host
    return True


def _azure(text: str, rest: str, single_writer: bool) -> Backend:
    container, _, prefix = rest.partition("/")
    account, key, endpoint = _azure_account(os.environ)
    if not account:
        raise StateError(
            f"{text}: which Azure storage account is not said. Set AZURE_STORAGE_ACCOUNT and, unless the Azure chain "
            f"of credentials applies, AZURE_STORAGE_KEY; or {_CONNECTION}. AZURE_STORAGE_SERVICE_ENDPOINT is for a "
            "service that is not at https://ACCOUNT.blob.core.windows.net."
        )
    return Backend.azure(prefix, account, key, container, endpoint=endpoint, single_writer=single_writer)


def _azure_account(environment: Mapping[str, str]) -> tuple[str | None, str | None, str | None]:
    """Account, key and endpoint; None for what is not said. Variables of their own go before the connection string."""
    said = _connection(environment.get(_CONNECTION, ""))
    endpoint = said.get("blobendpoint")
    if endpoint is None and "endpointsuffix" in said and "accountname" in said:
        protocol = said.get("defaultendpointsprotocol", "https")
        endpoint = f"{protocol}://{said['accountname']}.blob.{said['endpointsuffix']}"
    return (
        environment.get("AZURE_STORAGE_ACCOUNT") or said.get("accountname"),
        environment.get("AZURE_STORAGE_KEY") or said.get("accountkey"),
        environment.get("AZURE_STORAGE_SERVICE_ENDPOINT") or endpoint,
    )


def _connection(text: str) -> dict[str, str]:
    """The parts of a connection string, their names in lower case. Raises `ValueError`, which does not hold the key."""
    if not text.strip():
        return {}
    parts = [part.partition("=") for part in text.strip().strip(";").split(";")]
    said = {name.strip().lower(): value.strip() for name, _, value in parts}
    if "accountname" not in said or "accountkey" not in said:
        raise ValueError(f"{_CONNECTION} has to hold AccountName=...;AccountKey=...; other kinds are not supported")
    return said
