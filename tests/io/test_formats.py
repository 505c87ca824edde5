"""What each format makes of bytes, by both of its ways."""

from __future__ import annotations

import base64
import datetime
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncpersist.dtypes import DateTimeUtc, DType, Json
from asyncpersist.errors import MalformedInput
from asyncpersist.io.formats.csv_records import CsvParserSettings
from asyncpersist.io.formats.format import Broken, Format
from tests.examples import examples
from tests.io.reading import TEXT, csv_format, json_format, values


def both_ways(format: Format, data: bytes, layout: Any = None) -> list[tuple[Any, ...]]:
    """The rows, the fast way if it can, which must be what the careful way says."""
    careful = format.examine(data, layout)
    records = format.records(data)
    singly = []
    for i in range(len(records)):
        try:
            singly.append(tuple(format.record(records.between(i, i + 1), layout)))
        except Broken:
            continue
    assert repr(careful.rows.rows()) == repr(pl.DataFrame(singly, careful.rows.schema, orient="row").rows())
    assert len(singly) + len(careful.bad) == careful.records
    try:
        rows = format.parse(data, layout)
        if format.is_doubtful(rows):
            format.confirm(data, rows)
    except Broken:
        return careful.rows.rows()
    assert not careful.bad
    assert repr(rows.rows()) == repr(careful.rows.rows())
    assert rows.schema == {name: dtype.polars for name, dtype in format.columns.items()}
    return rows.rows()


def bad(format: Format, text: bytes, layout: Any = None) -> str:
    """What is wrong with the one record."""
    good = both_ways(format, text, layout)
    examined = format.examine(text, layout)
    assert good == []
    assert len(examined.bad) == 1
    return examined.bad[0].error


# -- JSON lines


SCALARS = {"i": int, "f": float, "b": bool, "s": str}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"i": 1, "f": 1, "b": true, "s": "x"}', (1, 1.0, True, "x")),
        ('{"s":"5","b":false,"f":-0.5e3,"i":-9223372036854775808}', (-(2**63), -500.0, False, "5")),
        ('{"i":0,"f":123456789012345678901234567890,"b":true,"s":"true"}', (0, 1.2345678901234568e29, True, "true")),
        ('{"i":0,"f":0,"b":true,"s":"[1]","more":{"s":5}}', (0, 0.0, True, "[1]")),
        ('{"i":0,"f":0,"b":true,"s" : "{\\"s\\":5}"}', (0, 0.0, True, '{"s":5}')),
        ('{"i":0,"f":0,"b":true,"s":"-","s":5}', (0, 0.0, True, "-")),
        ('{"i":0,"f":0,"b":true,"\\u0073":"7"}', (0, 0.0, True, "7")),
        ('{"i":0,"f":0,"b":true,"s":"\\u0000\\ud83d\\ude00"}', (0, 0.0, True, "\0😀")),
        ('{"i":0,"f":0,"b":true,"s":"\u2028é"}', (0, 0.0, True, "\u2028é")),
    ],
)
def test_json_values_that_fit(line: str, expected: tuple[Any, ...]) -> None:
    assert both_ways(json_format(**SCALARS), line.encode() + b"\n") == [expected]


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"i": '"x"'}, "column 'i': expected int, got \"x\""),
        ({"i": "1.0"}, "column 'i': expected int, got 1.0"),
        ({"i": "true"}, "column 'i': expected int, got true"),
        ({"i": "9223372036854775808"}, "column 'i': expected int, got 9223372036854775808, which does not fit"),
        ({"i": "null"}, "column 'i': expected int, got null"),
        ({"f": '"1"'}, "column 'f': expected float"),
        ({"f": "false"}, "column 'f': expected float"),
        ({"f": "1e400"}, "column 'f': expected float, got a number that is too large"),
        ({"f": "NaN"}, "NaN is no JSON"),
        ({"b": "1"}, "column 'b': expected bool"),
        ({"b": '"true"'}, "column 'b': expected bool"),
        ({"s": "5"}, "column 's': expected str, got 5"),
        ({"s": "-1.5"}, "column 's': expected str, got -1.5"),
        ({"s": "true"}, "column 's': expected str, got true"),
        ({"s": "[1]"}, "column 's': expected str, got [1]"),
        ({"s": '{"s": "x"}'}, 'column \'s\': expected str, got {"s": "x"}'),
        ({"s": '5,"more":{"s":"x"}'}, "column 's': expected str, got 5"),
        ({"s": '5,"s":"x"'}, "column 's': expected str, got 5"),
        ({"s": '"\\ud800"'}, "column 's': a string holds half of a surrogate pair"),
        ({"s": '"a\tb"'}, "no valid JSON"),
        ({"s": "null"}, "column 's': expected str, got null"),
        ({"s": '"x"} {"i":1'}, "no valid JSON"),
        ({"s": '"x",'}, "no valid JSON"),
    ],
)
def test_json_values_that_do_not_fit(values: dict[str, str], why: str) -> None:
    given = {"i": "1", "f": "1", "b": "true", "s": '"x"'} | values
    line = "{" + ",".join(f'"{name}":{value}' for name, value in given.items()) + "}\n"
    assert why in bad(json_format(**SCALARS), line.encode())


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"[1]", "expected a JSON object"),
        (b"null", "expected a JSON object"),
        (b'{"s":', "no valid JSON"),
        (b'{"s":"\xff"}', "not valid UTF-8"),
        (b'{"t":"x"}', "column 's': expected str, the key is missing (there are ['t'])"),
        (b'{"t":"s"}', "the key is missing"),
        (b'{"\\u0073":5,"t":{"s":"x"}}', "expected str, got 5"),
        (b"[" * 100_000, "JSON"),
    ],
)
def test_json_lines_that_are_broken(line: bytes, why: str) -> None:
    assert why in bad(json_format(s=str), line + b"\n")


def test_json_names_that_need_escapes() -> None:
    for name in ('a"b', "a\\b", "a/b", "é", "a.b*", "\n"):
        format = json_format(**{name: str})
        assert both_ways(format, json.dumps({name: "5"}).encode() + b"\n") == [("5",)]
        assert both_ways(format, json.dumps({name: "5"}).replace("/", "\\/").encode() + b"\n") == [("5",)]
        assert "expected str, got 5" in bad(format, json.dumps({name: 5}).encode() + b"\n")
        assert "expected str, got 5" in bad(format, json.dumps({name: 5}).replace("/", "\\/").encode() + b"\n")


def test_json_none_and_defaults() -> None:
    format = json_format({"d": 7, "o": 8}, d=int, o=int | None, p=int | None)
    lines = b'{"d":1,"o":2,"p":3}\n{"d":null,"o":null,"p":null}\n{}\n'
    assert both_ways(format, lines) == [(1, 2, 3), (7, None, None), (7, 8, None)]
    assert both_ways(json_format({"d": 7}, d=int), b'{}\n{"d":1}\n') == [(7,), (1,)]


def test_json_blank_lines_are_no_rows_but_lines() -> None:
    data = b'\n \t\r\n{"i":1}\r\n\n{"i":"x"}\n{"i":2}\n'
    format = json_format(i=int)
    assert both_ways(format, data) == [(1,), (2,)]
    assert [(r.ordinal, r.line, r.text) for r in format.examine(data, None).bad] == [(1, 4, b'{"i":"x"}')]


MOMENT = datetime.datetime(2024, 2, 29, 23, 59, 59, 123456)


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (datetime.datetime, '"2024-02-29T23:59:59.123456"', MOMENT),
        (datetime.datetime, '"2024-02-29 23:59:59.123456"', MOMENT),
        (datetime.datetime, '"2024-02-29T23:59:59"', MOMENT.replace(microsecond=0)),
        (datetime.datetime, '"2024-02-29"', datetime.datetime(2024, 2, 29)),
        (DateTimeUtc, '"2024-02-29T23:59:59.123456Z"', MOMENT.replace(tzinfo=datetime.UTC)),
        (DateTimeUtc, '"2024-02-29T23:59:59.123456+00:00"', MOMENT.replace(tzinfo=datetime.UTC)),
        (DateTimeUtc, '"2024-03-01T01:59:59.123456+02:00"', MOMENT.replace(tzinfo=datetime.UTC)),
        (datetime.timedelta, '"P1DT2H3.5S"', datetime.timedelta(days=1, hours=2, seconds=3.5)),
        (datetime.timedelta, '"-1 day, 23:59:59.5"', datetime.timedelta(seconds=-0.5)),
        (datetime.timedelta, "1500000", datetime.timedelta(microseconds=1500)),
        (bytes, json.dumps(base64.b64encode(b"\0\xff").decode()), b"\0\xff"),
        (Json, '{"b": [1, 2.5, null], "a": "é"}', '{"b":[1,2.5,null],"a":"é"}'),
        (Json, "null", "null"),
        (list[int], "[1, 2]", [1, 2]),
        (list[str | None], '["a", null]', ["a", None]),
        (tuple[int, str], '[1, "a"]', {"f0": 1, "f1": "a"}),
        (np.ndarray, "[[1, 2], [3, 4.5]]", {"data": [1.0, 2.0, 3.0, 4.5], "shape": [2, 2]}),
        (np.ndarray, '{"shape": [2, 1], "elements": [1, 2]}', {"data": [1.0, 2.0], "shape": [2, 1]}),
    ],
)
def test_other_types(kind: Any, text: str, expected: Any) -> None:
    assert both_ways(json_format(v=kind), b'{"v": ' + text.encode() + b"}\n") == [(expected,)]
    field = json.loads(text) if isinstance(json.loads(text), str) else text
    quoted = '"' + field.replace('"', '""') + '"'
    assert both_ways(csv_format(v=kind), quoted.encode() + b"\n", ("v",)) == [(expected,)]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (datetime.datetime, '"2024-02-30T00:00:00"'),
        (datetime.datetime, '"2024-02-28T00:00:00Z"'),
        (datetime.datetime, "20240228"),
        (DateTimeUtc, '"2024-02-28T00:00:00"'),
        (datetime.timedelta, '"P"'),
        (datetime.timedelta, '"P999999999D"'),
        (bytes, '"=="'),
        (list[int], '[1, "x"]'),
        (list[int], "[null]"),
        (tuple[int, str], "[1]"),
        (np.ndarray, "[[1], [2, 3]]"),
        (np.ndarray, "[true]"),
        (np.ndarray, '{"shape": [3], "elements": [1, 2]}'),
    ],
)
def test_other_types_that_do_not_fit(kind: Any, text: str) -> None:
    assert "column 'v'" in bad(json_format(v=kind), b'{"v": ' + text.encode() + b"}\n")


def test_defaults_of_other_types() -> None:
    day = datetime.datetime(2024, 1, 1)
    defaults = {"d": day, "j": {"a": [1]}, "t": (1, "x"), "n": np.array([[1.5]])}
    columns = {"d": datetime.datetime, "j": Json, "t": tuple[int, str], "n": np.ndarray}
    expected = (day, '{"a":[1]}', {"f0": 1, "f1": "x"}, {"data": [1.5], "shape": [1, 1]})
    assert both_ways(json_format(defaults, **columns), b"{}\n") == [expected]
    assert both_ways(csv_format(defaults, x=int, **columns), b"5\n", ("x",)) == [(5, *expected)]
    assert both_ways(json_format({"d": day}, d=datetime.datetime), b'{}\n{"d":"2024-01-01T00:00:00"}\n') == [(day,)] * 2


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("sitx"), inner, max_size=2),
    max_leaves=4,
)


@given(
    st.lists(st.dictionaries(st.sampled_from("sit"), JSON_VALUES), min_size=1, max_size=40),
    st.booleans(),
    st.sampled_from([None, (",", ":")]),
)
def test_json_both_ways_agree(records: list[dict[str, Any]], ascii: bool, separators: Any) -> None:
    lines = [json.dumps(record, ensure_ascii=ascii, separators=separators) for record in records]
    data = "".join(line + "\n" for line in lines).encode("utf-8", "surrogatepass")
    both_ways(json_format(s=str | None), data)
    both_ways(json_format({"i": 3}, s=str, i=int), data)
    both_ways(json_format(i=float | None, t=bool | None), data)


@given(
    st.lists(st.sampled_from(['{"s":', '"s"', ":", "5", '"5"', '"\\u0073"', "{", "}", ",", "\\", "\n"]), max_size=12)
)
def test_json_both_ways_agree_on_scraps(parts: list[str]) -> None:
    both_ways(json_format(s=str | None), "".join(parts).encode() + b"\n")


# -- CSV


@pytest.mark.parametrize(
    ("kind", "field", "expected"),
    [
        (int, "007", 7),
        (int, "+5", 5),
        (int, " 5", 5),
        (int, '"5"', 5),
        (float, "1", 1.0),
        (float, ".5e-1", 0.05),
        (float, "-inf", -math.inf),
        (float, "Infinity", math.inf),
        (bool, "TRUE", True),
        (bool, "0", False),
        (str, "", ""),
        (str, '""', ""),
        (str, " a ", " a "),
        (str, '"a ""b"", c"', 'a "b", c'),
        (str, '5" pipe', '5" pipe'),
        (str, ' "a"', ' "a"'),
        (str, "null", "null"),
        (int | None, "", None),
        (int | None, '""', None),
        (int | None, " \t ", None),
        (bool | None, "", None),
        (str | None, "", None),
        (str | None, '""', ""),
        (datetime.datetime | None, "", None),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_fields_that_fit(kind: Any, field: str, expected: Any, end: str) -> None:
    for data, layout in ((f"x,{field}{end}", ("a", "v")), (f"{field},x{end}", ("v", "b"))):
        assert both_ways(csv_format(v=kind), data.encode(), layout) == [(expected,)]


def test_csv_nan() -> None:
    [(value,)] = both_ways(csv_format(v=float), b"NaN\n", ("v",))
    assert math.isnan(value)


@pytest.mark.parametrize(
    ("kind", "field", "why"),
    [
        (int, "", "column 'v': expected int, got an empty field"),
        (int, "1.0", "column 'v': expected int, got \"1.0\""),
        (int, "5 ", "expected int"),
        (int, "1_0", "expected int"),
        (int, "9223372036854775808", "does not fit 64 bits"),
        (float, "1_0", "expected float"),
        (float, "0x1", "expected float"),
        (bool, "yes", "expected bool"),
        (datetime.datetime, "", "got an empty field"),
        (str, '"a"b', "something follows the closing quote"),
        (str, '"a', "a quoted field is not closed"),
    ],
)
def test_csv_fields_that_do_not_fit(kind: Any, field: str, why: str) -> None:
    assert why in bad(csv_format(v=kind), f"x,{field}\n".encode(), ("a", "v"))


def test_csv_records_of_another_length() -> None:
    format = csv_format(a=str, b=str | None)
    assert both_ways(format, b"1,2\n1\n", ("a", "b")) == [("1", "2")]
    assert both_ways(format, b'"1,",2\n"1,"\n', ("a", "b")) == [("1,", "2")]
    data = b"1\n1,2\n1,\n1,2,3\n,\n"
    assert both_ways(format, data, ("a", "b")) == [("1", "2"), ("1", None), ("", None)]
    errors = [record.error for record in format.examine(data, ("a", "b")).bad]
    assert errors == ["expected 2 fields as in the header, got 1", "expected 2 fields as in the header, got 3"]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("1;2;3\n", "; with the delimiter ';' it would be 3"),
        ("1\t2\t\n", "; with the delimiter '\\t' it would be 3"),
        ('"1,2,3"\n', ""),
        ("1;2\n", ""),
        ("1\n", ""),
    ],
)
def test_a_record_with_another_delimiter(text: str, hint: str) -> None:
    error = bad(csv_format(a=str), text.encode(), ("a", "b", "c"))
    assert error == f"expected 3 fields as in the header, got 1{hint}"


def test_a_header_with_no_delimiter_that_fits() -> None:
    settings = CsvParserSettings(quote="|", enable_quoting=False)
    with pytest.raises(Broken, match=r"there are \['a\|b'\]$"):
        csv_format(None, settings, a=int, b=int).head(b"a|b\n", complete=True)


def test_csv_invalid_utf8_and_blank_lines() -> None:
    format = csv_format(a=str)
    error = bad(format, b"1,\xff\n", ("b", "a"))
    assert error.startswith("not valid UTF-8: ")
    assert error.endswith('; name another encoding, e.g. encoding="cp1252"')
    assert "encoding=" not in bad(csv_format(None, None, "euc_jp", a=str), b"1,\xff\n", ("b", "a"))
    assert both_ways(format, b"\n1,x\n\r\n\n2,y\n", ("b", "a")) == [("x",), ("y",)]


def test_csv_settings() -> None:
    settings = CsvParserSettings(delimiter=";", quote="'", comment_character="#")
    data = b"1;'a;b'\n# it's;not\n2;'c''\n\n#d'\n'3';\"e\"\n"
    expected = [(1, "a;b"), (2, "c'\n\n#d"), (3, '"e"')]
    assert both_ways(csv_format({}, settings, i=int, s=str), data, ("i", "s")) == expected
    escaping = CsvParserSettings(escape="\\", enable_double_quote_escapes=False)
    data = b'1,"a\\"\\\\b,\n"\n2,c\\\n'
    assert both_ways(csv_format({}, escaping, i=int, s=str), data, ("i", "s")) == [(1, 'a"\\b,\n'), (2, "c\\")]
    plain = CsvParserSettings(enable_quoting=False)
    assert both_ways(csv_format({}, plain, s=str), b'1,"a\n2,b"\n', ("i", "s")) == [('"a',), ('b"',)]


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"delimiter": ""}, ValueError),
        ({"delimiter": "::"}, ValueError),
        ({"delimiter": "é"}, ValueError),
        ({"delimiter": '"'}, ValueError),
        ({"quote": "\n"}, ValueError),
        ({"escape": 5}, TypeError),
        ({"delimiter": None}, TypeError),
    ],
)
def test_csv_settings_that_are_none(settings: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match="csv_settings"):
        CsvParserSettings(**settings)


@given(st.lists(st.text('0123456789+-.eEinfNat _"x\t\x0b', max_size=6), min_size=1, max_size=20))
def test_csv_numbers_both_ways_agree(fields: list[str]) -> None:
    data = "".join(f"{field},x\n" for field in fields).encode()
    for kind in (int, float, bool, int | None, float | None, str | None):
        both_ways(csv_format(v=kind), data, ("v", "w"))


@given(
    st.text('ab",\n\r#;', max_size=25), st.sampled_from([CsvParserSettings(), CsvParserSettings(comment_character="#")])
)
def test_csv_scraps_both_ways_agree(text: str, settings: CsvParserSettings) -> None:
    both_ways(csv_format({}, settings, v=str | None, w=str), text.encode() + b"\n", ("v", "w"))
    both_ways(csv_format({}, settings, v=str), text.encode() + b"\n", ("v",))


@given(
    st.text('ab",\n\r#', max_size=25), st.sampled_from([CsvParserSettings(), CsvParserSettings(comment_character="#")])
)
def test_csv_is_cut_where_its_records_end(text: str, settings: CsvParserSettings) -> None:
    format = csv_format({}, settings, v=str)
    data = text.encode()
    cut = format.cut(data)
    assert cut == 0 or data[cut - 1 : cut] == b"\n"
    whole = [format.records(data).between(i, i + 1) for i in range(len(format.records(data)))]
    for end in range(cut + 1):
        first = format.cut(data[:end])
        halves = [*_texts(format, data[:first]), *_texts(format, data[first:])]
        assert halves == whole


def _texts(format: Format, data: bytes) -> list[bytes]:
    records = format.records(data)
    return [records.between(i, i + 1) for i in range(len(records))]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a,b\n1,2\n", r"the header lacks the columns \['v'\] of the schema; there are \['a', 'b'\]"),
        ("v,a,v\n1,2,3\n", r"the header names \['v'\] more than once"),
        ('v,"a\n', "not closed"),
        ("a;v\n1;2\n", r"there are \['a;v'\]. They are there with csv_settings=CsvParserSettings\(delimiter=';'\)"),
        ("a\tv\n1\t2\n", r"They are there with csv_settings=CsvParserSettings\(delimiter='\\t'\)"),
        ("a;b\n1;2\n", r"there are \['a;b'\]$"),
    ],
)
async def test_csv_headers_that_do_not_fit(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(MalformedInput, match=f"a.csv', line 1: .*{why}"):
        await values(tmp_path, csv_format(v=str))


async def test_csv_columns_are_taken_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbf"v\n1",x,w\r\n1,2,3\r\n')
    (tmp_path / "b.csv").write_bytes(b"\n\nw,v\n,y\n")
    (tmp_path / "c.csv").write_bytes(b'w,"v\n1"')
    (tmp_path / "d.csv").write_bytes(b"")
    (tmp_path / "e.csv").write_bytes(b'w,"v\n1"\n4,5\n')
    format = csv_format({"v\n1": "-"}, **{"v\n1": str, "w": int | None})
    assert await values(tmp_path, format) == [("1", 3), ("-", None), ("5", 4)]


# -- CSV in other encodings


TEXTS = {
    "latin-1": "Zoë;naïve\x85",
    "cp1252": "“Zoë” – 5 €",
    "koi8-r": "Привет",
    "euc_jp": "日本語",
    "shift_jis": "ソ表能",
    "gb18030": "日本€",
    "big5": "功蓋許",
}


@pytest.mark.parametrize("encoding", TEXTS)
async def test_csv_in_another_encoding(tmp_path: Path, encoding: str) -> None:
    text = TEXTS[encoding]
    lines = f"k,{text}\n" + "".join(f'{i},"{text}, ""{text}""\n"\n' for i in range(3000))
    (tmp_path / "a.csv").write_bytes(lines.encode(encoding))
    format = csv_format({}, None, encoding, **{"k": int, text: str})
    for size in (1 << 20, 1000):
        found = await values(tmp_path, format, chunk_bytes=size)
        assert found == [(i, f'{text}, "{text}"\n') for i in range(3000)]


@examples(50)
@given(
    st.lists(st.text('aé€","\n#', max_size=6), min_size=1, max_size=12),
    st.sampled_from(["cp1252", "latin-1", "gb18030", "ascii"]),
)
def test_csv_both_ways_agree_in_other_encodings(fields: list[str], encoding: str) -> None:
    data = b"".join(field.encode(encoding, "replace") + b",x\n" for field in fields)
    both_ways(csv_format({}, None, encoding, v=str | None), data, ("v", "w"))


def test_bytes_that_an_encoding_does_not_have() -> None:
    format = csv_format({}, None, "cp1252", v=str)
    data = b"a,caf\xe9\na,\x81\nb,\x80\n"
    assert both_ways(format, data, ("k", "v")) == [("café",), ("€",)]
    [record] = format.examine(data, ("k", "v")).bad
    assert "not valid cp1252: 'charmap' codec can't decode byte 0x81" in record.error


def test_bytes_that_are_utf_8_too_are_read_in_their_encoding() -> None:
    format = csv_format({}, None, "latin-1", v=str)
    assert both_ways(format, "a,Ã©\n".encode("latin-1"), ("k", "v")) == [("Ã©",)]


@pytest.mark.parametrize("encoding", ["cp1252", "gb18030"])
def test_a_long_text_is_decoded_in_pieces(encoding: str) -> None:
    data = "".join(f"{i},é{'€' * (37 * i % 5000)}\n" for i in range(300)).encode(encoding)
    rows = csv_format({}, None, encoding, v=str).parse(data, ("k", "v"))
    assert rows.rows() == [("é" + "€" * (37 * i % 5000),) for i in range(300)]


# -- plain text


def test_plain_text_lines() -> None:
    assert both_ways(TEXT, b'a\n\n b \r\n\r\n"x,\r\n') == [("a",), ("",), (" b ",), ("",), ('"x,',)]
    assert both_ways(TEXT, "\u2028é\x0b\n".encode()) == [("\u2028é\x0b",)]
    assert "not valid UTF-8" in bad(TEXT, b"a\xff\n")


@given(st.lists(st.binary(max_size=4).filter(lambda line: b"\n" not in line), max_size=30))
def test_plain_text_both_ways_agree(lines: list[bytes]) -> None:
    both_ways(TEXT, b"".join(line + b"\n" for line in lines))


def test_a_pointer_is_not_read_from_files() -> None:
    with pytest.raises(Broken, match="cannot be read from a file"):
        json_format(p=DType("pointer")).record(b'{"p":1}', None)
