-- Software updates: what groups are to be updated to, and what Apple offers.

-- The update policies of groups. Owner: ddm/update/policy.rs
CREATE TABLE update_policies (
    group_name TEXT PRIMARY KEY,
    policy     TEXT NOT NULL,                  -- JSON, as it was sent
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    updated_by TEXT NOT NULL
) STRICT;

-- Apple's catalogue of operating systems, as it was read last: one row. Owner: ddm/update/kept.rs
CREATE TABLE update_catalogue (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    releases   TEXT NOT NULL,                  -- JSON: what of the catalogue is used, in order
    skipped    INTEGER NOT NULL,               -- how many of its entries could not be used
    source     TEXT,                           -- a URL, a path, or who uploaded it
    fetched_at INTEGER,                        -- when it was last read and in order
    digest     TEXT,                           -- SHA-256 of the document that was followed last
    error      TEXT,                           -- why the last attempt failed, as a sentence
    error_at   INTEGER
) STRICT;
INSERT INTO update_catalogue VALUES (1, '[]', 0, NULL, NULL, NULL, NULL, NULL);
