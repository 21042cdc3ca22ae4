"""The tables of a MetaStore. Never change a released script; append one."""

from __future__ import annotations

from typing import Final

# A row without key is a reservation: an id, and who is at work on it. AUTOINCREMENT never
# gives an id twice, so that a leftover directory is never taken for a new snapshot's.
MIGRATIONS: Final = (
    """
    CREATE TABLE snapshots (
        id      INTEGER PRIMARY KEY AUTOINCREMENT,
        key     TEXT UNIQUE,
        kind    TEXT CHECK (kind IN ('view', 'active', 'committed')),
        parent  INTEGER REFERENCES snapshots (id),
        labels  TEXT NOT NULL DEFAULT '{}',
        created INTEGER NOT NULL,
        updated INTEGER NOT NULL,
        inodes  INTEGER,
        size    INTEGER,
        delta   INTEGER,
        owner   TEXT,
        token   TEXT NOT NULL,
        state   TEXT NOT NULL CHECK (state IN ('durable', 'pending', 'broken')),
        CHECK ((key IS NULL) = (kind IS NULL)),
        CHECK ((key IS NULL) = (owner IS NOT NULL))
    ) STRICT;
    CREATE INDEX snapshots_by_parent ON snapshots (parent);
    CREATE INDEX snapshots_unfinished ON snapshots (state) WHERE state <> 'durable';
    """,
)
