-- What nodes say they can do, as they have signed it. A row stays when its record is taken back: serials only grow.
CREATE TABLE capabilities (
    node      INTEGER PRIMARY KEY REFERENCES nodes,
    serial    INTEGER NOT NULL,
    withdrawn INTEGER NOT NULL,
    record    TEXT    NOT NULL,
    tags      TEXT    NOT NULL, -- separated by blanks
    signature BLOB    NOT NULL
) STRICT;

-- The words of nodes, by number. Follows from the tables above, kept here so that both change in one commit and a
-- restart has nothing to build. The words alone: what they were taken from is in the tables above.
CREATE VIRTUAL TABLE search USING fts5 (
    title, tags, hostname, text,
    content = '', contentless_delete = 1,
    tokenize = "porter unicode61 remove_diacritics 2 categories 'L* M* N* Co So'"
);

INSERT INTO search (rowid, title, tags, hostname, text)
    SELECT id, '', tags, ifnull(hostname, ''), '' FROM nodes WHERE registered AND (hostname IS NOT NULL OR tags <> '');
