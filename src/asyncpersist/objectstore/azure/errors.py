"""What the vendor's errors mean.

Needs the packages of the extra `asyncpersist[azure]`; imported only when a store is used.
"""

from __future__ import annotations

import aiohttp
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError

from asyncpersist.errors import AsyncPersistError, StateUnwritable, StoreUnavailable
from asyncpersist.objectstore.azure.place import AzurePlace
from asyncpersist.objectstore.contract import OutcomeUnknown, Throttled

__all__ = ["VENDOR_ERRORS", "code_of", "status_of", "translated"]

VENDOR_ERRORS = (AzureError, aiohttp.ClientError, OSError, ValueError)
"""All that the client raises; `ValueError` where an answer makes no sense to it."""

_NEVER_ENTERED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)

_NEVER = {
    "AccountIsDisabled": "the account {account} is disabled. Enable it, or name another",
    "AuthenticationFailed": (
        "the account {account} refuses {who}. Check that it is the right one, and that this machine's clock is right"
    ),
    "AuthorizationFailure": (
        "the account {account} refuses {who}. Check that it is the right one, what it may do, and who the account's "
        "network rules let in"
    ),
    "AuthorizationPermissionMismatch": (
        "the account {account} does not allow that to {who}. Needed on the container {container} is the role "
        "Storage Blob Data Contributor"
    ),
    "BlobArchived": "it is in the archive tier. Rehydrate it, and keep the container out of rules that archive",
    "BlobImmutableDueToLegalHold": "it is under a legal hold. Use a container without one",
    "BlobImmutableDueToPolicy": "it is protected by an immutability policy. Use a container without one",
    "ContainerBeingDeleted": "the container {container} is being deleted. Name another, or create it later",
    "ContainerDisabled": "the container {container} is disabled",
    "ContainerNotFound": "the account {account} has no container {container}. Create it, or name another",
    "InvalidResourceName": "{endpoint} does not take the name. Check the account, the container and the root path",
    "KeyBasedAuthenticationNotPermitted": (
        "the account {account} does not allow account keys. Leave the key out, so that azure-identity finds credentials"
    ),
    "LeaseIdMissing": "it is leased by somebody else. Break the lease, or use another root path",
}
"""What will not work however often it is tried, and what to do."""

_COMES_AND_GOES = {"InvalidBlobOrBlock", "InvalidBlockList"}
"""Another upload of the same blob took the blocks away."""


def status_of(exc: BaseException, place: AzurePlace) -> int | None:
    """The HTTP status of the account's answer; None if it gave none. Whoever gives out tokens answers too."""
    if not isinstance(exc, HttpResponseError) or exc.response is None:
        return None
    request = getattr(exc.response, "request", None)
    return exc.status_code if str(getattr(request, "url", "")).startswith(place.endpoint) else None


def code_of(exc: BaseException) -> str:
    """The service's own name for a refusal, or an empty string."""
    code = getattr(exc, "error_code", None)
    return str(getattr(code, "value", code) or "")


def translated(exc: Exception, place: AzurePlace, what: str, *, write: bool, worked_before: bool) -> AsyncPersistError:
    """The error of the contract for one of `VENDOR_ERRORS`; `what` says what could not be done.

    `write`: what was asked may have been done unless the service refused it. `worked_before`: the credentials were good
    once, so that they may be so again.
    """
    status = status_of(exc, place)
    if status is not None and status >= 300:
        return _refused(exc, place, what, status, write=write)
    if isinstance(exc, ClientAuthenticationError):
        message = (
            f"{place.name}: {what}: azure-identity got no token for the account {place.account}. Give the "
            "account's key, log in with `az login`, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET"
        )
        return StoreUnavailable(message) if worked_before else StateUnwritable(message)
    return _unanswered(exc, place, what, write=write)


def _refused(exc: Exception, place: AzurePlace, what: str, status: int, *, write: bool) -> AsyncPersistError:
    assert isinstance(exc, HttpResponseError)
    code = code_of(exc)
    headers = getattr(exc.response, "headers", {})
    said = f"{status} {code}".rstrip()
    if status == 429 or code == "ServerBusy":
        message = f"{place.name}: {what}: the account {place.account} asks for fewer requests ({said})"
        return Throttled(message, _seconds(headers.get("Retry-After")))
    if code in _NEVER:
        reason = _NEVER[code].format(
            account=place.account,
            container=place.container,
            endpoint=place.endpoint,
            who="the key" if place.key is not None else "the credentials found",
        )
        return StateUnwritable(f"{place.name}: {what}: {reason} ({said})")
    request = headers.get("x-ms-request-id")
    said += f", request {request}" if request else ""
    if status >= 500 or status == 408:
        message = f"{place.name}: {what}: {place.endpoint} failed ({said})"
        return OutcomeUnknown(message) if write else StoreUnavailable(message)
    if status == 409 or code in _COMES_AND_GOES:
        return StoreUnavailable(f"{place.name}: {what}: {place.endpoint} refused for now ({said})")
    return StateUnwritable(
        f"{place.name}: {what}: {place.endpoint} refused ({said}). Check that it is the endpoint of the account "
        f"{place.account}, and what its key or the credentials may do"
    )


def _unanswered(exc: Exception, place: AzurePlace, what: str, *, write: bool) -> AsyncPersistError:
    cause = exc.__cause__ if isinstance(exc, AzureError) and exc.__cause__ is not None else exc
    if isinstance(cause, aiohttp.ClientSSLError):
        return StateUnwritable(
            f"{place.name}: {what}: the certificate of {place.endpoint} cannot be trusted, or TLS is not spoken there: "
            f"{cause}. Check the endpoint; SSL_CERT_FILE names further authorities"
        )
    if isinstance(cause, aiohttp.ClientConnectorDNSError):
        return StoreUnavailable(
            f"{place.name}: {what}: the host {cause.host} is unknown. Is the account called {place.account}? Is "
            "there a network?"
        )
    if isinstance(cause, _NEVER_ENTERED):
        return StoreUnavailable(f"{place.name}: {what}: {place.endpoint} cannot be reached: {cause}")
    reason = str(cause) or type(cause).__name__
    if isinstance(cause, TimeoutError):
        reason = "it took too long"
    message = f"{place.name}: {what}: no answer of {place.endpoint} that makes sense: {reason}"
    return OutcomeUnknown(message) if write else StoreUnavailable(message)


def _seconds(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after and retry_after.isdecimal() else None
