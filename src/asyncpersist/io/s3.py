"""How to reach S3: the settings that connectors and `persistence.Backend.s3` take."""

from __future__ import annotations

from asyncpersist.objectstore.s3.settings import AwsS3Settings

__all__ = ["AwsS3Settings"]
