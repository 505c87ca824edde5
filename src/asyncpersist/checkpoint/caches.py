"""How the results of functions lie in a root: which streams are caches, and what their names say.

The results of one function in one cache are the stream `cache/{name of the cache, percent-encoded}/{digest of the
function}`; how recently each was used is a stream beside it, `.../used`. They belong to no epoch: every run that writes
carries them on, whatever it computes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from urllib.parse import quote, unquote

from asyncpersist.checkpoint.manifest import CacheFacts, Manifest, ObjectRef

__all__ = [
    "cache_of",
    "cache_stream",
    "cached",
    "facts_of",
    "function_stream",
    "is_cache",
    "others",
    "uncached",
    "used_stream",
]

_CACHE = "cache/"
_USED = "/used"


def cache_stream(cache: str, digest: str) -> str:
    """The stream of a function's results. `digest`: that of the function, in hexadecimal."""
    return f"{_CACHE}{quote(cache, safe='')}/{digest}"


def used_stream(stream: str) -> str:
    """The stream that says how recently the results of another one were used."""
    return stream + _USED


def is_cache(stream: str) -> bool:
    return stream.startswith(_CACHE)


def function_stream(stream: str) -> str:
    """The stream of results that a stream of a cache belongs to."""
    return stream.removesuffix(_USED)


def cache_of(stream: str) -> str:
    """The name of the cache that a stream belongs to."""
    return unquote(stream.removeprefix(_CACHE).partition("/")[0])


def facts_of(manifest: Manifest, stream: str) -> CacheFacts:
    """What a manifest knows of a stream of results; where it says nothing, what the name says."""
    return manifest.caches.get(stream) or CacheFacts(function="?", cache=cache_of(stream))


def others(manifest: Manifest, streams: Collection[str]) -> dict[str, tuple[CacheFacts, int]]:
    """The streams of results that are none of these, with what is known of them and their bytes."""
    found: dict[str, tuple[CacheFacts, int]] = {}
    for stream, refs in cached(manifest.streams).items():
        if (results := function_stream(stream)) not in streams:
            facts, size = found.get(results, (facts_of(manifest, results), 0))
            found[results] = (facts, size + sum(ref.length for ref in refs))
    return found


def cached(streams: Mapping[str, Sequence[ObjectRef]]) -> dict[str, list[ObjectRef]]:
    """Those that are of caches."""
    return {stream: list(refs) for stream, refs in streams.items() if is_cache(stream)}


def uncached(streams: Mapping[str, Sequence[ObjectRef]]) -> dict[str, list[ObjectRef]]:
    """Those that are not."""
    return {stream: list(refs) for stream, refs in streams.items() if not is_cache(stream)}
