"""The tree of errors."""

from __future__ import annotations

import pytest

from shared.errors import AybError, OperatorError, PositionError, SchemaError, first_error


class BareError(AybError):
    pass


def test_the_docstring_is_the_message() -> None:
    """An error raised without a message carries its class's docstring; a subclass inherits one."""
    assert str(PositionError()) == PositionError.__doc__
    assert str(BareError()) == AybError.__doc__
    assert str(PositionError("given")) == "given"


def test_operators_errors_are_found_by_their_kind() -> None:
    """What an operator can mend is caught as OperatorError, a bad position is not."""
    assert issubclass(SchemaError, OperatorError)
    assert not issubclass(PositionError, OperatorError)


def test_the_first_error_of_nested_groups() -> None:
    """Groups within groups are opened up to the first error that is none."""
    inner = SchemaError("first")
    group = BaseExceptionGroup(
        "tasks", [ExceptionGroup("more", [inner, ValueError()]), KeyboardInterrupt()]
    )
    assert first_error(group) is inner
    assert first_error(inner) is inner
    with pytest.raises(SchemaError):
        raise first_error(group)
