"""Keys from InfluxDB's line protocol: the first point of a batch names them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http.line_protocol import MAX_SERIES, measurement_of, series_of, tag_of

LINES = [
    # body, measurement, tag "city", series
    (b"weather,city=Linz,room=attic t=21.5 17", "weather", "Linz", "weather,city=Linz,room=attic"),
    (b"weather,room=attic,city=Linz t=21.5", "weather", "Linz", "weather,city=Linz,room=attic"),
    (b"weather t=21.5\n", "weather", None, "weather"),
    (b"a,city=x v=1\nb,city=y v=1", "a", "x", "a,city=x"),
    (b"\n\r\n# a comment, city=no\n  a,city=x v=1", "a", "x", "a,city=x"),
    (b"my\\ place,city=St.\\ P\\,lten v=1", "my place", "St. P,lten", "my\\ place,city=St.\\ P\\,lten"),
    (b"m\\,n,ci\\=ty=no,city=a\\=b v=1", "m,n", "a=b", "m\\,n,ci\\=ty=no,city=a\\=b"),
    (b'\xe2\x84\x83,entity_id=attic,domain=sensor value=21.5,str="on, off"', "℃", None,
     "℃,domain=sensor,entity_id=attic"),
    (b"bad\xff,city=x v=1", "bad�", "x", "bad�,city=x"),
    (b"m=n,city=x v=1", "m=n", "x", "m=n,city=x"),
    (b"m,city=C:\\Temp v=1", "m", "C:\\Temp", "m,city=C:\\Temp"),
    (b"", None, None, None),
    (b"\n\n", None, None, None),
    (b"# only a comment", None, None, None),
    (b"weather", None, None, None),
    (b"weather,city=Linz", None, None, None),
    (b",city=Linz t=1", None, None, None),
    (b"weather,city= t=1", None, None, None),
    (b"weather,=Linz t=1", None, None, None),
    (b"weather,city t=1", None, None, None),
    (b"weather,city=a=b t=1", None, None, None),
    (b"weather,city=Linz,,room=attic t=1", None, None, None),
    (b'{"key":"value"}', None, None, None),
]  # fmt: skip


@pytest.mark.parametrize(("body", "measurement", "city", "series"), LINES)
def test_the_first_point_names_the_key(
    body: bytes, measurement: str | None, city: str | None, series: str | None
) -> None:
    assert (measurement_of(body), tag_of(body, "city"), series_of(body)) == (measurement, city, series)


def test_a_long_series_stays_one_key_and_its_neighbour_another() -> None:
    tags = ",".join(f"tag{n:03}=value" for n in range(100))
    one, other = (series_of(f"m,{tags},z={end} v=1".encode()) for end in "ab")
    assert one is not None
    assert other is not None
    assert one[:MAX_SERIES] == other[:MAX_SERIES]
    assert one != other
    assert len(one) < 512


@pytest.mark.parametrize("body", [b"a" * 2**20, b"a,b=c" * 2**18, b"\\" * 2**20, b"#\n" * 2**19, b" " * 2**20,
                                  b"a," + b"b=c," * 2**18])  # fmt: skip
def test_a_hostile_megabyte_is_seen_through_at_once(body: bytes) -> None:
    began = time.process_time()
    assert series_of(body) is None
    assert time.process_time() - began < 1, "not in a time that grows with the square of its length"


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\\\n"), min_size=1, max_size=8)


def escaped(text: str, special: str) -> str:
    return "".join("\\" + c if c in special else c for c in text)


@given(NAMES.filter(lambda name: name[0] not in "#\t\r"), st.dictionaries(NAMES, NAMES, max_size=4))
def test_what_a_writer_escapes_is_read_back(measurement: str, tags: dict[str, str]) -> None:
    line = escaped(measurement, ", ")
    line += "".join(f",{escaped(name, ',= ')}={escaped(value, ',= ')}" for name, value in tags.items()) + " v=1"
    assert measurement_of(line.encode()) == measurement
    for name, value in tags.items():
        assert tag_of(line.encode(), name) == value
