-- The whole file, one row: which network, which life of the file, how often it was changed.
CREATE TABLE meta (
  only INTEGER PRIMARY KEY CHECK (only = 1),
  genesis_validators_root BLOB NOT NULL CHECK (length(genesis_validators_root) = 32),
  instance BLOB NOT NULL CHECK (length(instance) = 16),
  generation INTEGER NOT NULL CHECK (generation > 0),
  quarantine TEXT
) STRICT;

-- A key, for ever. Low watermarks: a slot <= low_slot, a source < low_source_epoch, a target <= low_target_epoch is refused.
CREATE TABLE validator (
  id INTEGER PRIMARY KEY,
  pubkey BLOB NOT NULL UNIQUE CHECK (length(pubkey) = 48),
  active INTEGER NOT NULL CHECK (active IN (0, 1)),
  needs_import INTEGER NOT NULL CHECK (needs_import IN (0, 1)),
  low_slot INTEGER CHECK (low_slot >= 0),
  low_source_epoch INTEGER CHECK (low_source_epoch >= 0),
  low_target_epoch INTEGER CHECK (low_target_epoch >= low_source_epoch),
  CHECK ((low_source_epoch IS NULL) = (low_target_epoch IS NULL))
) STRICT;

-- signing_root NULL: unknown, or known twice and different. Nothing equals it, so the slot is closed.
CREATE TABLE signed_block (
  validator_id INTEGER NOT NULL REFERENCES validator (id),
  slot INTEGER NOT NULL CHECK (slot >= 0),
  signing_root BLOB CHECK (length(signing_root) = 32),
  PRIMARY KEY (validator_id, slot)
) STRICT, WITHOUT ROWID;

CREATE TABLE signed_attestation (
  validator_id INTEGER NOT NULL REFERENCES validator (id),
  target_epoch INTEGER NOT NULL,
  source_epoch INTEGER NOT NULL CHECK (source_epoch >= 0),
  signing_root BLOB CHECK (length(signing_root) = 32),
  PRIMARY KEY (validator_id, target_epoch),
  CHECK (source_epoch <= target_epoch)
) STRICT, WITHOUT ROWID;

-- What no statement may do, whoever wrote it.

CREATE TRIGGER meta_is_never_deleted BEFORE DELETE ON meta
BEGIN SELECT RAISE(ABORT, 'meta is never deleted'); END;

CREATE TRIGGER network_never_changes BEFORE UPDATE OF genesis_validators_root ON meta
WHEN NEW.genesis_validators_root <> OLD.genesis_validators_root
BEGIN SELECT RAISE(ABORT, 'the network never changes'); END;

CREATE TRIGGER generation_only_grows BEFORE UPDATE OF generation ON meta WHEN NEW.generation <= OLD.generation
BEGIN SELECT RAISE(ABORT, 'the generation only grows'); END;

CREATE TRIGGER validator_is_never_deleted BEFORE DELETE ON validator
BEGIN SELECT RAISE(ABORT, 'a validator is never deleted'); END;

CREATE TRIGGER pubkey_never_changes BEFORE UPDATE OF id, pubkey ON validator
WHEN NEW.id <> OLD.id OR NEW.pubkey <> OLD.pubkey
BEGIN SELECT RAISE(ABORT, 'a pubkey never changes'); END;

CREATE TRIGGER watermark_never_falls BEFORE UPDATE OF low_slot, low_source_epoch, low_target_epoch ON validator
WHEN (OLD.low_slot IS NOT NULL AND (NEW.low_slot IS NULL OR NEW.low_slot < OLD.low_slot))
  OR (OLD.low_source_epoch IS NOT NULL AND (NEW.low_source_epoch IS NULL OR NEW.low_source_epoch < OLD.low_source_epoch))
  OR (OLD.low_target_epoch IS NOT NULL AND (NEW.low_target_epoch IS NULL OR NEW.low_target_epoch < OLD.low_target_epoch))
BEGIN SELECT RAISE(ABORT, 'a watermark never falls'); END;

CREATE TRIGGER signed_block_only_closes BEFORE UPDATE ON signed_block
WHEN NEW.signing_root IS NOT NULL OR NEW.validator_id <> OLD.validator_id OR NEW.slot <> OLD.slot
BEGIN SELECT RAISE(ABORT, 'a signed block is never replaced'); END;

CREATE TRIGGER signed_block_leaves_a_watermark BEFORE DELETE ON signed_block
WHEN OLD.slot > (SELECT coalesce(low_slot, -1) FROM validator WHERE id = OLD.validator_id)
BEGIN SELECT RAISE(ABORT, 'a signed block above the watermark is never deleted'); END;

CREATE TRIGGER signed_attestation_only_closes BEFORE UPDATE ON signed_attestation
WHEN NEW.signing_root IS NOT NULL OR NEW.validator_id <> OLD.validator_id
  OR NEW.source_epoch <> OLD.source_epoch OR NEW.target_epoch <> OLD.target_epoch
BEGIN SELECT RAISE(ABORT, 'a signed attestation is never replaced'); END;

CREATE TRIGGER signed_attestation_leaves_a_watermark BEFORE DELETE ON signed_attestation
WHEN OLD.target_epoch > (SELECT coalesce(low_target_epoch, -1) FROM validator WHERE id = OLD.validator_id)
  OR OLD.source_epoch > (SELECT coalesce(low_source_epoch, -1) FROM validator WHERE id = OLD.validator_id)
BEGIN SELECT RAISE(ABORT, 'a signed attestation above the watermark is never deleted'); END;

-- Above the low watermark sources never fall as targets rise; that is: no vote there surrounds another.
CREATE TRIGGER no_surround_vote BEFORE INSERT ON signed_attestation
WHEN NEW.target_epoch > (SELECT coalesce(low_target_epoch, -1) FROM validator WHERE id = NEW.validator_id)
  AND (NEW.source_epoch < (SELECT coalesce(low_source_epoch, -1) FROM validator WHERE id = NEW.validator_id)
    OR NEW.source_epoch < (SELECT source_epoch FROM signed_attestation
      WHERE validator_id = NEW.validator_id AND target_epoch < NEW.target_epoch ORDER BY target_epoch DESC LIMIT 1)
    OR NEW.source_epoch > (SELECT source_epoch FROM signed_attestation
      WHERE validator_id = NEW.validator_id AND target_epoch > NEW.target_epoch ORDER BY target_epoch LIMIT 1))
BEGIN SELECT RAISE(ABORT, 'a surround vote'); END;
