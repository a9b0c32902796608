"""Channels to workers that are reached through the database alone.

Their content is kept by both ends until the other has it, so PostgreSQL need not keep it: UNLOGGED
tables cost no write-ahead log and no sync, and a server that crashed has them empty.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def _names(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, _NAME, nullable=False) for name in names]


def upgrade() -> None:
    is_postgres = op.get_bind().dialect.name == "postgresql"
    prefixes = ["UNLOGGED"] if is_postgres else []
    op.create_table(
        "channels",
        *_names("channel", "run_id", "link", "taker"),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("channel"),
        prefixes=prefixes,
    )
    op.create_index("ix_channels_run_id", "channels", ["run_id"])
    op.create_table(
        "parcels",
        *_names("link", "sender"),
        sa.Column("number", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("link", "sender", "number"),
        prefixes=prefixes,
    )


def downgrade() -> None:
    op.drop_table("parcels")
    op.drop_table("channels")
