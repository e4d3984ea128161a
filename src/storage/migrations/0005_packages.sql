-- Packages and apps, the addresses at which devices fetch them, and sets of apps that are switched.

-- Packages and in-house apps; their bytes are contents. Owner: library/package/mod.rs
CREATE TABLE packages (
    identifier TEXT PRIMARY KEY,
    summary    TEXT NOT NULL,                  -- JSON: what was read from it
    hashes     BLOB NOT NULL,                  -- SHA-256 of each 10 MiB, 32 bytes each
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    updated_by TEXT NOT NULL
) STRICT;

-- Addresses that were given to one channel each. Owner: ddm/personal_address.rs
CREATE TABLE addresses (
    id            INTEGER PRIMARY KEY,         -- the order in which they were given
    token_hash    BLOB NOT NULL UNIQUE,        -- SHA-256 of what stands in the address
    enrollment_id TEXT NOT NULL,
    package       TEXT NOT NULL,
    by_command    INTEGER NOT NULL,            -- 1: a command had it, whatever is declared
    expires_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX addresses_by_enrollment ON addresses (enrollment_id, package);

-- How often a channel has to be given a new address of a package. Owner: ddm/personal_address.rs
CREATE TABLE address_renewals (
    enrollment_id TEXT NOT NULL,
    package       TEXT NOT NULL,
    renewals      INTEGER NOT NULL,
    PRIMARY KEY (enrollment_id, package)
) STRICT, WITHOUT ROWID;

-- Sets of declarations that are switched together. Owner: ddm/app_set.rs
CREATE TABLE app_sets (
    name         TEXT PRIMARY KEY,
    description  TEXT NOT NULL,
    groups       TEXT NOT NULL,                -- JSON: names
    declarations TEXT NOT NULL,                -- JSON: identifiers
    active       INTEGER,                      -- 1 or 0 by hand; nothing: by the times
    active_from  INTEGER,
    active_until INTEGER,
    is_active    INTEGER NOT NULL,             -- what devices are told
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    updated_by   TEXT NOT NULL
) STRICT;
