-- Declarative management: what devices should have, what they were told, what they report.

-- How often it was edited what devices should have: one row. Owner: ddm/generation.rs
CREATE TABLE generations (
    id                INTEGER PRIMARY KEY CHECK (id = 1),
    generation        INTEGER NOT NULL,        -- one more with each edit
    notify_generation INTEGER NOT NULL,        -- the last edit that devices are to be woken for
    stamp             INTEGER NOT NULL,        -- another random number with each edit: one that was rolled back has its own
    organization      TEXT NOT NULL            -- JSON: the payload of management.organization-info, or {}
) STRICT;
INSERT INTO generations VALUES (1, 1, 1, random(), '{}');

-- Declarations as people wrote them. Owner: ddm/declaration.rs
CREATE TABLE declarations (
    identifier   TEXT PRIMARY KEY,
    type         TEXT NOT NULL,                -- as in com.apple.configuration.passcode.settings
    kind         TEXT NOT NULL,                -- 'activation' | 'configuration' | 'asset' | 'management'
    payload      TEXT NOT NULL,                -- JSON, as it was sent
    beside       TEXT NOT NULL,                -- JSON: members beside the payload that were forced in
    content      TEXT,                         -- what the data that it points to is called, if this server serves it
    touched      INTEGER NOT NULL DEFAULT 0,   -- how often it was asked to be applied anew
    server_token TEXT NOT NULL,                -- a hash of all the above
    forced       INTEGER NOT NULL,             -- 1: it was accepted by force
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    updated_by   TEXT NOT NULL
) STRICT;

-- Which declaration names which. Owner: ddm/declaration.rs
CREATE TABLE declaration_references (
    identifier TEXT NOT NULL,                  -- the one that names
    target     TEXT NOT NULL,                  -- the one that is named
    PRIMARY KEY (identifier, target)
) STRICT, WITHOUT ROWID;
CREATE INDEX declaration_references_by_target ON declaration_references (target);

-- Groups of devices. Owner: ddm/group.rs
CREATE TABLE groups (
    name        TEXT PRIMARY KEY,
    description TEXT NOT NULL,
    sort        INTEGER NOT NULL,              -- the lowest wins where a device may have only one
    rule        TEXT,                          -- a predicate that the server evaluates: who is in it
    predicate   TEXT,                          -- a predicate that devices evaluate: when it applies
    tags        TEXT NOT NULL,                 -- JSON: an administrator's words, strings in order
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL
) STRICT;
INSERT INTO groups VALUES ('default', 'Every device and its users.', 1000, NULL, NULL, '[]', unixepoch(), unixepoch());

-- Who is in a group by hand. Owner: ddm/group.rs
CREATE TABLE group_members (
    enrollment_id TEXT NOT NULL,
    group_name    TEXT NOT NULL,
    PRIMARY KEY (enrollment_id, group_name)
) STRICT, WITHOUT ROWID;
CREATE INDEX group_members_by_group ON group_members (group_name, enrollment_id);

-- What the devices of a group should have. Owner: ddm/group.rs
CREATE TABLE group_declarations (
    group_name TEXT NOT NULL,
    identifier TEXT NOT NULL,
    PRIMARY KEY (group_name, identifier)
) STRICT, WITHOUT ROWID;
CREATE INDEX group_declarations_by_identifier ON group_declarations (identifier);

-- Where each channel stands. Owner: ddm/sync.rs
CREATE TABLE syncs (
    enrollment_id TEXT PRIMARY KEY,
    generation    INTEGER NOT NULL,            -- of the edits that token was made from
    token         TEXT NOT NULL,               -- the DeclarationsToken that it should have
    told_token    TEXT,                        -- the one whose items it was given last
    told_at       INTEGER,
    held          INTEGER NOT NULL,            -- 1: it is not told now: too old, in Setup Assistant, or nothing is declared for it
    quiet         INTEGER NOT NULL,            -- 1: token changed by edits that nobody is woken for
    asked_at      INTEGER,                     -- when it was last asked to synchronise for this token
    asks          INTEGER NOT NULL,            -- and how often
    stale         INTEGER NOT NULL DEFAULT 0,  -- 1: what is known of its device changed since
    moved_at      INTEGER,                     -- the beginning of an hour in which token changed without an edit
    moves         INTEGER NOT NULL DEFAULT 0   -- and how often it did in that hour
) STRICT, WITHOUT ROWID;
CREATE INDEX syncs_stale ON syncs (enrollment_id) WHERE stale = 1;
CREATE INDEX syncs_by_token ON syncs (token);
CREATE INDEX syncs_by_told_token ON syncs (told_token);

-- Sets of declarations that channels have, as declaration-items lists them. Owner: ddm/snapshot.rs
CREATE TABLE snapshots (
    token   TEXT PRIMARY KEY,                  -- the DeclarationsToken
    items   TEXT NOT NULL,                     -- JSON: the answer to declaration-items
    used_at INTEGER NOT NULL                   -- not before this, to the hour, a channel began to have it
) STRICT;

-- Every content that a declaration has or had, while a snapshot names it. Owner: ddm/snapshot.rs
CREATE TABLE versions (
    server_token TEXT PRIMARY KEY,
    body         TEXT NOT NULL,                -- JSON: the answer to declaration/…
    used_at      INTEGER NOT NULL
) STRICT;

-- The values that devices report, the latest of each. Owner: ddm/status/item.rs
CREATE TABLE status_items (
    enrollment_id TEXT NOT NULL,
    path          TEXT NOT NULL,               -- as in device.operating-system.version
    value         TEXT,                        -- JSON; nothing when it was too large to be kept
    reported_at   INTEGER NOT NULL,            -- when it became this
    PRIMARY KEY (enrollment_id, path)
) STRICT;

-- What became of the values that people watch. Owner: ddm/status/change.rs
CREATE TABLE status_changes (
    id            INTEGER PRIMARY KEY,
    enrollment_id TEXT NOT NULL,
    path          TEXT NOT NULL,
    value         TEXT,                        -- JSON; nothing when it is no longer reported, or was too large
    size          INTEGER,                     -- bytes of a value that was too large to be kept here
    at            INTEGER NOT NULL
) STRICT;
CREATE INDEX status_changes_by_item ON status_changes (enrollment_id, path, id);
CREATE INDEX status_changes_by_time ON status_changes (at);

-- What devices say of their declarations. Owner: ddm/status/declared.rs
CREATE TABLE declaration_states (
    enrollment_id TEXT NOT NULL,
    identifier    TEXT NOT NULL,
    server_token  TEXT NOT NULL,               -- one declaration may be there in two versions
    kind          TEXT NOT NULL,
    active        INTEGER NOT NULL,
    valid         TEXT NOT NULL,               -- 'unknown' | 'invalid' | 'valid'
    reasons       TEXT NOT NULL,               -- JSON, with Apple's keys
    reported_at   INTEGER NOT NULL,            -- when it became this
    PRIMARY KEY (enrollment_id, identifier, server_token)
) STRICT, WITHOUT ROWID;

-- What devices could not report. Owner: ddm/status/error.rs
CREATE TABLE status_errors (
    id            INTEGER PRIMARY KEY,
    enrollment_id TEXT NOT NULL,
    item          TEXT NOT NULL,               -- the status item
    reasons       TEXT NOT NULL,               -- JSON, with Apple's keys
    at            INTEGER NOT NULL
) STRICT;
CREATE INDEX status_errors_by_enrollment ON status_errors (enrollment_id, id);

-- The last reports as they came. Owner: ddm/status/report.rs
CREATE TABLE status_reports (
    id            INTEGER PRIMARY KEY,
    enrollment_id TEXT NOT NULL,
    report        BLOB NOT NULL,               -- JSON
    reported_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX status_reports_by_enrollment ON status_reports (enrollment_id, id);
