-- Bytes that declarations point to, and what is known of them.

-- Bytes that this server serves, once however many use them. Owner: content/mod.rs
CREATE TABLE contents (
    id      TEXT PRIMARY KEY,                  -- SHA-256 in hexadecimal; of a secret a random name
    size    INTEGER NOT NULL,
    bytes   BLOB,                              -- sealed; nothing: <data_dir>/files/<id>
    secret  INTEGER NOT NULL                   -- 1: shown to nobody but the devices that are to have it
) STRICT;

-- Who uses which. Owner: content/mod.rs
CREATE TABLE content_uses (
    user       TEXT PRIMARY KEY,               -- as in 'profile org.example.wifi'
    content_id TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX content_uses_by_content ON content_uses (content_id);

-- Where devices reach this server, as addresses in declarations begin: one row. Owner: ddm/served.rs
CREATE TABLE served_at (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    public_url TEXT NOT NULL                   -- without a slash at its end
) STRICT;
INSERT INTO served_at VALUES (1, '');

-- What this server serves that declarations point to. Owner: ddm/served.rs
CREATE TABLE served (
    kind       TEXT NOT NULL,                  -- 'profile' | 'asset' | 'package'
    identifier TEXT NOT NULL,
    content_id TEXT NOT NULL,                  -- another with each change of the bytes
    size       INTEGER NOT NULL,
    sha256     TEXT,                           -- nothing of a secret
    media_type TEXT NOT NULL,
    PRIMARY KEY (kind, identifier)
) STRICT, WITHOUT ROWID;

-- Which declaration points to which. Owner: ddm/served.rs
CREATE TABLE served_links (
    declaration TEXT NOT NULL,                 -- the one that points
    kind        TEXT NOT NULL,
    identifier  TEXT NOT NULL,
    PRIMARY KEY (declaration, kind, identifier)
) STRICT, WITHOUT ROWID;
CREATE INDEX served_links_by_target ON served_links (kind, identifier);

-- The library of configuration profiles; their bytes are contents. Owner: library/profile.rs
CREATE TABLE profiles (
    name       TEXT PRIMARY KEY,               -- the library's, as in addresses
    identifier TEXT NOT NULL,                  -- its PayloadIdentifier
    summary    TEXT NOT NULL,                  -- JSON: what was read from it
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    updated_by TEXT NOT NULL
) STRICT;
CREATE INDEX profiles_by_identifier ON profiles (identifier);

-- Assets whose bytes this server keeps, beside their declarations. Owner: library/asset.rs
CREATE TABLE assets (
    identifier TEXT PRIMARY KEY,               -- that of its declaration
    type       TEXT NOT NULL,                  -- as in com.apple.asset.data
    media_type TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    updated_by TEXT NOT NULL
) STRICT;

-- Bytes that were sent ahead of an apply that names them by their hash. Owner: library/upload.rs
CREATE TABLE uploads (
    sha256 TEXT PRIMARY KEY,
    at     INTEGER NOT NULL                    -- they stay for a day
) STRICT;

-- Which profiles commands installed is asked whenever one is uploaded.
CREATE INDEX commands_of_profiles ON commands (id)
    WHERE status = 'Acknowledged' AND purpose = 'asked'
      AND request_type IN ('ProfileList', 'InstallProfile', 'RemoveProfile');
