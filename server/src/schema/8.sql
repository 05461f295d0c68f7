-- The first two requests of each assignment that no two signatures may answer, as JSON of SignedDutyRequest: the Court charges a provider
-- once per assignment. They outlive the rows that they were made of.
CREATE TABLE conflict (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key_id INTEGER NOT NULL,
    assignment INTEGER NOT NULL,
    first TEXT NOT NULL,
    second TEXT NOT NULL,
    UNIQUE (key_id, assignment)
) STRICT;
CREATE INDEX duty_blocks ON duty (key_id, assignment, slot) WHERE duty_kind = 3;
CREATE INDEX duty_targets ON duty (key_id, assignment, target_epoch) WHERE duty_kind = 2;
CREATE INDEX duty_sources ON duty (key_id, assignment, source_epoch, target_epoch) WHERE duty_kind = 2;
