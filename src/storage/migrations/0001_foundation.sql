-- The data model. Times are whole seconds since 1970 (UTC). Columns named sealed_* hold bytes that
-- only open with the sealing key that lives beside this file (pki/seal.rs).
-- WITHOUT ROWID only where rows are short: rows of a kilobyte inside the tree of their keys make it
-- seven pages deep where an index is two.

-- Facts of the installation itself: whether it served before, and the like.
CREATE TABLE facts (
    name  TEXT PRIMARY KEY,                    -- e.g. 'served'
    value TEXT NOT NULL
) STRICT;

-- Our certificate authorities and what they issued for the server itself. Owner: pki/authority.rs
CREATE TABLE authorities (
    id          INTEGER PRIMARY KEY,
    purpose     TEXT NOT NULL,                 -- 'identity' | 'tls' | 'tls-leaf' | 'profile-signer'
    certificate BLOB NOT NULL,                 -- DER
    sealed_key  BLOB NOT NULL,                 -- PKCS#8
    not_after   INTEGER NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;

-- Links that let devices enroll. Owner: enroll/invitation.rs
CREATE TABLE invitations (
    code          TEXT PRIMARY KEY,            -- unguessable; stands in the link
    uses          INTEGER NOT NULL,            -- how many devices may enroll
    used          INTEGER NOT NULL DEFAULT 0,  -- counted at a device's first TokenUpdate, or when it replaces a live one
    expires_at    INTEGER NOT NULL,
    group_name    TEXT,                        -- devices join this group
    serial_number TEXT,                        -- only this device, which may then replace its own record
    reenroll      INTEGER NOT NULL DEFAULT 0,  -- 1: a device that is still enrolled may enroll again
    created_at    INTEGER NOT NULL,
    created_by    TEXT NOT NULL,
    revoked_at    INTEGER
) STRICT;

-- Enrollment sessions: one for each profile that was handed out. Owner: enroll/session.rs
CREATE TABLE sessions (
    id             TEXT PRIMARY KEY,           -- stands in the subject of the certificates issued for it
    invitation     TEXT,                       -- the link it came from, or
    renews         TEXT,                       -- the enrollment that this server is renewing
    challenge_hash BLOB NOT NULL UNIQUE,       -- SHA-256 of the SCEP challenge
    parameters     TEXT NOT NULL,              -- JSON: what the profile said (topic, URLs, rights, capabilities)
    enrollment_id  TEXT,                       -- bound at Authenticate, for ever
    counted        INTEGER NOT NULL DEFAULT 0, -- 1: its invitation's use is counted
    created_at     INTEGER NOT NULL,
    expires_at     INTEGER NOT NULL            -- after this its challenge is worth nothing
) STRICT;
CREATE INDEX sessions_by_invitation ON sessions (invitation);
CREATE INDEX sessions_not_installed ON sessions (invitation, created_at) WHERE counted = 0 AND enrollment_id IS NULL;
CREATE INDEX sessions_unfinished ON sessions (invitation, created_at) WHERE counted = 0 AND enrollment_id IS NOT NULL;
CREATE INDEX sessions_by_renews ON sessions (renews, created_at) WHERE renews IS NOT NULL;

-- Certificates that the enrollment CA issued to devices. Owner: pki/identity.rs
CREATE TABLE identities (
    fingerprint    BLOB PRIMARY KEY,           -- SHA-256 of the certificate
    serial_number  TEXT NOT NULL,              -- hexadecimal
    session_id     TEXT NOT NULL,
    public_key     BLOB NOT NULL,              -- SHA-256 of the SubjectPublicKeyInfo
    certificate    BLOB NOT NULL,              -- DER, sent again when the same request is repeated
    not_before     INTEGER NOT NULL,
    not_after      INTEGER NOT NULL,
    issued_at      INTEGER NOT NULL,
    state          TEXT NOT NULL,              -- 'issued' | 'pinned' | 'superseded' | 'claim' | 'dead'
    state_since    INTEGER NOT NULL,
    enrollment_id  TEXT                        -- device channel it speaks for (pinned, superseded), or claims
) STRICT;
CREATE INDEX identities_by_session ON identities (session_id);
CREATE INDEX identities_by_enrollment ON identities (enrollment_id, state) WHERE enrollment_id IS NOT NULL;

-- Devices and their users: one row for each channel. Owner: mdm/enrollment.rs
CREATE TABLE enrollments (
    id               TEXT PRIMARY KEY,         -- UDID, UDID:UserID, EnrollmentID …
    type             TEXT NOT NULL,            -- 'Device' | 'User' | 'Shared iPad' | 'User Enrollment (Device)' | 'User Enrollment'
    channel          TEXT NOT NULL,            -- 'device' | 'user'
    parent_id        TEXT,                     -- of a user channel: its device
    udid             TEXT,                     -- none in user enrollment
    user_id          TEXT,
    user_short_name  TEXT,
    user_long_name   TEXT,
    serial_number    TEXT,
    name             TEXT,
    model            TEXT,
    model_name       TEXT,
    product_name     TEXT,
    os_version       TEXT,
    build_version    TEXT,
    supervised       INTEGER,                  -- unknown until the device says so
    awaiting_configuration INTEGER,            -- in Setup Assistant, held
    state            TEXT NOT NULL,            -- 'pending' | 'enrolled' | 'unenrolled'
    session_id       TEXT,                     -- what this device enrolled with (device channel)
    tags             TEXT NOT NULL DEFAULT '[]', -- JSON: an administrator's words, strings in order
    topic            TEXT,
    push_magic       TEXT,
    push_token       BLOB,
    push_rejected    INTEGER NOT NULL DEFAULT 0, -- 1: APNs said no to this very token
    push_token_at    INTEGER,                  -- when this token came
    enrolled_at      INTEGER,
    unenroll_at      INTEGER,                  -- an administrator asked it to unenroll
    unenroll_told_at INTEGER,                  -- and it was given the answer that does it
    erased_at        INTEGER,                  -- EraseDevice was acknowledged: its next Authenticate is expected
    created_at       INTEGER NOT NULL
) STRICT;
CREATE INDEX enrollments_by_parent ON enrollments (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX enrollments_by_topic ON enrollments (topic, state);

-- The last check-in message of each kind, unknown keys and all, without its tokens. Owner: mdm/enrollment.rs
CREATE TABLE messages (
    enrollment_id TEXT NOT NULL,
    message_type  TEXT NOT NULL,
    body          BLOB NOT NULL,               -- XML property list
    received_at   INTEGER NOT NULL,
    PRIMARY KEY (enrollment_id, message_type)
) STRICT;

-- When each channel was last here and last pushed; apart from enrollments because it changes often
-- and a card wears out by the size of what is rewritten. Owner: mdm/contact.rs
CREATE TABLE contacts (
    enrollment_id    TEXT PRIMARY KEY,
    last_seen_at     INTEGER,
    last_push_at     INTEGER,
    last_push_answer TEXT                      -- JSON: what APNs answered
) STRICT, WITHOUT ROWID;

-- Channels that have something to be woken for. Owner: mdm/wake.rs
CREATE TABLE wakes (
    enrollment_id TEXT PRIMARY KEY,
    due_at        INTEGER NOT NULL,            -- when it is pushed next
    attempts      INTEGER NOT NULL DEFAULT 0,  -- pushes that Apple took since it was last here
    failures      INTEGER NOT NULL DEFAULT 0   -- pushes since then that Apple could not take, in a row
) STRICT, WITHOUT ROWID;
CREATE INDEX wakes_by_due ON wakes (due_at);

-- New identities that said Authenticate with the UDID of a live enrollment. Owner: mdm/claim.rs
CREATE TABLE claims (
    id                  TEXT PRIMARY KEY,
    enrollment_id       TEXT NOT NULL,         -- the live enrollment that is claimed
    fingerprint         BLOB NOT NULL UNIQUE,  -- the identity that claims it
    session_id          TEXT NOT NULL,
    serial_number       TEXT,                  -- what its device said of itself in Authenticate
    name                TEXT,
    model               TEXT,
    model_name          TEXT,
    product_name        TEXT,
    os_version          TEXT,
    has_token           INTEGER NOT NULL DEFAULT 0, -- 1: its TokenUpdate came
    -- What an approval needs; emptied by the decision.
    authenticate        BLOB,
    token_update        BLOB,
    topic               TEXT,
    push_magic          TEXT,
    push_token          BLOB,
    sealed_unlock_token BLOB,
    sealed_bootstrap_token BLOB,
    state               TEXT NOT NULL,         -- 'waiting' | 'approved' | 'rejected' | 'gone'
    created_at          INTEGER NOT NULL,
    decided_at          INTEGER,
    decided_by          TEXT
) STRICT;
CREATE INDEX claims_by_enrollment ON claims (enrollment_id, state);

-- Secrets that devices entrusted to us; rows are never changed, only superseded. Owner: mdm/escrow.rs
CREATE TABLE escrow (
    id            INTEGER PRIMARY KEY,
    enrollment_id TEXT NOT NULL,
    kind          TEXT NOT NULL,               -- 'unlock-token' | 'bootstrap-token'
    sealed_value  BLOB NOT NULL,
    stored_at     INTEGER NOT NULL,
    current       INTEGER NOT NULL             -- 1: what is used; 0: history
) STRICT;
CREATE INDEX escrow_by_enrollment ON escrow (enrollment_id, kind, current);

-- The queue and its history. Owner: mdm/queue.rs
CREATE TABLE commands (
    id            INTEGER PRIMARY KEY,         -- order of arrival
    enrollment_id TEXT NOT NULL,
    uuid          TEXT NOT NULL,
    request_type  TEXT NOT NULL,
    purpose       TEXT NOT NULL,               -- 'asked' by a person or script | 'renewal' | 'sync'
    priority      INTEGER NOT NULL,            -- higher goes first
    status        TEXT NOT NULL,               -- Pending Sent NotNow Acknowledged Error CommandFormatError Canceled Expired
    request       BLOB NOT NULL,               -- the property list, byte for byte as the device gets it
    answer        BLOB,                        -- the property list of the report
    sealed        INTEGER NOT NULL,            -- bit 1: request is sealed; bit 2: answer is sealed
    error_chain   TEXT,                        -- JSON
    queued_at     INTEGER NOT NULL,
    queued_by     TEXT NOT NULL,
    sent_at       INTEGER,
    attempts      INTEGER NOT NULL DEFAULT 0,  -- how often it was handed out
    not_now_at    INTEGER,
    deferred      INTEGER NOT NULL DEFAULT 0,  -- 1: NotNow in this connection; not sent again before the next Idle
    answered_at   INTEGER,
    expires_at    INTEGER
) STRICT;
CREATE UNIQUE INDEX commands_by_uuid ON commands (uuid, enrollment_id);
CREATE INDEX commands_open ON commands (enrollment_id, priority DESC, id)
    WHERE status IN ('Pending', 'Sent', 'NotNow');
CREATE INDEX commands_by_enrollment ON commands (enrollment_id, id);
CREATE INDEX commands_answered ON commands (answered_at) WHERE answered_at IS NOT NULL;

-- Push certificates; a renewal leaves the old pair for rollback. Owner: apns/certificate.rs
CREATE TABLE push_certificates (
    id            INTEGER PRIMARY KEY,
    topic         TEXT NOT NULL,
    certificate   BLOB NOT NULL,               -- PEM, leaf first
    sealed_key    BLOB NOT NULL,               -- PKCS#8
    serial_number TEXT NOT NULL,               -- hexadecimal
    subject       TEXT NOT NULL,
    common_name   TEXT,
    issuer        TEXT NOT NULL,
    not_before    INTEGER NOT NULL,
    not_after     INTEGER NOT NULL,
    apple_account TEXT,                        -- what the administrator typed
    signed_by     TEXT NOT NULL,               -- how it came about: 'import' …
    imported_at   INTEGER NOT NULL,
    imported_by   TEXT NOT NULL,
    current       INTEGER NOT NULL             -- 1: the newest of its topic
) STRICT;
CREATE INDEX push_certificates_by_topic ON push_certificates (topic, current);

-- API tokens. Owner: admin/token.rs
CREATE TABLE tokens (
    name         TEXT PRIMARY KEY,
    hash         BLOB NOT NULL UNIQUE,         -- SHA-256 of the token, which has 256 random bits
    scope        TEXT NOT NULL,                -- 'read' | 'command' | 'admin'
    created_at   INTEGER NOT NULL,
    created_by   TEXT NOT NULL,
    expires_at   INTEGER,
    last_used_at INTEGER,
    revoked_at   INTEGER
) STRICT;

-- One-time sign-in links and the browser sessions they become. Owner: admin/session.rs
CREATE TABLE sign_ins (
    hash       BLOB PRIMARY KEY,               -- SHA-256 of the code in the link, or of the cookie
    kind       TEXT NOT NULL,                  -- 'link' | 'session'
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What happened: devices' doings that a person may want to know of. Owner: mdm/event.rs
CREATE TABLE events (
    id            INTEGER PRIMARY KEY,
    at            INTEGER NOT NULL,
    kind          TEXT NOT NULL,               -- e.g. 'enrolled', 'claim', 'identity-mismatch'
    enrollment_id TEXT,
    words         TEXT NOT NULL                -- a sentence
) STRICT;
CREATE INDEX events_by_enrollment ON events (enrollment_id, id);

-- Who did what. Owner: admin/audit.rs
CREATE TABLE audit (
    id     INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    actor  TEXT NOT NULL,                      -- 'token NAME', 'socket', 'session'
    action TEXT NOT NULL,                      -- e.g. 'command.enqueue'
    object TEXT NOT NULL,                      -- what it was done to
    detail TEXT                                -- JSON, never a secret
) STRICT;
