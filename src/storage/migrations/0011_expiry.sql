-- Certificates that end: renewals that came to nothing, alerts, mail, the calendar.

-- The last SCEP request of each device that was refused. Owner: enroll/refused_renewal.rs
CREATE TABLE refused_renewals (
    enrollment_id TEXT PRIMARY KEY,
    at            INTEGER NOT NULL,
    words         TEXT NOT NULL                -- why
) STRICT;

-- Alerts that were given: each certificate once for each of its days. Owner: expiry/alert.rs
CREATE TABLE alerts (
    certificate TEXT NOT NULL,                 -- SHA-256, hexadecimal
    days        INTEGER NOT NULL,              -- 60, 30, 14, 7, 3 or 1
    at          INTEGER NOT NULL,
    kind        TEXT NOT NULL,                 -- 'device-identity' …
    subject     TEXT NOT NULL,
    not_after   INTEGER NOT NULL,
    words       TEXT NOT NULL,
    PRIMARY KEY (certificate, days)
) STRICT;
CREATE INDEX alerts_by_time ON alerts (at);

-- Mail that waits to be sent, and what became of it. Owner: expiry/outbox.rs
CREATE TABLE outbox_mail (
    id         INTEGER PRIMARY KEY,
    subject    TEXT NOT NULL,
    body       TEXT NOT NULL,
    queued_at  INTEGER NOT NULL,
    due_at     INTEGER,                        -- none: it was sent, or given up
    attempts   INTEGER NOT NULL DEFAULT 0,
    sent_at    INTEGER,
    answer     TEXT                            -- what the server said last
) STRICT;
CREATE INDEX outbox_mail_by_due ON outbox_mail (due_at) WHERE due_at IS NOT NULL;

-- Addresses of the calendar feed. Owner: expiry/feed.rs
CREATE TABLE calendar_feeds (
    id         INTEGER PRIMARY KEY,
    hash       BLOB NOT NULL UNIQUE,           -- SHA-256 of the token in the address
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    revoked_at INTEGER
) STRICT;
