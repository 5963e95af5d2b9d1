-- Who belongs: whoever is here already was let in, and counts as seen on the day of this migration.
ALTER TABLE nodes ADD COLUMN approval           INTEGER NOT NULL DEFAULT 1; -- 0 waits, 1 admitted, 2 by the list, 3 waits again
ALTER TABLE nodes ADD COLUMN banned_at          INTEGER;
ALTER TABLE nodes ADD COLUMN ban_reason         TEXT;
ALTER TABLE nodes ADD COLUMN packets_per_second INTEGER; -- 0 is no limit, NULL the relay's own
ALTER TABLE nodes ADD COLUMN bytes_per_second   INTEGER;
ALTER TABLE nodes ADD COLUMN wished_hostname    TEXT;
ALTER TABLE nodes ADD COLUMN last_seen_day      INTEGER; -- days since 1970; NULL while it has never signed anything
-- The key never proved itself and is forgotten; the number goes to the next newcomer.
ALTER TABLE nodes ADD COLUMN vacant             INTEGER NOT NULL DEFAULT 0;

UPDATE nodes SET last_seen_day = unixepoch() / 86400;

-- What the administrator has said of keys that have not registered.
CREATE TABLE key_rules (
    key    BLOB    PRIMARY KEY,
    banned INTEGER NOT NULL,
    reason TEXT    NOT NULL,
    at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
