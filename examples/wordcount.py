import asyncio
import asyncpersist as ap

class Line(ap.Schema):
    word: str

lines = ap.io.jsonlines.read("input/", schema=Line, mode="static", name="lines")
counts = lines.groupby(ap.this.word).reduce(ap.this.word, count=ap.reducers.count())
ap.io.csv.write(counts, "counts.csv")

asyncio.run(ap.run(
    persistence_config=ap.persistence.Config(
        ap.persistence.Backend.filesystem("state"),
        snapshot_interval_ms=1000,
    ),
))
