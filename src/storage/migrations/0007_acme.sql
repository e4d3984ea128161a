-- Certificates by ACME (RFC 8555).

-- The account at each directory. Owner: acme/kept.rs
CREATE TABLE acme_accounts (
    directory   TEXT PRIMARY KEY,              -- the URL of the ACME server's directory
    credentials BLOB NOT NULL,                 -- sealed JSON: the account's address and key
    contact     TEXT,                          -- the mail address that it was made with
    made_at     INTEGER NOT NULL
) STRICT;

-- What was issued; the newest of a host is in use. Owner: acme/kept.rs
CREATE TABLE acme_certificates (
    id          INTEGER PRIMARY KEY,
    host        TEXT NOT NULL,
    directory   TEXT NOT NULL,
    chain       TEXT NOT NULL,                 -- PEM, the leaf first
    private_key BLOB NOT NULL,                 -- sealed PKCS#8
    not_before  INTEGER NOT NULL,
    not_after   INTEGER NOT NULL,
    obtained_at INTEGER NOT NULL,
    renew_at    INTEGER NOT NULL,              -- when it is to be replaced
    asked_at    INTEGER NOT NULL               -- when the CA is to be asked again for that time (RFC 9773)
) STRICT;

-- How each attempt ended. Owner: acme/attempt.rs
CREATE TABLE acme_attempts (
    id      INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    host    TEXT NOT NULL,
    words   TEXT NOT NULL,                     -- a sentence
    failed  INTEGER NOT NULL,                  -- 1: there is no certificate from it
    next_at INTEGER NOT NULL                   -- when it is tried again, or renewed
) STRICT;
