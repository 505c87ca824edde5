"""Where state is kept: a place that a run opens as an object store."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from asyncpersist.disk import Disk
from asyncpersist.objectstore.azure.store import AzureStore
from asyncpersist.objectstore.brought import BroughtStore
from asyncpersist.objectstore.contract import ObjectStore
from asyncpersist.objectstore.filesystem import FilesystemStore
from asyncpersist.objectstore.memory import MemoryStore
from asyncpersist.objectstore.remote import remote
from asyncpersist.objectstore.s3.settings import AwsS3Settings
from asyncpersist.objectstore.s3.store import S3Store

__all__ = ["Backend"]

_REMOTE_INTERVAL_MS = 100


@dataclass(frozen=True, slots=True)
class _Directory:
    path: str

    def client(self) -> FilesystemStore:
        return FilesystemStore(self.path)

    def open(self, disk: Disk) -> ObjectStore:
        return FilesystemStore(self.path, disk)


@dataclass(frozen=True, slots=True)
class _Bucket:
    root_path: str
    settings: AwsS3Settings

    def client(self) -> S3Store:
        return S3Store(self.settings, self.root_path)

    def open(self, disk: Disk) -> ObjectStore:
        return remote(self.client())


@dataclass(frozen=True, slots=True)
class _Container:
    account: str
    container: str
    root_path: str
    endpoint: str | None
    key: str | None = field(repr=False)

    def client(self) -> AzureStore:
        return AzureStore(self.account, self.container, self.root_path, key=self.key, endpoint=self.endpoint)

    def open(self, disk: Disk) -> ObjectStore:
        return remote(self.client())


@dataclass(frozen=True, slots=True)
class Backend:
    """Where state is kept: made by one of the constructors, or from an object store of the user's own.

    `engine_data_storage`: an `ObjectStore`, used from the loop of the run as it is, and not closed. `fs_path`: a local
    directory that belongs to it, if there is one. `single_writer`: a store that does not honour create-if-absent is
    accepted, with a warning; then nothing keeps two runs from destroying each other's state.
    """

    engine_data_storage: Any = field(repr=False)
    fs_path: str | os.PathLike[str] | None = None
    single_writer: bool = field(default=False, kw_only=True)

    def __repr__(self) -> str:
        storage = self.engine_data_storage
        where = storage.describe() if isinstance(storage, ObjectStore) else storage.client().describe()
        return f"Backend({where!r}{', single_writer=True' if self.single_writer else ''})"

    def __post_init__(self) -> None:
        if not isinstance(self.engine_data_storage, ObjectStore | _Directory | _Bucket | _Container):
            raise TypeError(
                f"Backend takes an ObjectStore, not {type(self.engine_data_storage).__name__}; "
                "use Backend.filesystem(path) for a local directory"
            )
        if not isinstance(self.single_writer, bool):
            raise TypeError(f"single_writer must be True or False, not {self.single_writer!r}")

    @classmethod
    def filesystem(cls, path: str | os.PathLike[str]) -> Backend:
        """A directory, absolute or relative to the working directory; made if missing, when a run claims it."""
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"Backend.filesystem takes a path, not {type(path).__name__}")
        text = os.fspath(path)
        if not isinstance(text, str) or not text:
            raise ValueError("Backend.filesystem takes the path of a directory; the path given is empty or bytes")
        if "\0" in text or not _is_encodable(text):
            raise ValueError(f"Backend.filesystem takes the path of a directory; {text!r} cannot be one")
        if text.startswith(("s3:/", "az:/")):
            raise ValueError(
                f"Backend.filesystem takes the path of a directory, not {text!r}; use Backend.s3 or Backend.azure, or "
                f"./{text} if you mean a directory of that name. On the command line: s3://bucket/prefix"
            )
        return cls(_Directory(text), fs_path=path)

    @classmethod
    def s3(cls, root_path: str, bucket_settings: AwsS3Settings, *, single_writer: bool = False) -> Backend:
        """A prefix in a bucket of S3 or of a store that speaks its protocol; needs the extra `asyncpersist[s3]`.

        The bucket has to exist. Raises `TypeError` or `ValueError` for settings that name no bucket.
        """
        if not isinstance(bucket_settings, AwsS3Settings):
            raise TypeError(f"Backend.s3 takes io.s3.AwsS3Settings, not {type(bucket_settings).__name__}")
        described = _Bucket(_checked("s3", root_path), bucket_settings)
        described.client()  # what is wrong is said here, and not when a run starts
        return cls(described, single_writer=single_writer)

    @classmethod
    def azure(
        cls,
        root_path: str,
        account: str,
        password: str | None,
        container: str,
        *,
        endpoint: str | None = None,
        single_writer: bool = False,
    ) -> Backend:
        """A prefix in an Azure Blob container, which has to exist; needs the extra `asyncpersist[azure]`.

        `password`: the account key; None: the vendor's own chain of credentials. `endpoint`: of a self-hosted or
        emulated service, instead of the account's own. Raises `TypeError` or `ValueError`.
        """
        described = _Container(account, container, _checked("azure", root_path), endpoint, password)
        described.client()
        return cls(described, single_writer=single_writer)

    @classmethod
    def memory(cls) -> Backend:
        """Memory, for tests: state lives as long as this object."""
        return cls(MemoryStore())

    def open_store(self, disk: Disk) -> ObjectStore:
        """The store to be used by one run. Local files are written through `disk`; nothing is made yet.

        The caller closes it unless it is the user's own: `owns_store` says so.
        """
        storage = self.engine_data_storage
        if isinstance(storage, ObjectStore):
            return BroughtStore(storage)
        assert isinstance(storage, _Directory | _Bucket | _Container)
        return storage.open(disk)

    @property
    def owns_store(self) -> bool:
        """Whether `open_store` makes a store that its caller has to close."""
        return not isinstance(self.engine_data_storage, ObjectStore)

    @property
    def shortest_interval_ms(self) -> int:
        """The least time between two snapshots: where each is a handful of requests over a network, more than none."""
        return _REMOTE_INTERVAL_MS if isinstance(self.engine_data_storage, _Bucket | _Container) else 0


def _checked(where: str, root_path: str) -> str:
    if not isinstance(root_path, str):
        raise TypeError(f"Backend.{where} takes a path as root_path, not {type(root_path).__name__}")
    return root_path


def _is_encodable(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True
