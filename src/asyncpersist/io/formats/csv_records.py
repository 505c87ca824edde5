"""How CSV bytes fall into records and fields.

A field is quoted if it begins with the quote; then the quote stands doubled (or escaped) inside, and
delimiters and newlines do not count. In any other field a quote is a character like the others. A record ends
with `\\n` or `\\r\\n`. Blank lines and comment lines are no records.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from asyncpersist.io.byte_counts import count_byte, has_empty_line
from asyncpersist.io.formats.format import Broken, Records

__all__ = ["CsvParserSettings", "RecordSyntax"]

_NEWLINE, _RETURN = 10, 13

_WINDOW = 64 << 10
"""Bytes that a regular expression looks at in one call, because that holds the interpreter lock."""


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
        if self._quote:
            q = re.escape(self._quote)
            e = re.escape(self._escape) if self._escape else b""
            inner = b"[^%s%s]*+" % (q, e)
            escapes = [b"%s%s" % (q, q)] if self._doubled else []
            escapes += [b"%s[\\s\\S]" % e] if e else []
            rest = b"(?:(?:%s)%s)*+" % (b"|".join(escapes), inner) if escapes else b""
            field = b"(?:%s%s%s%s%s|(?!%s)%s)" % (q, inner, rest, q, field, q, field)
        record = b"%s(?:%s%s)*+(?:\n|\\Z)" % (field, d, field)
        if self._comment:
            record = b"%s[^\n]*(?:\n|\\Z)|%s" % (re.escape(self._comment), record)
        self._record = re.compile(record)

    def cut(self, data: bytes) -> int:
        """How many of these bytes, which start with a record, are whole records."""
        end = data.rfind(b"\n") + 1
        if end == 0 or not self._quote or self._quote not in data:
            return end
        even = self._even_newline(data, end) if self._is_plain and not self._comment else 0
        if even and self.is_regular(data[:even]):
            return even
        end = 0
        while (next := self._end(data, end)) > end and data[next - 1] == _NEWLINE:
            end = next
        return end

    def _even_newline(self, data: bytes, end: int) -> int:
        """The end of the last line before which there is an even number of quotes, 0 if there is none."""
        quote = self._quote or b""
        quotes = count_byte(memoryview(data)[:end], quote)
        while end and quotes % 2:
            opened = data.rfind(quote, 0, end)
            end = data.rfind(b"\n", 0, opened) + 1
            quotes -= count_byte(memoryview(data)[end : opened + 1], quote)
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
        opens = paired | (before == delimiter) | (before == _NEWLINE)
        opens[0] |= opening[0] == 0
        if not opens.all():
            return False
        after = buffer[np.minimum(closing + 1, len(buffer) - 1)]
        closes = (after == delimiter) | (after == _NEWLINE)
        closes[:-1] |= paired[1:]
        closes[-1] |= closing[-1] == len(buffer) - 1
        returns = np.flatnonzero(~closes & (after == _RETURN))
        if len(returns):
            ended = buffer[np.minimum(closing[returns] + 2, len(buffer) - 1)] == _NEWLINE
            closes[returns] = ended
        return bool(closes.all())

    def has_only_records(self, data: bytes) -> bool:
        """Whether there are certainly no blank and no comment lines."""
        if has_empty_line(data):
            return False
        return not self._comment or not (data.startswith(self._comment) or b"\n" + self._comment in data)

    def have_fields(self, data: bytes, records: int, fields: int, *, each: bool) -> bool:
        """Whether these regular records have so many fields, at least two: together or, slower, `each` of them."""
        if not self._quote or self._quote not in data:
            delimiters = count_byte(data, self._delimiter)
        else:
            delimiters = len(self._unquoted(data, self._delimiter[0]))
        if delimiters != records * (fields - 1):
            return False
        if not each:
            return True
        ends = self._unquoted(data, _NEWLINE)
        places = self._unquoted(data, self._delimiter[0]).reshape(-1, fields - 1)
        if len(ends) != records:
            return False
        return bool((places[:, -1] < ends).all() and (places[1:, 0] > ends[:-1]).all())

    def _unquoted(self, data: bytes, byte: int) -> npt.NDArray[np.int64]:
        """Where the byte stands outside of quotes, in regular records."""
        buffer = np.frombuffer(data, np.uint8)
        places = np.flatnonzero(buffer == byte)
        if not self._quote or self._quote not in data:
            return places
        quotes = np.flatnonzero(buffer == self._quote[0])
        outside: npt.NDArray[np.bool_] = np.searchsorted(quotes, places) % 2 == 0
        return places[outside]

    def has_return(self, line: bytes) -> bool:
        """Whether a carriage return stands in a field that is not quoted. The line may end anywhere."""
        if b"\r" not in line:
            return False
        line = line.removesuffix(b"\n").removesuffix(b"\r")
        try:
            return any(not quoted and b"\r" in line[start:end] for start, end, quoted in self._spans(line))
        except Broken:
            return False

    def records(self, data: bytes) -> Records:
        comments = self._comment is not None and self._comment in data
        if self.is_regular(data) and not (comments and self._quote and self._quote in data):
            ends = self._unquoted(data, _NEWLINE) + 1
            if not data.endswith(b"\n") and data:
                ends = np.append(ends, len(data))
        else:
            ends = self._ends(data)
        newlines = np.flatnonzero(np.frombuffer(data, np.uint8) == _NEWLINE)
        starts = np.concatenate([np.zeros(1, np.int64), ends])[: len(ends)]
        records = Records(data, ends, np.searchsorted(newlines, starts))
        return records.without(self._no_records(data, starts, ends))

    def _no_records(
        self, data: bytes, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Which lines are blank or comments."""
        buffer = np.frombuffer(data, np.uint8)
        first = buffer[starts]
        blank: npt.NDArray[np.bool_] = (first == _NEWLINE) | (
            (first == _RETURN) & (ends - starts == 2) & (buffer[ends - 1] == _NEWLINE)
        )
        if self._comment:
            blank |= first == self._comment[0]
        return blank

    def _ends(self, data: bytes) -> npt.NDArray[np.int64]:
        """Where the records end, and blank lines and comment lines."""
        ends = array("q")
        end = 0
        while end < len(data):
            # A quoted field that is never closed takes all that is left.
            end = self._end(data, end) or len(data)
            ends.append(end)
        return np.frombuffer(ends, np.int64)

    def _end(self, data: bytes, start: int) -> int:
        """The end of the record that starts here; 0 if a quoted field in it is not closed."""
        limit = start + _WINDOW
        match = self._record.match(data, start, limit)
        if match and (match.end() < limit or limit >= len(data)):
            return match.end()
        return self._far_end(data, start) if limit < len(data) else 0

    def _far_end(self, data: bytes, start: int) -> int:
        """As `_end`, for a record too long for a regular expression, which would hold the interpreter lock."""
        at, newline = start, -1
        is_comment = self._comment is not None and data.startswith(self._comment, start)
        while True:
            if self._quote and not is_comment and data.startswith(self._quote, at):
                at = self._closed(data, at)
                if not at:
                    return 0
            if newline < at:
                newline = data.find(b"\n", at)
                newline = len(data) if newline < 0 else newline
            delimiter = -1 if is_comment else data.find(self._delimiter, at, newline)
            if delimiter < 0:
                return min(newline + 1, len(data))
            at = delimiter + 1

    def _closed(self, data: bytes, at: int) -> int:
        """The end of the quoted field that starts here; 0 if it is not closed."""
        assert self._quote
        at += 1
        quote = -1
        while True:
            if quote < at:
                quote = data.find(self._quote, at)
            if quote < 0:
                return 0
            escape = data.find(self._escape, at, quote) if self._escape else -1
            if escape >= 0:
                at = escape + 2
            elif self._doubled and data.startswith(self._quote, quote + 1):
                at = quote + 2
            else:
                return quote + 1

    def fields(self, text: bytes) -> list[bytes | None]:
        """The fields of one record, None for one without a byte (not even quotes). Raises `Broken`."""
        text = text.removesuffix(b"\n").removesuffix(b"\r")
        return [
            self._unescaped(text[start + 1 : end - 1]) if quoted else text[start:end] or None
            for start, end, quoted in self._spans(text)
        ]

    def _spans(self, text: bytes) -> Iterator[tuple[int, int, bool]]:
        """Where the fields of a record without its line end start and end, and whether they are quoted. Raises
        `Broken`.
        """
        at = 0
        while True:
            start = at
            quoted = self._quote is not None and text.startswith(self._quote, at)
            if quoted:
                at = self._closed(text, at)
                if not at:
                    raise Broken("a quoted field is not closed")
                if at < len(text) and not text.startswith(self._delimiter, at):
                    raise Broken("something follows the closing quote of a field")
            else:
                end = text.find(self._delimiter, at)
                at = len(text) if end < 0 else end
            yield start, at, quoted
            if at == len(text):
                return
            at += 1

    def _unescaped(self, content: bytes) -> bytes:
        quote = self._quote or b""
        if self._escape:
            pairs = b"%s([\\s\\S])" % re.escape(self._escape)
            pairs += b"|%s(%s)" % (re.escape(quote), re.escape(quote)) if self._doubled else b"|(?!)()"
            return re.sub(pairs, lambda m: m[1] or m[2], content)
        return content.replace(quote + quote, quote)
