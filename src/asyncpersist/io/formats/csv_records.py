"""How CSV bytes fall into records and fields.

A field is quoted if it begins with the quote; then the quote stands doubled (or escaped) inside, and
delimiters and newlines do not count. In any other field a quote is a character like the others. A record ends
with `\\n` or `\\r\\n`. Blank lines and comment lines are no records.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from asyncpersist.io.byte_counts import count_byte, has_empty_line
from asyncpersist.io.formats.format import Broken, Records

__all__ = ["CsvParserSettings", "RecordSyntax"]


@dataclass(frozen=True, slots=True)
class CsvParserSettings:
    """How CSV is written: every setting is one ASCII character; `escape` and `comment_character` may be None.

    Raises `ValueError` for anything else and where two of them are the same, `TypeError` for what is no text.
    """

    delimiter: str = ","
    quote: str = '"'
    escape: str | None = None
    enable_double_quote_escapes: bool = True
    enable_quoting: bool = True
    comment_character: str | None = None

    def __post_init__(self) -> None:
        given = {"delimiter": self.delimiter, "quote": self.quote}
        given |= {"escape": self.escape} if self.escape is not None else {}
        given |= {"comment_character": self.comment_character} if self.comment_character is not None else {}
        for name, value in given.items():
            if not isinstance(value, str):
                raise TypeError(f"csv_settings: {name} must be a str, got {value!r}")
            if len(value) != 1 or not value.isascii() or value in "\r\n":
                raise ValueError(f"csv_settings: {name} must be one ASCII character and no line end, got {value!r}")
        if len(set(given.values())) < len(given):
            raise ValueError(f"csv_settings: the characters must differ, got {given}")

    def characters(self) -> str:
        """All characters that mean something, line ends among them."""
        marks = [
            self.delimiter,
            self.quote if self.enable_quoting else "",
            self.escape or "",
            self.comment_character or "",
        ]
        return "\r\n" + "".join(marks)


class RecordSyntax:
    """The cutting of bytes into records and of records into fields, under some settings."""

    def __init__(self, settings: CsvParserSettings) -> None:
        self._delimiter = settings.delimiter.encode()
        self._quote = settings.quote.encode() if settings.enable_quoting else None
        self._comment = settings.comment_character.encode() if settings.comment_character else None
        self._doubled = settings.enable_double_quote_escapes
        self._escape = settings.escape.encode() if settings.escape and settings.enable_quoting else None
        self._is_plain = self._doubled and self._escape is None
        d = re.escape(self._delimiter)
        field = b"[^%s\n]*" % d
        self._quoted = b""
        if self._quote:
            q = re.escape(self._quote)
            e = re.escape(self._escape) if self._escape else b""
            inner = b"[^%s%s]*+" % (q, e)
            escapes = [b"%s%s" % (q, q)] if self._doubled else []
            escapes += [b"%s[\\s\\S]" % e] if e else []
            rest = b"(?:(?:%s)%s)*+" % (b"|".join(escapes), inner) if escapes else b""
            self._quoted = b"%s(%s%s)%s" % (q, inner, rest, q)
            field = b"(?:%s%s|(?!%s)%s)" % (self._quoted.replace(b"(", b"(?:", 1), field, q, field)
        record = b"%s(?:%s%s)*+(?:\n|\\Z)" % (field, d, field)
        if self._comment:
            record = b"%s[^\n]*(?:\n|\\Z)|%s" % (re.escape(self._comment), record)
        self._record = re.compile(record)
        self._quoted_field = re.compile(self._quoted) if self._quoted else None

    def cut(self, data: bytes) -> int:
        """How many of these bytes, which start with a record, are whole records."""
        end = data.rfind(b"\n") + 1
        if end == 0 or not self._quote or self._quote not in data:
            return end
        even = self._even_newline(data, end) if self._is_plain and not self._comment else 0
        if even and self.is_regular(data[:even]):
            return even
        end = 0
        while (match := self._record.match(data, end)) and match.end() > end and data[match.end() - 1] == 10:
            end = match.end()
        return end

    def _even_newline(self, data: bytes, end: int) -> int:
        """The end of the last line before which there is an even number of quotes, 0 if there is none."""
        quote = self._quote or b""
        quotes = data.count(quote, 0, end)
        while end and quotes % 2:
            opened = data.rfind(quote, 0, end)
            end = data.rfind(b"\n", 0, opened) + 1
            quotes -= data.count(quote, end, opened + 1)
        return end

    def is_regular(self, data: bytes) -> bool:
        """Whether every quote in these whole records opens or closes a field or is one of a doubled pair in
        it.
        """
        if not self._quote or self._quote not in data:
            return True
        if not self._is_plain:
            return False
        buffer = np.frombuffer(data, np.uint8)
        at = np.flatnonzero(buffer == self._quote[0])
        if len(at) % 2:
            return False
        delimiter = self._delimiter[0]
        opening, closing = at[0::2], at[1::2]
        before = buffer[opening - 1]
        paired = np.zeros(len(opening), bool)
        paired[1:] = opening[1:] == closing[:-1] + 1
        opens = paired | (before == delimiter) | (before == 10)
        opens[0] |= opening[0] == 0
        if not opens.all():
            return False
        after = buffer[np.minimum(closing + 1, len(buffer) - 1)]
        closes = (after == delimiter) | (after == 10)
        closes[:-1] |= paired[1:]
        closes[-1] |= closing[-1] == len(buffer) - 1
        returns = np.flatnonzero(~closes & (after == 13))
        if len(returns):
            ended = buffer[np.minimum(closing[returns] + 2, len(buffer) - 1)] == 10
            closes[returns] = ended
        return bool(closes.all())

    def has_only_records(self, data: bytes) -> bool:
        """Whether there are certainly no blank and no comment lines."""
        if has_empty_line(data):
            return False
        return not self._comment or not (data.startswith(self._comment) or b"\n" + self._comment in data)

    def count_delimiters(self, data: bytes) -> int:
        """The delimiters outside of quotes, in regular records."""
        if not self._quote or self._quote not in data:
            return count_byte(data, self._delimiter)
        buffer = np.frombuffer(data, np.uint8)
        quotes = np.flatnonzero(buffer == self._quote[0])
        before = np.searchsorted(quotes, np.flatnonzero(buffer == self._delimiter[0]))
        return int(np.count_nonzero(before % 2 == 0))

    def records(self, data: bytes) -> Records:
        pieces: list[bytes] = []
        lines: list[int] = []
        end = line = 0
        while end < len(data):
            match = self._record.match(data, end)
            # A quoted field that is never closed takes all that is left.
            stop = match.end() if match else len(data)
            text = data[end:stop]
            if text not in (b"\n", b"\r\n") and not (self._comment and text.startswith(self._comment)):
                pieces.append(text)
                lines.append(line)
            line += text.count(b"\n")
            end = stop
        ends = np.cumsum(np.array([len(piece) for piece in pieces], np.int64), dtype=np.int64)
        return Records(b"".join(pieces), ends, np.array(lines, np.int64))

    def fields(self, text: bytes) -> list[bytes | None]:
        """The fields of one record, None for one without a byte (not even quotes). Raises `Broken`."""
        text = text.removesuffix(b"\n").removesuffix(b"\r")
        found: list[bytes | None] = []
        at = 0
        while True:
            match = None
            if self._quoted_field and self._quote and text.startswith(self._quote, at):
                match = self._quoted_field.match(text, at)
                if not match:
                    raise Broken("a quoted field is not closed")
                found.append(self._unescaped(match[1]))
                at = match.end()
                if at < len(text) and not text.startswith(self._delimiter, at):
                    raise Broken("something follows the closing quote of a field")
            else:
                end = text.find(self._delimiter, at)
                end = len(text) if end < 0 else end
                found.append(text[at:end] or None)
                at = end
            if at == len(text):
                return found
            at += 1

    def _unescaped(self, content: bytes) -> bytes:
        quote = self._quote or b""
        if self._escape:
            pairs = b"%s([\\s\\S])" % re.escape(self._escape)
            pairs += b"|%s(%s)" % (re.escape(quote), re.escape(quote)) if self._doubled else b"|(?!)()"
            return re.sub(pairs, lambda m: m[1] or m[2], content)
        return content.replace(quote + quote, quote)
