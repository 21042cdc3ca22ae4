"""The tables of a node's database. Never change a released script; append one.

Times are nanoseconds since the epoch, labels and the like are JSON objects.
"""

from __future__ import annotations

from typing import Final

MIGRATIONS: Final = (
    """
    CREATE TABLE images (
        name        TEXT PRIMARY KEY,
        media_type  TEXT NOT NULL,
        digest      TEXT NOT NULL,
        size        INTEGER NOT NULL,
        annotations TEXT NOT NULL,
        platform    TEXT NOT NULL,
        urls        TEXT NOT NULL,
        labels      TEXT NOT NULL,
        created     INTEGER NOT NULL,
        updated     INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX images_by_digest ON images (digest);

    CREATE TABLE content (
        digest  TEXT PRIMARY KEY,
        size    INTEGER,
        labels  TEXT NOT NULL,
        created INTEGER NOT NULL,
        updated INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE mounts (
        id          INTEGER PRIMARY KEY AUTOINCREMENT,
        target      TEXT NOT NULL,
        image       TEXT NOT NULL,
        snapshotter TEXT NOT NULL,
        key         TEXT NOT NULL,
        boot        TEXT NOT NULL,
        namespace   INTEGER NOT NULL,
        rw          INTEGER NOT NULL CHECK (rw IN (0, 1)),
        created     INTEGER NOT NULL,
        UNIQUE (snapshotter, key)
    ) STRICT;
    CREATE INDEX mounts_by_target ON mounts (target);

    CREATE TABLE snapshotters (
        name    TEXT PRIMARY KEY,
        options TEXT NOT NULL,
        created INTEGER NOT NULL,
        updated INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
)
