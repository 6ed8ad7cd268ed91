"""`python -m relay roles`: the SQL that creates the logins and grants their rights."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_DEFAULT: Final = "SET ayb.schemas = 'public';"


def roles_script(schemas: Sequence[str] = ("public",)) -> str:
    """Return the script, for the schemas whose tables are to be captured."""
    script = files("relay.schema").joinpath("roles.sql").read_text("utf-8")
    names = ",".join(schemas).replace("'", "''")
    return script.replace(_DEFAULT, f"SET ayb.schemas = '{names}';")
