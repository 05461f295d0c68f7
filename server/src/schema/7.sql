-- Whom this file belongs to: the signers of one server, one after the other, and keys found beside them whose turn has not come. `own`: the
-- chain, or the operator by a command of its own, says that the key is this server's.
CREATE TABLE signer (
    signer BLOB PRIMARY KEY CHECK (length(signer) = 20),
    own INTEGER NOT NULL CHECK (own IN (0, 1)),
    -- In ceremonies and reshares drawn at or before this block the signer says nothing: an earlier database may have.
    born INTEGER NOT NULL CHECK (born >= 0)
) STRICT;
INSERT INTO signer (signer, own, born) SELECT signer, 1, born FROM owner;
ALTER TABLE owner DROP COLUMN signer;
ALTER TABLE owner DROP COLUMN born;
