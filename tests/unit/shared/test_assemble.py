"""From rows of the outbox to changes."""

from __future__ import annotations

from shared.change import Op
from shared.outbox import Captured, assemble

POSTS = Captured(1, "public.posts", ("id",), ("at",))
OTHER = Captured(2, "public.other", (), ())


def row(
    index: int,
    relid: int,
    op: str = "I",
    new: bytes | None = b"{}",
    old: bytes | None = None,
    *,
    truncated: bool = False,
) -> dict[str, object]:
    return {
        "index": index,
        "seq": index + 100,
        "relid": relid,
        "op": op,
        "new": new,
        "old": old,
        "truncated": truncated,
    }


def test_by_table_in_order() -> None:
    """Changes stand by table, tables in the order of their first change, with their numbers."""
    tables = assemble([row(0, 2), row(1, 1), row(2, 2)], [POSTS, OTHER])
    assert [(t.table, [c.index for c in t.changes]) for t in tables] == [
        ("public.other", [0, 2]),
        ("public.posts", [1]),
    ]


def test_unknown_tables_keep_their_numbers() -> None:
    """Rows of a table that is gone are left out, and the others keep their numbers."""
    (table,) = assemble([row(0, 9), row(1, 1), row(2, 9), row(3, 1)], [POSTS, OTHER])
    assert [c.index for c in table.changes] == [1, 3]


def test_images() -> None:
    """Images are rendered; a missing one, or one that cannot be read, counts as lost."""
    stamped = b'{"at":"2026-01-01T00:00:00+00:00"}'
    deep = b'{"j":%b%b}' % (b"[" * 500, b"]" * 500)
    (table,) = assemble(
        [
            row(0, 1, "U", stamped, stamped),
            row(1, 1, "D", None, b'{"id":1}', truncated=True),
            row(2, 1, "I", None, None),
            row(3, 1, "U", deep, b"{}"),
            row(4, 1, "T", None, None),
        ],
        [POSTS],
    )
    assert [(c.op, c.new_image, c.old_image, c.truncated, c.lost) for c in table.changes] == [
        (
            Op.UPDATE,
            b'{"at":"2026-01-01T00:00:00Z"}',
            b'{"at":"2026-01-01T00:00:00Z"}',
            False,
            False,
        ),
        (Op.DELETE, None, b'{"id":1}', True, False),
        (Op.CREATE, None, None, False, True),
        (Op.UPDATE, None, None, False, True),
        (Op.TRUNCATE, None, None, False, False),
    ]
