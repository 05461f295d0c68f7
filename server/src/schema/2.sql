-- Which life of the slashing protection database this server used last; one row once there is one.
CREATE TABLE protection (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    instance BLOB NOT NULL CHECK (length(instance) = 16)
) STRICT;

-- Requests for blocks and attestations that a duty key signed, the refused ones included: two that conflict are evidence.
CREATE TABLE duty (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key_id INTEGER NOT NULL,
    assignment INTEGER NOT NULL,
    duty_kind INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    source_epoch INTEGER NOT NULL,
    target_epoch INTEGER NOT NULL,
    signing_root BLOB NOT NULL CHECK (length(signing_root) = 32),
    duty_key BLOB NOT NULL CHECK (length(duty_key) = 20),
    request BLOB NOT NULL CHECK (length(request) = 65),
    envelope BLOB CHECK (length(envelope) = 65),
    partial_hash BLOB CHECK (length(partial_hash) = 32),
    share_index INTEGER NOT NULL CHECK (share_index BETWEEN 1 AND 64),
    at INTEGER NOT NULL,
    UNIQUE (key_id, assignment, duty_kind, signing_root, duty_key)
) STRICT;
