-- Reshares in which an offline server takes part and whose facts a person confirmed by comparing a block's hash: the facts as they were
-- brought (JSON), which are verified again each time. A reorganisation can draw other seats and dealers for one attempt.
CREATE TABLE confirmed_reshare (
    key_id INTEGER NOT NULL,
    committee_epoch INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    draft BLOB NOT NULL CHECK (length(draft) = 32),
    facts TEXT NOT NULL,
    block_number INTEGER NOT NULL,
    block_hash BLOB NOT NULL CHECK (length(block_hash) = 32),
    block_time INTEGER NOT NULL,
    PRIMARY KEY (key_id, committee_epoch, attempt, draft)
) STRICT;
