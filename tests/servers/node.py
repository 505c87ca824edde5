"""Where `scripts/setup` puts the servers that are written for Node."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["node_command"]

SERVERS = Path(sys.prefix) / "servers"


def node_command(script: str) -> tuple[str, str]:
    """The start of a command line that runs `script`, a path below `node_modules`."""
    node, path = SERVERS / "node", SERVERS / "node_modules" / script
    for needed in (node, path):
        if not needed.exists():
            raise RuntimeError(f"{needed} is missing: run scripts/setup, which installs the servers that tests use")
    return str(node), str(path)
