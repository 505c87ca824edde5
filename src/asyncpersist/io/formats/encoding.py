"""Text that is not UTF-8: which encodings can be cut by bytes, and how they become UTF-8.

Files are cut into records before they are decoded. That works where ASCII is itself and where the bytes that make
the structure never stand for part of another character: in the ISO 8859 and Windows code pages, in EUC, and, with
most delimiters, in Big5, GBK and Shift JIS. It does not in UTF-16 and UTF-32.
"""

from __future__ import annotations

import codecs

from asyncpersist.io.formats.format import Broken

__all__ = ["Encoding"]

_AT_ONCE = 128 << 10
"""About how many bytes are decoded in one call, because that holds the interpreter lock."""

_UTF_8 = ("utf-8", "utf-8-sig")


class Encoding:
    """One of Python's text encodings. `name` is its canonical name.

    `structure` are the ASCII characters that will be searched for in the bytes. Raises `TypeError` for what is no
    name, `ValueError` for what is no text encoding and for one that cannot be cut at these characters.
    """

    def __init__(self, name: str, *, structure: str = "\r\n") -> None:
        if not isinstance(name, str):
            raise TypeError(f"encoding must be a str, got {name!r}")
        try:
            self.name = codecs.lookup(name).name
            # Also refuses what is a codec, but not one of text.
            is_ascii = all(bytes([byte]).decode(name) == chr(byte) for byte in range(128))
        except LookupError as exc:
            raise ValueError(f"encoding={name!r} is no text encoding that Python knows: {exc}") from exc
        except ValueError:
            is_ascii = False
        self.is_utf_8 = self.name in _UTF_8
        if self.is_utf_8:
            self.name = "utf-8"
            return
        if not is_ascii or self.name in ("idna", "raw-unicode-escape") or self._gives_ascii():
            raise ValueError(
                f"encoding={name!r}: its ASCII characters are not plain single bytes, so that files cannot be cut into "
                f"lines before they are decoded. Convert them first, e.g. with `iconv -f {self.name} -t utf-8`."
            )
        for character in structure:
            if self._swallows(character):
                raise ValueError(
                    f"encoding={name!r}: the byte of {character!r} also occurs within other characters. Choose another "
                    f"character for it, or convert the files first, e.g. with `iconv -f {self.name} -t utf-8`."
                )

    def decode(self, data: bytes) -> str:
        """Raises `Broken`, saying where."""
        try:
            return data.decode(self.name)
        except ValueError as exc:
            if not self.is_utf_8:
                raise Broken(f"not valid {self.name}: {exc}") from exc
            raise Broken(f'not valid UTF-8: {exc}; name another encoding, e.g. encoding="cp1252"') from exc

    def to_utf_8(self, data: bytes) -> bytes:
        """Whole lines as UTF-8; what is UTF-8 or all ASCII is given back unchecked. Raises `Broken`."""
        if self.is_utf_8 or data.isascii():
            return data
        pieces = []
        start = 0
        while start < len(data):
            end = data.find(b"\n", start + _AT_ONCE) + 1 or len(data)
            pieces.append(self.decode(data[start:end]).encode())
            start = end
        return b"".join(pieces)

    def _gives_ascii(self) -> bool:
        """Whether a byte beyond ASCII stands for an ASCII character too."""
        return any(self._text(bytes([byte])).isascii() for byte in range(128, 256))

    def _swallows(self, character: str) -> bool:
        """Whether the character's byte can be the second one of another character."""
        return any(not self._text(bytes([lead]) + character.encode()).endswith(character) for lead in range(128, 256))

    def _text(self, data: bytes) -> str:
        """What the bytes stand for; if for nothing, it is the first one that does not."""
        try:
            return data.decode(self.name)
        except ValueError:
            return "\ufffd" + data[1:].decode("ascii")
