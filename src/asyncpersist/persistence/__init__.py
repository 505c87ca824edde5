"""Where state is kept and how: `Backend`, `Config` and its modes."""

from asyncpersist.persistence.backend import Backend
from asyncpersist.persistence.config import Config, PersistenceMode, SnapshotAccess

__all__ = ["Backend", "Config", "PersistenceMode", "SnapshotAccess"]
