-- Signers of the committee as they were when this server first heard of the ceremony, 20 bytes each in index order; NULL in rows
-- from before. A member that changes its signer in the middle must not make what others said unreadable.
ALTER TABLE ceremony ADD COLUMN signers BLOB;
