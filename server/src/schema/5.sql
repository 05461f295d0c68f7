-- Ceremonies of an offline server whose facts a person confirmed by comparing a block's hash, as they were proven: server ids,
-- 4 bytes each in index order, and signers, 20 bytes each.
CREATE TABLE confirmed (
    key_id INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    committee BLOB NOT NULL CHECK (length(committee) = 32),
    threshold INTEGER NOT NULL,
    servers BLOB NOT NULL,
    signers BLOB NOT NULL,
    deadline INTEGER NOT NULL,
    block_number INTEGER NOT NULL,
    block_hash BLOB NOT NULL CHECK (length(block_hash) = 32),
    block_time INTEGER NOT NULL,
    PRIMARY KEY (key_id, attempt, committee)
) STRICT;
