-- A key goes from one committee to the next, and a server may be in both: shares by committee epoch, and of one epoch by the attempt that
-- made them. `deadline`: unix time (seconds) until which that attempt could be finalised; 0 for a first committee.
ALTER TABLE share RENAME TO share_of_first_committees;
CREATE TABLE share (
    key_id INTEGER NOT NULL,
    committee_epoch INTEGER NOT NULL CHECK (committee_epoch >= 0),
    attempt INTEGER NOT NULL,
    deadline INTEGER NOT NULL CHECK (deadline >= 0),
    share_index INTEGER NOT NULL CHECK (share_index BETWEEN 1 AND 64),
    share_key BLOB NOT NULL CHECK (length(share_key) = 48),
    group_key BLOB NOT NULL CHECK (length(group_key) = 48),
    keystore TEXT NOT NULL,
    -- Never two shares of one committee of a key in one file, whatever the code above does.
    UNIQUE (key_id, group_key, committee_epoch, attempt)
) STRICT;
CREATE UNIQUE INDEX one_first_share ON share (key_id, group_key) WHERE committee_epoch = 0;
INSERT INTO share (key_id, committee_epoch, attempt, deadline, share_index, share_key, group_key, keystore)
    SELECT key_id, 0, attempt, 0, share_index, share_key, group_key, keystore FROM share_of_first_committees ORDER BY rowid;
DROP TABLE share_of_first_committees;

-- Attempts to reshare a key in which this server deals, gets a share, or both.
CREATE TABLE reshare (
    key_id INTEGER NOT NULL,
    committee_epoch INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    -- keccak256 of what finalised blocks showed of it first. If they show something else later, they were not final.
    plan BLOB NOT NULL CHECK (length(plan) = 32),
    -- Signers of the new committee as they were then, 20 bytes each in index order.
    signers BLOB NOT NULL,
    deadline INTEGER NOT NULL,
    -- One-time secrets of a new member; NULL once erased.
    sealed BLOB,
    sits_out TEXT,
    what_to_do TEXT,
    complaint TEXT,
    PRIMARY KEY (key_id, committee_epoch, attempt)
) STRICT;

CREATE TABLE reshare_message (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key_id INTEGER NOT NULL,
    committee_epoch INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    round TEXT NOT NULL,
    share_index INTEGER NOT NULL,
    own INTEGER NOT NULL CHECK (own IN (0, 1)),
    json TEXT NOT NULL,
    UNIQUE (key_id, committee_epoch, attempt, round, share_index, json)
) STRICT;
-- No equivocation, whatever the code above does.
CREATE UNIQUE INDEX one_own_reshare_message ON reshare_message (key_id, committee_epoch, attempt, round, share_index) WHERE own = 1;

-- Partials of two committees combine to nothing: the next one signs the same deposit anew, and no other.
ALTER TABLE deposit ADD COLUMN committee_epoch INTEGER NOT NULL DEFAULT 0;
-- Without it nobody could rebuild the envelope that was signed.
ALTER TABLE duty ADD COLUMN committee_epoch INTEGER NOT NULL DEFAULT 0;
