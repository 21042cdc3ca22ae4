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
    """
    CREATE TABLE leases (
        id       TEXT PRIMARY KEY,
        owner    TEXT NOT NULL,
        labels   TEXT NOT NULL,
        created  INTEGER NOT NULL,
        wall     INTEGER NOT NULL,
        running  INTEGER NOT NULL,
        boot     TEXT NOT NULL,
        lifetime INTEGER
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE lease_resources (
        lease TEXT NOT NULL REFERENCES leases (id) ON DELETE CASCADE,
        kind  TEXT NOT NULL,
        id    TEXT NOT NULL,
        PRIMARY KEY (lease, kind, id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX lease_resources_by_id ON lease_resources (kind, id);

    CREATE TABLE condemned (
        kind      TEXT NOT NULL,
        id        TEXT NOT NULL,
        collector TEXT NOT NULL,
        created   INTEGER NOT NULL,
        PRIMARY KEY (kind, id)
    ) STRICT, WITHOUT ROWID;

    ALTER TABLE images ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
    """,
)
