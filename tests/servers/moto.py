"""S3, as moto plays it: buckets in the memory of one process."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers.process import ServerProcess

if TYPE_CHECKING:
    from asyncpersist.objectstore.s3.settings import AwsS3Settings

__all__ = ["ACCESS_KEY", "SECRET_ACCESS_KEY", "Moto"]

ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET_ACCESS_KEY = "wJalrXUtnFEMI-moto-takes-any-secret"


class Moto(ServerProcess):
    """Any keys are taken. What it holds is gone after `kill`.

    With `certificate` and `key`, files, it speaks HTTPS; `authority` is what signed the certificate.
    """

    def __init__(
        self, *, certificate: Path | None = None, key: Path | None = None, authority: Path | None = None
    ) -> None:
        program = (sys.executable, "-m", "tests.servers.moto_server")
        tls = () if certificate is None else ("--ssl-cert", str(certificate), "--ssl-key", str(key))
        super().__init__(
            "moto",
            lambda port: (*program, "--host", "127.0.0.1", "--port", str(port), *tls),
            r"Running on https?://127\.0\.0\.1:(\d+)",
            certificate=authority,
        )
        self._numbers = itertools.count(1)

    def new_bucket(self) -> str:
        """The name of a bucket made just now."""
        name = f"bucket-{next(self._numbers)}"
        status = self.request("PUT", f"/{name}")
        assert status == 200, f"moto answered {status} where a bucket was to be made:\n{self.output()}"
        return name

    def settings(self, bucket: str) -> AwsS3Settings:
        """What a user would pass to reach the bucket."""
        from asyncpersist.objectstore.s3.settings import AwsS3Settings

        return AwsS3Settings(
            bucket_name=bucket,
            access_key=ACCESS_KEY,
            secret_access_key=SECRET_ACCESS_KEY,
            with_path_style=True,
            region="us-east-1",
            endpoint=self.url,
        )
