-- Whom this file belongs to; one row.
CREATE TABLE owner (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    signer BLOB NOT NULL CHECK (length(signer) = 20),
    chain_id INTEGER NOT NULL,
    key_registry BLOB NOT NULL CHECK (length(key_registry) = 20),
    -- Ceremonies drawn at or before this block are not taken part in: an earlier database may have been.
    born INTEGER NOT NULL CHECK (born >= 0)
) STRICT;

-- Ceremonies this server is a member of; a reorg can add a second committee to one attempt.
CREATE TABLE ceremony (
    key_id INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    committee BLOB NOT NULL CHECK (length(committee) = 32),
    share_index INTEGER NOT NULL CHECK (share_index BETWEEN 1 AND 64),
    sealed BLOB,
    sits_out TEXT,
    what_to_do TEXT,
    UNIQUE (key_id, attempt, committee)
) STRICT;

-- Every message accepted or made, evidence of equivocation by others included.
CREATE TABLE message (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key_id INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    committee BLOB NOT NULL,
    round TEXT NOT NULL,
    share_index INTEGER NOT NULL,
    own INTEGER NOT NULL CHECK (own IN (0, 1)),
    json TEXT NOT NULL,
    UNIQUE (key_id, attempt, committee, round, share_index, json)
) STRICT;
-- No equivocation, whatever the code above does.
CREATE UNIQUE INDEX one_own_message ON message (key_id, attempt, committee, round, share_index) WHERE own = 1;

-- Shares, each in an EIP-2335 keystore under the store key.
CREATE TABLE share (
    key_id INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    share_index INTEGER NOT NULL CHECK (share_index BETWEEN 1 AND 64),
    share_key BLOB NOT NULL CHECK (length(share_key) = 48),
    group_key BLOB NOT NULL CHECK (length(group_key) = 48),
    keystore TEXT NOT NULL,
    -- Never two shares of one key in one file, whatever the code above does.
    UNIQUE (key_id, group_key)
) STRICT;

-- At most one DepositMessage per key, for ever, with the answer that was given.
CREATE TABLE deposit (
    key_id INTEGER PRIMARY KEY,
    signing_root BLOB NOT NULL CHECK (length(signing_root) = 32),
    answer TEXT NOT NULL
) STRICT;
