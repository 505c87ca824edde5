"""S3, as npm's s3rver plays it: it takes no notice of create-if-absent, and so is what the probe has to find out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers.node import node_command
from tests.servers.process import ServerProcess

if TYPE_CHECKING:
    from asyncpersist.objectstore.s3.settings import AwsS3Settings

__all__ = ["S3rver"]

BUCKET = "bucket"


class S3rver(ServerProcess):
    """Keeps its one bucket below `folder`."""

    def __init__(self, folder: Path) -> None:
        start = node_command("s3rver/bin/s3rver.js")
        super().__init__(
            "s3rver",
            lambda port: (
                *start,
                *("--directory", str(folder), "--address", "127.0.0.1", "--port", str(port)),
                *("--configure-bucket", BUCKET),
            ),
            r"listening on 127\.0\.0\.1:(\d+)",
        )

    def settings(self) -> AwsS3Settings:
        """What a user would pass to reach its bucket."""
        from asyncpersist.objectstore.s3.settings import AwsS3Settings

        return AwsS3Settings(
            bucket_name=BUCKET,
            access_key="S3RVER",
            secret_access_key="S3RVER",
            with_path_style=True,
            region="us-east-1",
            endpoint=self.url,
        )
