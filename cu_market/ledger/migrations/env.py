"""Runs revisions on the connection that migrate.py hands over, in its transaction.

No logging is configured here: the process that opens a ledger owns its logs.
"""

from __future__ import annotations

from alembic import context

from cu_market.ledger.schema import METADATA, VERSION

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION.name,
    version_table_schema=context.config.attributes["schema"],
)
context.run_migrations()
