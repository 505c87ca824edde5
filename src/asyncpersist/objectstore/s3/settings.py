"""What is needed to reach a bucket of S3, or of a store that speaks its protocol."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["AwsS3Settings", "check_bucket", "check_endpoint", "split_s3_path"]

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_SECRETS = ("access_key", "secret_access_key", "session_token")


@dataclass(frozen=True, slots=True, repr=False)
class AwsS3Settings:
    """How to reach a bucket, and as whom. The repr says which secrets are set, and not what they are.

    - `bucket_name`: the bucket, which has to exist.
    - `access_key`, `secret_access_key`, `session_token`: the credentials. Without them the usual AWS chain applies:
      environment, profile, container, instance.
    - `with_path_style`: the bucket goes into the path of an address and not into its host name.
    - `region`: of the bucket; without it the usual AWS settings apply, and where they say nothing, us-east-1.
    - `endpoint`: the address of a self-hosted store, `http://...` or `https://...`.

    Raises `ValueError` for values that cannot be meant.
    """

    bucket_name: str | None = None
    access_key: str | None = None
    secret_access_key: str | None = None
    with_path_style: bool = False
    region: str | None = None
    endpoint: str | None = None
    session_token: str | None = None

    def __post_init__(self) -> None:
        for name in ("bucket_name", "region", "endpoint", *_SECRETS):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise TypeError(f"AwsS3Settings: {name} must be a string, not {type(value).__name__}")
        for name in ("region", *_SECRETS):
            value = getattr(self, name)
            if value is not None and not re.fullmatch(r"[!-~]+", value):
                raise ValueError(f"AwsS3Settings: {name} is empty or holds blanks, line ends or letters beyond ASCII")
        if (self.access_key is None) != (self.secret_access_key is None):
            raise ValueError(
                "AwsS3Settings: access_key and secret_access_key go together; give both, or neither for the AWS chain"
            )
        if self.session_token is not None and self.access_key is None:
            raise ValueError("AwsS3Settings: session_token needs access_key and secret_access_key beside it")
        if self.bucket_name is not None:
            check_bucket(self.bucket_name)
        if self.endpoint is not None:
            check_endpoint(self.endpoint)

    @classmethod
    def new_from_path(cls, s3_path: str) -> AwsS3Settings:
        """Settings for the bucket of `s3://bucket/path`, with the credentials and region of the usual AWS chain."""
        bucket, _ = split_s3_path(s3_path)
        return cls(bucket_name=bucket)

    def __repr__(self) -> str:
        values = ((name, getattr(self, name)) for name in self.__slots__)
        shown = (f"{name}={'<set>' if name in _SECRETS else repr(value)}" for name, value in values if value)
        return f"AwsS3Settings({', '.join(shown)})"


def split_s3_path(path: str) -> tuple[str, str]:
    """The bucket and the path in it, without slashes around, of `s3://bucket/path`. Raises `ValueError`."""
    scheme, separator, rest = path.partition("://")
    if scheme.lower() != "s3" or not separator:
        raise ValueError(f"{path!r} is no path in S3; write s3://bucket/path")
    bucket, _, within = rest.partition("/")
    return check_bucket(bucket), within.strip("/")


def check_bucket(name: str) -> str:
    """Returns `name`; raises `ValueError` if no bucket can have it."""
    if not _BUCKET.fullmatch(name) or ".." in name:
        raise ValueError(
            f"{name!r} cannot be the name of a bucket: 3 to 63 of a-z 0-9 . -, without s3:// before it and a path after"
        )
    return name


def check_endpoint(endpoint: str) -> str:
    """Returns `endpoint`; raises `ValueError` if it is no http(s) address of a host, or holds a password."""
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname, parts.port
        secret = parts.username is not None
    except ValueError:
        host, secret = None, "@" in endpoint
    if secret:
        raise ValueError("an S3 endpoint must hold no user name or password; give credentials as access_key and so on")
    if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise ValueError(f"{endpoint!r} cannot be an S3 endpoint; write http://host:port or https://host")
    return endpoint
