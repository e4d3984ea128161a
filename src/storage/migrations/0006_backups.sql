-- Backups, and the key that opens them.

-- How the last backups ended. Owner: backup/kept.rs
CREATE TABLE backups (
    id           INTEGER PRIMARY KEY,
    name         TEXT NOT NULL,                -- of the file; empty where there is none
    at           INTEGER NOT NULL,
    size         INTEGER NOT NULL,             -- bytes
    verified     INTEGER NOT NULL,             -- 1: it was opened again
    milliseconds INTEGER NOT NULL,             -- how long it took
    error        TEXT                          -- why there is none
) STRICT;

-- The recovery key's public half: one row. Owner: backup/recovery_key.rs
CREATE TABLE recovery_key (
    id              INTEGER PRIMARY KEY CHECK (id = 1),
    public_key      TEXT NOT NULL,             -- age1…
    made_at         INTEGER NOT NULL,
    written_down_at INTEGER,                   -- when somebody said so
    sealing_key_of  TEXT                       -- hash of the two keys that sealing-key.age was made of
) STRICT;
