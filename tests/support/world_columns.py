"""The columns of random tables: their types, and values worth trying."""

from __future__ import annotations

import uuid

USERS = [str(uuid.UUID(f"00000000-0000-4000-8000-00000000000{n}")) for n in range(1, 5)]

COLUMNS = {
    "uid": ("uuid", [*(f"'{u}'" for u in USERS), "NULL"]),
    "num": ("integer", ["0", "1", "2", "3", "4", "NULL"]),
    "big": ("bigint", ["9007199254740993", "-1", "2", "NULL"]),
    "amount": ("numeric", ["0.1234567890123456789012345", "2", "'NaN'", "NULL"]),
    "ratio": ("double precision", ["'NaN'", "'-Infinity'", "0.1", "2", "NULL"]),
    "text": ("text", ["'a@example.com'", "'b@example.com'", "''", "'It''s {0} \"x\" % $1'",
                      f"'{USERS[0]}'", "E'line\\nbreak'", "NULL"]),
    "flag": ("boolean", ["true", "false", "NULL"]),
    "stamp": ("timestamptz", ["'2020-01-01 00:00:00.123456+02'", "'2999-01-01'", "'infinity'",
                              "NULL"]),
    "day": ("date", ["'2020-01-01'", "'2999-01-01'", "'-infinity'", "NULL"]),
    "span": ("interval", ["'1 day -2 hours'", "'-1 mons +3 days'", "NULL"]),
    "doc": ("jsonb", ["'{\"sub\": \"a@example.com\", \"level\": 2}'", "'[]'", "'{\"sub\": null}'",
                      "'null'", "NULL"]),
    "raw": ("json", ["'{\"sub\":  \"b@example.com\"}'", "'{}'", "NULL"]),
    "tags": ("text[]", ["'{a@example.com,b@example.com}'", "'{}'", "'{NULL,\"x\\\"y\"}'", "NULL"]),
    "state": ("state", ["'draft'", "'in review'", "'it''s out'", "NULL"]),
    "size": ('"odd schema"."Size"', ["'S'", "'M'", "NULL"]),
    "tag": ("tag", ["'a@example.com'", "'x'", "NULL"]),
    "pair": ("pair", ["'(1,a@example.com)'", "'(,)'", "NULL"]),
    "net": ("inet", ["'10.0.0.1'", "'10.0.0.0/8'", "NULL"]),
    "raw_bytes": ("bytea", ["'\\x00ff'", "NULL"]),
    "range": ("int4range", ["'[1,3)'", "'empty'", "NULL"]),
    "mood": ("mood", ["'low'", "'high'", "NULL"]),
    "fixed": ("character(3)", ["'a'", "'abc'", "NULL"]),
    "local": ("timestamp", ["'2020-01-01 00:00:00.5'", "'2999-01-01'", "'-infinity'", "NULL"]),
    "clock": ("time", ["'00:00:00.000001'", "'23:59:60'", "NULL"]),
    "digits": ("numeric(6, 2)", ["1", "0.30", "-9999.99", "NULL"]),
    "single": ("real", ["0.1", "3.4028235e38", "'-0'", "NULL"]),
    "marks": ("state[]", ["'{draft,\"in review\"}'", "'{}'", "'{NULL}'", "NULL"]),
    "list": ("numbers", ["'{1,2}'", "'{}'", "'{{1},{2}}'", "NULL"]),
    "nested": ("nested", ["'(\"(1,a@example.com)\",2020-01-01,draft)'", "'(,,)'", "NULL"]),
    "multi": ("int4multirange", ["'{[1,2),[5,9)}'", "'{}'", "NULL"]),
    "bits": ("bit(3)", ["'101'", "'000'", "NULL"]),
    "docs": ("jsonb[]", ["ARRAY['{\"level\": 2}', '[]']::jsonb[]", "'{}'", "NULL"]),
}  # fmt: skip
"""By kind: the type, and literals."""

EXTENSIONS = {
    "hstore": {
        "hstore": ("hstore", ["'owner=>a@example.com, public=>1'", "'owner=>NULL'", "''", "NULL"]),
    },
    "citext": {"citext": ("citext", ["'A@Example.com'", "'b@example.com'", "''", "NULL"])},
    "ltree": {"ltree": ("ltree", ["'top.science'", "'top.arts.a'", "''", "NULL"])},
    "postgis": {
        "shape": ("geometry", ["'POINT(1 2)'", "'LINESTRING(0 0,1 1)'", "'POINT EMPTY'",
                               "'POLYGON((0 0,0 5,5 5,5 0,0 0))'", "NULL"]),
        "spot": ("geometry(PointZM, 4326)", ["'SRID=4326;POINT ZM(1 2 3 4)'",
                                             "'SRID=4326;POINT ZM(1 2 3 5)'", "NULL"]),
        "arc": ("geometry", ["'CIRCULARSTRING(0 0,1 1,2 0)'", "'POINT(1 0)'",
                             "'LINESTRING(0 0,2 0)'", "NULL"]),
        "place": ("geography", ["'POINT(1 2)'", "'POINT(0.1 0.2)'",
                                "'POLYGON((0 0,0 5,5 5,5 0,0 0))'", "NULL"]),
    },
}  # fmt: skip
"""By extension, which not every server has: kinds of columns."""
