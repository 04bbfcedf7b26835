"""Indexes for ``calls.searching`` that only PostgreSQL has."""

from typing import Any

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

ENDS = [
    "CREATE INDEX conversation_customer_end ON calls_conversation (reverse(customer_number) text_pattern_ops)",
    "CREATE INDEX conversation_did_end ON calls_conversation (reverse(did) text_pattern_ops)",
]
PARTS = "CREATE INDEX conversation_customer_part ON calls_conversation USING gin (customer_number gin_trgm_ops)"


def add(apps: Any, editor: BaseDatabaseSchemaEditor) -> None:
    """Add the indexes; the one of parts only where the database has the extension, which is part of most packages."""
    if editor.connection.vendor != "postgresql":
        return
    for statement in ENDS:
        editor.execute(statement)
    with editor.connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'pg_trgm'")
        has_extension = cursor.fetchone() is not None
    if has_extension:
        editor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        editor.execute(PARTS)


def remove(apps: Any, editor: BaseDatabaseSchemaEditor) -> None:
    """Remove the indexes."""
    if editor.connection.vendor == "postgresql":
        for name in ("customer_end", "did_end", "customer_part"):
            editor.execute(f"DROP INDEX IF EXISTS conversation_{name}")


class Migration(migrations.Migration):
    dependencies = [("calls", "0001_initial")]
    operations = [migrations.RunPython(add, remove)]
