-- What is told to others by webhook, until it was told.

-- In the order in which it happened. Owner: mdm/outbox.rs
CREATE TABLE outbox (
    id            INTEGER PRIMARY KEY,         -- the order
    uid           TEXT NOT NULL,               -- by which a receiver knows what comes twice
    at            INTEGER NOT NULL,
    topic         TEXT NOT NULL,               -- e.g. 'mdm.Connect', 'event.enrolled'
    enrollment_id TEXT,
    body          BLOB NOT NULL,               -- JSON as it is sent
    sealed        INTEGER NOT NULL,            -- 1: the body is sealed, since a device's secrets may be in it
    attempts      INTEGER NOT NULL DEFAULT 0   -- how often the target refused this very body
) STRICT;
CREATE INDEX outbox_by_enrollment ON outbox (enrollment_id, id) WHERE enrollment_id IS NOT NULL;

-- How the deliveries go: one row. Owner: mdm/outbox.rs
CREATE TABLE outbox_state (
    id              INTEGER PRIMARY KEY CHECK (id = 1),
    format          TEXT,                      -- 'russet' | 'micromdm'; none: nobody is told
    waiting         INTEGER NOT NULL DEFAULT 0,
    bytes           INTEGER NOT NULL DEFAULT 0,
    attempts        INTEGER NOT NULL DEFAULT 0, -- in a row without a success
    next_try_at     INTEGER NOT NULL DEFAULT 0,
    last_success_at INTEGER,
    last_failure_at INTEGER,
    last_failure    TEXT,                      -- a sentence
    dropped         INTEGER NOT NULL DEFAULT 0, -- how many were lost, ever
    dropped_at      INTEGER,                   -- the last of them
    dropped_told    INTEGER NOT NULL DEFAULT 0 -- 1: an event tells of it; until the next success
) STRICT;
INSERT INTO outbox_state (id) VALUES (1);

-- How many TokenUpdates each channel sent since it enrolled, for receivers of MicroMDM's bodies. Owner: mdm/outbox.rs
CREATE TABLE token_updates (
    enrollment_id TEXT PRIMARY KEY,
    tally         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
