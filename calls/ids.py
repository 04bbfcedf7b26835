"""Ids that sort by the time they were made, so that new rows stand together in every index."""

from uuid import UUID

from uuid_utils import compat


def new_id() -> UUID:
    """Return a new UUID version 7."""
    return compat.uuid7()
