"""The user that root runs Postgres as, and which folders that user can reach."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING, NamedTuple

from shared.errors import OperatorError

if TYPE_CHECKING:
    from pathlib import Path


class Account(NamedTuple):
    """A user and a group, by number."""

    uid: int
    gid: int


def postgres_account(data_dir: Path) -> Account | None:
    """Return the account that runs Postgres; None if that is our own, because we are not root.

    Postgres refuses to run as root. An existing data directory is used by its owner.
    """
    if os.geteuid() != 0:
        return None
    if data_dir.is_dir() and (owner := data_dir.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise OperatorError("Postgres refuses to run as root, and there is no user postgres or nobody")


def can_reach(place: Path, account: Account | None) -> bool:
    """Whether the account may pass through every folder on the way to, and into, `place`."""
    if account is None:
        return True
    for folder in (place, *place.parents):
        status = folder.stat()
        if status.st_uid == account.uid:
            needed = 0o100
        elif status.st_gid == account.gid:
            needed = 0o010
        else:
            needed = 0o001
        if not status.st_mode & needed:
            return False
    return True
