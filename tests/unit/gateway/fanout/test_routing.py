"""Who gets which frame of a change, given the answer about its images."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.fanout.dispatch import Dispatch
from gateway.fanout.routing import (
    Kind,
    Subject,
    images_to_ask,
    kind_of,
    route,
    route_to_all,
)
from gateway.streams.cursor import cursor_at
from gateway.visibility.answer import EVERYBODY, NOBODY, Answer, Visible
from gateway.visibility.cohorts import Grouping
from gateway.visibility.rules import Rules
from shared.change import Change, Op, TableChanges
from shared.position import Position
from tests.unit.gateway.fanout.test_subscriptions import connection

STAYER, LEAVER, OTHER = (connection("public.a", leave=leave) for leave in (False, True, True))
NAMES = {STAYER: "stayer", LEAVER: "leaver", OTHER: "other"}
MEMBERS = [[STAYER], [LEAVER], [OTHER]]
COLUMNS = frozenset({"id", "x"})

NEW, OLD = '{"id":1,"x":2,"secret":3}', '{"id":1,"x":1,"secret":3}'
REKEYED = '{"id":9,"x":1,"secret":3}'


def subject(
    op: Op, new: str | None = None, old: str | None = None, *, index: int = 0, **flags: bool
) -> Subject:
    change = Change(
        index,
        7,
        op,
        msgspec.Raw(new.encode()) if new else msgspec.Raw(b"null"),
        msgspec.Raw(old.encode()) if old else msgspec.Raw(b"null"),
        **flags,
    )
    return Subject.of(1, 5, TableChanges("public.a", 1, ("id",), (change,)), change)


def answer(*visible: Visible, **more: Any) -> Answer[Any]:
    grouping = Grouping((), [()] * len(MEMBERS), MEMBERS)
    return Answer(**{"columns": COLUMNS, "grouping": grouping, "visible": visible, **more})


def sent(dispatches: Any) -> list[tuple[str, set[str]]]:
    """Frames as text without their ids' lines, and who gets them."""
    return [
        (
            d.frame.decode().replace("\n\n", "").replace("\n", " "),
            {NAMES[c] for g in d.groups for c in g},
        )
        for d in dispatches
    ]


def asked(one: Subject, *, deletes: str = "all") -> Subject:
    """Number the images that are asked about, as delivery does."""
    new, old = images_to_ask(one, {}, wants_leaves=True, deletes=deletes)  # type: ignore[arg-type]
    one.new = 0 if new else None
    one.old = (1 if new else 0) if old else None
    return one


ALL = {"stayer", "leaver", "other"}
CREATE = 'id: 5-0 data: {"action":"create","table":"a","record":{"id":1,"x":2}}'
UPDATE = 'id: 5-0 data: {"action":"update","table":"a","record":{"id":1,"x":2}}'
DELETE = 'id: 5-0 data: {"action":"delete","table":"a","record":{"id":1}}'
LOST = 'event: resync id: 5-0 data: {"reason":"overflow","tables":["a"]}'
TRUNCATE = 'event: truncate id: 5-0 data: {"table":"a"}'
OLD_KEY = 'data: {"action":"delete","table":"a","record":{"id":1}}'
NEW_KEY = 'id: 5-0 data: {"action":"create","table":"a","record":{"id":9,"x":1}}'


@pytest.mark.parametrize(
    ("change", "visible", "expected"),
    [
        (subject(Op.CREATE, NEW), [frozenset({0})], [(CREATE, {"stayer"})]),
        (subject(Op.CREATE, NEW), [EVERYBODY], [(CREATE, ALL)]),
        (subject(Op.CREATE, NEW), [NOBODY], []),
        (
            subject(Op.UPDATE, NEW, OLD),
            [frozenset({0}), frozenset({0, 1})],
            [(UPDATE, {"stayer"}), (DELETE, {"leaver"})],
        ),
        (subject(Op.UPDATE, NEW, OLD), [NOBODY, EVERYBODY], [(DELETE, {"leaver", "other"})]),
        (subject(Op.UPDATE, NEW, OLD), [EVERYBODY, EVERYBODY], [(UPDATE, ALL)]),
        (
            subject(Op.UPDATE, NEW, OLD),
            [frozenset({2}), EVERYBODY],
            [(UPDATE, {"other"}), (DELETE, {"leaver"})],
        ),
        (subject(Op.DELETE, old=OLD), [], [(DELETE, ALL)]),
        (subject(Op.TRUNCATE), [], [(TRUNCATE, ALL)]),
        (subject(Op.CREATE, lost=True), [], [(LOST, ALL)]),
        (
            subject(Op.UPDATE, REKEYED, OLD),
            [frozenset({1})],
            [
                (OLD_KEY + NEW_KEY, {"leaver"}),
                (DELETE, {"stayer", "other"}),
            ],
        ),
        (subject(Op.UPDATE, REKEYED, OLD), [EVERYBODY], [(OLD_KEY + NEW_KEY, ALL)]),
        (subject(Op.UPDATE, REKEYED, OLD), [NOBODY], [(DELETE, ALL)]),
    ],
)
def test_frames_and_their_recipients(
    change: Subject, visible: list[Visible], expected: list[tuple[str, set[str]]]
) -> None:
    """With deletes for everyone: rows go to those who see them, keys of deleted rows to all."""
    judged = route("public.a", [asked(change)], answer(*visible), "all")
    assert sent(judged.dispatches) == expected
    assert judged.notices == []


@pytest.mark.parametrize(
    ("change", "visible", "expected"),
    [
        (subject(Op.DELETE, old=OLD), [frozenset({2})], [(DELETE, {"other"})]),
        (subject(Op.DELETE, old=OLD), [NOBODY], []),
        (
            subject(Op.UPDATE, REKEYED, OLD),
            [frozenset({0, 1}), frozenset({1, 2})],
            [(OLD_KEY + NEW_KEY, {"leaver"}), (NEW_KEY, {"stayer"}), (DELETE, {"other"})],
        ),
        (
            subject(Op.UPDATE, REKEYED, OLD),
            [EVERYBODY, frozenset({1})],
            [(OLD_KEY + NEW_KEY, {"leaver"}), (NEW_KEY, {"stayer", "other"})],
        ),
    ],
)
def test_deletes_for_those_who_saw_the_row(
    change: Subject, visible: list[Visible], expected: list[tuple[str, set[str]]]
) -> None:
    """With `visible`, the old image decides who learns that a row or a key is gone."""
    judged = route("public.a", [asked(change, deletes="visible")], answer(*visible), "visible")
    assert sent(judged.dispatches) == expected


def test_a_truncated_row_is_its_key() -> None:
    """A row that is too large arrives as its key columns, and says so."""
    change = asked(subject(Op.CREATE, '{"id":1}', truncated=True))
    assert change.new is None, "its whole image is not to be had"
    change.new = 0
    [dispatch] = route("public.a", [change], answer(EVERYBODY), "all").dispatches
    assert dispatch.frame.endswith(b'"record":{"id":1},"truncated":true}\n\n')


def test_what_cannot_be_judged_is_lost() -> None:
    """An image that is missing, undecidable, or may mean other columns: everyone fetches again."""
    rules = Rules("public", "a", bypass=False, columns=(), reused={"x": 100})
    for one, reply, deletes in (
        (asked(subject(Op.CREATE, NEW)), answer(NOBODY, undecidable=frozenset({0})), "all"),
        (asked(subject(Op.CREATE, NEW)), answer(EVERYBODY, rules=rules), "all"),
        (subject(Op.CREATE), answer(), "all"),
        (subject(Op.DELETE), answer(), "visible"),
        (subject(Op.DELETE), answer(), "all"),
        (asked(subject(Op.UPDATE, REKEYED, OLD)), answer(EVERYBODY), "visible"),
    ):
        judged = route("public.a", [one], reply, deletes)  # type: ignore[arg-type]
        assert sent(judged.dispatches) == [(LOST, ALL)], one


def test_an_image_that_is_no_json_is_lost() -> None:
    """What cannot be rendered is reported as lost, for rows and for keys."""
    for one in (subject(Op.CREATE, "{"), subject(Op.DELETE, old="{"), subject(Op.UPDATE, "{", "{")):
        judged = route_to_all([one], MEMBERS)
        assert sent(judged.dispatches) == [(LOST, ALL)]


def test_lost_changes_that_follow_each_other_are_one_frame() -> None:
    """To fetch again once will do: the frame stands for the run, and has no position."""
    run = [subject(Op.CREATE, index=n, lost=True) for n in range(3)]
    other = asked(subject(Op.CREATE, NEW, index=3))
    judged = route("public.a", [*run, other], answer(EVERYBODY), "all")
    first, second = judged.dispatches
    assert first.cursor == cursor_at(Position(1, 5, 0))
    assert first.until == cursor_at(Position(1, 5, 2))
    assert first.frame == b'event: resync\ndata: {"reason":"overflow","tables":["a"]}\n\n'
    assert second.cursor == cursor_at(Position(1, 5, 3))


def test_a_table_that_is_gone_is_one_resync() -> None:
    """Nobody can be asked who may see the changes."""
    changes = [subject(Op.CREATE, NEW, index=n) for n in range(2)]
    [dispatch] = route("public.a", changes, answer(is_gone=True), "all").dispatches
    assert dispatch.is_resync
    assert dispatch.until == cursor_at(Position(1, 5, 1))


def test_errors_are_returned_not_written() -> None:
    """No readable column, or a policy that raises for a cohort: a notice for those concerned."""
    judged = route("public.a", [asked(subject(Op.CREATE, NEW))], answer(columns=frozenset()), "all")
    [notice] = judged.notices
    assert (notice.table, notice.message) == ("public.a", "permission denied for table: a")
    assert (notice.groups, judged.dispatches) == (MEMBERS, ())
    broken = answer(frozenset({0}), broken={2: "a policy raises"})
    judged = route("public.a", [asked(subject(Op.CREATE, NEW))], broken, "all")
    [notice] = judged.notices
    assert (notice.message, notice.groups) == ("a policy raises", [[OTHER]])
    assert sent(judged.dispatches) == [(CREATE, {"stayer"})]


def test_unfiltered_changes_keep_every_column() -> None:
    """With authentication off everyone gets the image as it is."""
    changes = [subject(Op.UPDATE, NEW, OLD), subject(Op.UPDATE, REKEYED, OLD, index=1)]
    first, second = route_to_all(changes, MEMBERS).dispatches
    assert first.frame.endswith(b'"record":' + NEW.encode() + b"}\n\n")
    assert second.frame.startswith(OLD_KEY.encode())
    assert second.frame.endswith(b'"record":' + REKEYED.encode() + b"}\n\n")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (Change(0, 1, Op.TRUNCATE), Kind.TRUNCATE),
        (Change(0, 1, Op.DELETE, lost=True), Kind.LOST),
        (Change(0, 1, Op.DELETE, old=msgspec.Raw(b'{"id":1}')), Kind.DELETE),
        (Change(0, 1, Op.UPDATE, msgspec.Raw(b'{"id":1}'), msgspec.Raw(b'{"id":2}')), Kind.REKEY),
        (Change(0, 1, Op.UPDATE, msgspec.Raw(b'{"id":1}'), msgspec.Raw(b'{"id":1}')), Kind.SAVE),
        (Change(0, 1, Op.UPDATE, msgspec.Raw(b'{"id":1}')), Kind.SAVE),
        (Change(0, 1, Op.UPDATE, msgspec.Raw(b"{"), msgspec.Raw(b"{}")), Kind.SAVE),
        (Change(0, 1, Op.CREATE, msgspec.Raw(b'{"id":1}')), Kind.SAVE),
    ],
)
def test_the_kind_of_a_change(change: Change, kind: Kind) -> None:
    """Decided by operation and images; a changed key makes an update two changes."""
    assert kind_of(change, ("id",)) is kind


def test_a_table_without_a_key_is_never_rekeyed() -> None:
    """Without a primary key there is no key to change."""
    change = Change(0, 1, Op.UPDATE, msgspec.Raw(b'{"x":1}'), msgspec.Raw(b'{"x":2}'))
    assert kind_of(change, ()) is Kind.SAVE


@pytest.mark.parametrize(
    ("one", "leaves", "deletes", "new", "old"),
    [
        (subject(Op.UPDATE, NEW, OLD), False, "all", NEW, None),
        (subject(Op.UPDATE, NEW, OLD), True, "all", NEW, OLD),
        (subject(Op.CREATE, NEW), True, "visible", NEW, None),
        (subject(Op.UPDATE, REKEYED, OLD), True, "all", REKEYED, None),
        (subject(Op.UPDATE, REKEYED, OLD), False, "visible", REKEYED, OLD),
        (subject(Op.DELETE, old=OLD), True, "all", None, None),
        (subject(Op.DELETE, old=OLD), True, "visible", None, OLD),
        (subject(Op.TRUNCATE), True, "visible", None, None),
    ],
)
def test_the_images_asked_about(
    one: Subject, leaves: bool, deletes: Any, new: str | None, old: str | None
) -> None:
    """Only images on which a subscriber depends are asked about."""
    asked = images_to_ask(one, {}, wants_leaves=leaves, deletes=deletes)
    assert asked == (new and new.encode(), old and old.encode())


def test_whole_images_stand_for_truncated_ones() -> None:
    """Policies may read all of a row, so its whole image is asked about, if it is still there."""
    one = subject(Op.UPDATE, '{"id":1}', '{"id":1}', truncated=True)
    whole = {(1, 7): (b"new", b"old")}
    assert images_to_ask(one, whole, wants_leaves=True, deletes="all") == (b"new", b"old")
    assert images_to_ask(one, {}, wants_leaves=True, deletes="all") == (None, None)


def test_only_resyncs_for_the_same_connections_are_one_run() -> None:
    """A data frame, or other recipients, end a run."""
    lost = Dispatch(cursor_at(Position(1, 5, 0)), b"event: resync\n", MEMBERS)
    assert lost.is_continued_by(Dispatch(cursor_at(Position(1, 5, 1)), b"event: resync\n", MEMBERS))
    assert not lost.is_continued_by(Dispatch(lost.cursor, b"id: 5-1\n", MEMBERS))
    assert not lost.is_continued_by(Dispatch(lost.cursor, b"event: resync\n", [[STAYER]]))


def test_who_was_not_answered_is_asked_to_fetch_again() -> None:
    """A cohort for which the server failed gets one resync for the whole run, and no denial."""
    first = asked(subject(Op.CREATE, NEW))
    second = asked(subject(Op.CREATE, NEW, index=1))
    second.new = 1
    only_other = frozenset({2})
    judged = route(
        "public.a",
        [first, second],
        answer(only_other, only_other, broken={0: "unavailable"}, unanswered=frozenset({0})),
        "all",
    )
    resync, *rest = judged.dispatches
    assert sent([resync]) == [
        ('event: resync data: {"reason":"overflow","tables":["a"]}', {"stayer"})
    ]
    assert resync.until == cursor_at(second.position)
    assert [groups for _, groups in sent(rest)] == [{"other"}, {"other"}]
    assert [notice.message for notice in judged.notices] == ["unavailable"]
