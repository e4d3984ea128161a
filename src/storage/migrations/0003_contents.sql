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
