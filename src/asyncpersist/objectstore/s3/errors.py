"""What S3 and its client say, in the errors of the contract: one clear message each, without secrets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from asyncpersist.errors import AsyncPersistError, StateUnwritable, StoreUnavailable
from asyncpersist.objectstore.contract import KeyExists, KeyMissing, OutcomeUnknown, Throttled

__all__ = ["Intent", "Place", "refusal", "translated"]


class Intent(Enum):
    """What a request was to do, which decides what a lost answer means.

    `PREPARE` changes nothing that a reader can see.
    """

    READ = "read"
    LIST = "list"
    PREPARE = "prepare"
    WRITE = "write"
    CREATE = "create"


@dataclass(frozen=True, slots=True)
class Place:
    """What messages say of a bucket, and the secrets that they must not hold.

    `own_keys`: the credentials were given with the settings; otherwise AWS's chain found them and may find newer ones.
    """

    name: str
    bucket: str
    endpoint: str
    region: str
    own_keys: bool
    secrets: tuple[str, ...] = field(repr=False)

    def without_secrets(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


_THROTTLED = {"RequestLimitExceeded", "SlowDown"}
"""Besides those that start with `Throttling`. Any other 503 may come from a proxy, after the store did what was asked;
or, as SlowDownWrite, from a store that did it in part.
"""

_FAILED = {"InternalError", "RequestTimeout", "ServiceUnavailable"}
"""What also comes without a status of its own, in the answer to a deletion or to the end of an upload."""

_WRONG_REGION = "the bucket {bucket} is not in the region {region}. Give the region in which it is"

_NEVER = {
    "AccessDenied": "the store denies it to these credentials. They need s3:ListBucket on the bucket {bucket}, and "
    "s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload on what lies below {name}",
    "AuthorizationHeaderMalformed": _WRONG_REGION,
    "IllegalLocationConstraintException": _WRONG_REGION,
    "InvalidAccessKeyId": "the store at {endpoint} does not know the access key. Mend access_key, or the endpoint if "
    "the key is another store's",
    "NoSuchBucket": "there is no bucket {bucket} at {endpoint}. Make it, or mend its name, the region or the endpoint",
    "PermanentRedirect": _WRONG_REGION,
    "SignatureDoesNotMatch": "the secret access key does not go with the access key. Mend secret_access_key",
}

_FOR_NOW = {
    "BadDigest": "the data was altered on its way",
    "ConditionalRequestConflict": "somebody else wrote it at the same moment",
    "IncompleteBody": "the data was cut on its way",
    "NoSuchUpload": "the upload in parts was removed meanwhile",
    "OperationAborted": "somebody else changed it at the same moment",
    "RequestTimeTooSkewed": "this machine's clock is too far from the store's. Set the clock",
    "TemporaryRedirect": "the bucket {bucket} is being moved; the store answers elsewhere for now",
    "XAmzContentSHA256Mismatch": "the data was altered on its way",
}

_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"}


def translated(exc: Exception, place: Place, what: str, intent: Intent = Intent.READ) -> AsyncPersistError | None:
    """The error to raise from `exc`; None if it is none of the vendor's. Takes the secrets out of the texts of `exc`.

    `what` says what did not happen, as in "a/1 cannot be read".
    """
    import aiohttp
    from botocore import exceptions as vendor
    from botocore.parsers import ResponseParserError

    if isinstance(exc, AsyncPersistError):
        return None
    _hide(exc, place)
    if isinstance(exc, vendor.ClientError):
        return refusal(exc.response, place, what, intent)
    inner = exc.kwargs.get("error") if isinstance(exc, vendor.BotoCoreError) else None
    if isinstance(exc, vendor.SSLError) and isinstance(inner, aiohttp.ClientConnectorCertificateError):
        return StateUnwritable(
            f"{place.name}: {what}: the certificate of {place.endpoint} is not trusted: {inner.certificate_error}. "
            "Name a file with the authority that signed it in AWS_CA_BUNDLE, or mend the endpoint"
        )
    unreached = isinstance(exc, vendor.ConnectTimeoutError | vendor.ProxyConnectionError | vendor.SSLError)
    if unreached or isinstance(inner, aiohttp.ClientConnectorError):
        return StoreUnavailable(f"{place.name}: {what}: {place.endpoint} cannot be reached: {inner}")
    if isinstance(exc, ResponseParserError):
        return _lost(place, what, f"what answers at {place.endpoint} does not speak S3. Is the endpoint right?", intent)
    if isinstance(exc, TimeoutError | vendor.ReadTimeoutError):
        return _lost(place, what, f"{place.endpoint} did not answer in time", intent)
    if isinstance(exc, _misconfigured()):
        return StateUnwritable(f"{place.name}: {what}: {exc}. Mend the AWS settings of this machine or AwsS3Settings")
    if isinstance(exc, vendor.BotoCoreError | aiohttp.ClientError | OSError):
        return _lost(place, what, str(inner or exc) or type(exc).__name__, intent)
    return None


def refusal(response: Mapping[str, Any], place: Place, what: str, intent: Intent) -> AsyncPersistError:
    """The error for an answer of S3 that holds `Error` and, where the vendor gives it, `ResponseMetadata`."""
    code, text = (str(response["Error"].get(name, "")) for name in ("Code", "Message"))
    metadata = response.get("ResponseMetadata", {})
    status = metadata.get("HTTPStatusCode", 0)
    where = f"{place.name}: {what}"
    said = place.without_secrets(" ".join(f"({code}: {text})".split())[:500])
    values = {"name": place.name, "bucket": place.bucket, "endpoint": place.endpoint, "region": place.region}
    if code == "NoSuchKey" and intent is Intent.READ:
        return KeyMissing(f"{where}: there is no such object")
    if code == "NoSuchKey" and intent is Intent.LIST:
        return StateUnwritable(
            f"{where}: what answers at {place.endpoint} knows no such list. Mend the endpoint, which has no bucket "
            f"in it {said}"
        )
    if status == 412 and intent is Intent.CREATE:
        return KeyExists(f"{where}: it exists")
    if intent is Intent.CREATE and (status == 501 or code == "NotImplemented"):
        return StateUnwritable(
            f"{where}: the store has no create-if-absent, without which two runs could destroy each other's state. "
            f"Use a store that has it {said}"
        )
    if status == 429 or code in _THROTTLED or code.startswith("Throttling"):
        return Throttled(f"{where}: the store asks for fewer requests {said}", _retry_after(metadata))
    if code in _EXPIRED and not place.own_keys:
        return StoreUnavailable(f"{where}: the credentials that AWS's chain found have expired. Renew them {said}")
    if code in _EXPIRED:
        return StateUnwritable(
            f"{where}: the session token has expired or is wrong. Start again with newer credentials {said}"
        )
    if code in _NEVER:
        return StateUnwritable(f"{where}: {_NEVER[code].format(**values)} {said}")
    if code in _FOR_NOW or status == 409:
        return StoreUnavailable(
            f"{where}: {_FOR_NOW.get(code, 'it conflicts with something else').format(**values)} {said}"
        )
    if (status >= 500 and status != 501) or status == 408 or code in _FAILED:
        return _lost(place, what, f"the store failed {said}", intent)
    return StateUnwritable(f"{where}: the store refused it {said}")


def _misconfigured() -> tuple[type[Exception], ...]:
    from botocore import exceptions as vendor

    return (
        vendor.ConfigNotFound,
        vendor.ConfigParseError,
        vendor.EndpointProviderError,
        vendor.InvalidConfigError,
        vendor.InvalidRegionError,
        vendor.MissingDependencyException,
        vendor.NoCredentialsError,
        vendor.ParamValidationError,
        vendor.PartialCredentialsError,
        vendor.ProfileNotFound,
        vendor.UnknownCredentialError,
    )


def _lost(place: Place, what: str, why: str, intent: Intent) -> StoreUnavailable:
    if intent in (Intent.READ, Intent.LIST, Intent.PREPARE):
        return StoreUnavailable(f"{place.name}: {what}: {why}")
    return OutcomeUnknown(f"{place.name}: {what}, or may have been done all the same: {why}")


def _retry_after(metadata: Mapping[str, Any]) -> float | None:
    """Seconds; None if the answer gives none, or a date."""
    try:
        seconds = float(metadata.get("HTTPHeaders", {}).get("retry-after", ""))
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _hide(exc: BaseException | None, place: Place) -> None:
    """Takes the secrets out of what `exc` and those behind it say."""
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        if place.without_secrets(str(exc)) != str(exc):
            exc.args = (place.without_secrets(str(exc)),)
        exc = exc.__cause__ or exc.__context__
