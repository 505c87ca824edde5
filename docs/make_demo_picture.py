"""Makes docs/demo.svg from a real run of the demo: .venv/bin/python docs/make_demo_picture.py"""

from __future__ import annotations

import io
import re
import tempfile
from pathlib import Path

from rich.console import Console

from asyncpersist.cli.demo import as_table, perform

console = Console(record=True, width=88, file=io.StringIO(), force_terminal=False, color_system="truecolor")
console.print("[dim]$[/] scripts/demo", highlight=False)
with tempfile.TemporaryDirectory() as directory:
    summary = perform(console, Path(directory), 10_000_000, 7)
console.print(as_table(summary))
picture = console.export_svg(title="asyncpersist demo", unique_id="demo")
# The fonts would be fetched from elsewhere; the reader's own monospaced one does.
picture = re.sub(r"@font-face\s*\{.*?\}", "", picture, flags=re.DOTALL)
Path(__file__).with_name("demo.svg").write_text(picture, encoding="utf-8")
