"""The command line. One command per module."""

from asyncpersist.cli.app import main

__all__ = ["main"]
