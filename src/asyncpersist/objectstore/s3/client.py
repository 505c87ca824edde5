"""The vendor's client for S3: set up so that it sends every request once, and keeps secrets out of its log.

Needs the packages of the extra `asyncpersist[s3]`; imported only when a store is used.
"""

from __future__ import annotations

import functools
from contextlib import AsyncExitStack
from typing import Any, NoReturn

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import get_session
from botocore.exceptions import ClientError
from botocore.loaders import Loader, create_loader

from asyncpersist.errors import StateUnwritable
from asyncpersist.objectstore.s3.errors import Place, translated
from asyncpersist.objectstore.s3.logs import keep_secrets_out_of_logs
from asyncpersist.objectstore.s3.settings import AwsS3Settings, check_endpoint

__all__ = ["open_client"]

_WHAT = "the AWS client cannot be set up"
_DEFAULT_REGION = "us-east-1"
_CONNECT_SECONDS = 5
_READ_SECONDS = 30
_CONNECTIONS = 64
"""Sixteen requests at once, each of them sending four parts."""


class _SendingOnce(AIOHTTPSession):  # type: ignore[misc]
    """aiohttp sends a PUT once more, unasked, if a kept connection breaks; a create would meet its own object."""

    async def _get_session(self, proxy_url: str | None) -> aiohttp.ClientSession:
        session: aiohttp.ClientSession = await super()._get_session(proxy_url)
        session._retry_connection = False
        return session


async def open_client(settings: AwsS3Settings, place: Place, resources: AsyncExitStack) -> tuple[Any, str, str]:
    """A client for the loop that runs, closed with `resources`; and the address and region that it found.

    Raises `StateUnwritable` if there are no credentials or the AWS settings of the machine cannot be used,
    `StoreUnavailable` if whoever gives the credentials does not answer.
    """
    keep_secrets_out_of_logs()
    try:
        session = get_session()
        session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
        if settings.access_key is None and await session.get_credentials() is None:
            raise StateUnwritable(
                f"{place.name}: there are no AWS credentials. Give AwsS3Settings access_key and secret_access_key, or "
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE. An instance is not asked for its own "
                "while AWS_EC2_METADATA_DISABLED is true"
            )
        client = await resources.enter_async_context(
            session.create_client(
                "s3",
                region_name=settings.region or session.get_config_variable("region") or _DEFAULT_REGION,
                endpoint_url=settings.endpoint,
                aws_access_key_id=settings.access_key,
                aws_secret_access_key=settings.secret_access_key,
                aws_session_token=settings.session_token,
                config=_config(settings),
            )
        )
        address = check_endpoint(client.meta.endpoint_url)
    except Exception as exc:
        error = translated(exc, place, _WHAT)
        if error is None and isinstance(exc, ValueError):
            error = StateUnwritable(f"{place.name}: {_WHAT}: {exc}. Mend the AWS settings of this machine")
        if error is None:
            raise
        raise error from exc
    client.meta.events.register("before-parameter-build.s3.HeadBucket", _no_region)
    # A body that TLS protects need not be hashed for the signature.
    client.meta.config.s3["payload_signing_enabled"] = not address.startswith("https://")
    return client, address, client.meta.region_name


@functools.cache
def _loader(data_path: str | None) -> Loader:
    """Reads and keeps what describes S3: a tenth of a second, once for all clients of the process."""
    return create_loader(data_path)


def _no_region(**_: Any) -> NoReturn:
    """The client follows a redirection to another region if the answer names it.

    If not, it would ask for the bucket's head, and be redirected, and ask, without end.
    """
    raise ClientError({"Error": {}, "ResponseMetadata": {"HTTPHeaders": {}}}, "HeadBucket")


def _config(settings: AwsS3Settings) -> AioConfig:
    return AioConfig(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        max_pool_connections=_CONNECTIONS,
        retries={"total_max_attempts": 1, "mode": "standard"},
        # Stores that only speak the protocol do not all know the checksums that are sent by default.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"} if settings.with_path_style else {},
        http_session_cls=_SendingOnce,
    )
