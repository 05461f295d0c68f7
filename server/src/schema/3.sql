-- What this server showed the Court's reporters about a bad dealing, its one-time secret in it: public, and the end of the attempt.
ALTER TABLE ceremony ADD COLUMN complaint TEXT;
