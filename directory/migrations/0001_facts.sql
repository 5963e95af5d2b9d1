-- Numbers are never reused and keys never lose theirs, so rows of nodes and networks are never deleted.
CREATE TABLE directory (
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE nodes (
    id               INTEGER PRIMARY KEY,
    key              BLOB    NOT NULL UNIQUE,
    key_set_at       INTEGER NOT NULL,
    registered       INTEGER NOT NULL,
    owner            TEXT    NOT NULL,
    hostname         TEXT    UNIQUE,
    tags             TEXT    NOT NULL, -- separated by blanks
    public           INTEGER NOT NULL,
    task_exec        INTEGER NOT NULL,
    version          TEXT    NOT NULL,
    lan_addrs        TEXT    NOT NULL, -- separated by blanks
    relay_only       INTEGER NOT NULL,
    endpoint         TEXT    NOT NULL,
    endpoint_follows INTEGER NOT NULL,
    signs            INTEGER NOT NULL,
    signed_host      TEXT
) STRICT;

CREATE TABLE retired_keys (
    key  BLOB    PRIMARY KEY,
    node INTEGER NOT NULL REFERENCES nodes
) STRICT, WITHOUT ROWID;

CREATE TABLE trust (
    truster INTEGER NOT NULL REFERENCES nodes,
    trusted INTEGER NOT NULL REFERENCES nodes,
    PRIMARY KEY (truster, trusted)
) STRICT, WITHOUT ROWID;

CREATE TABLE handshake_requests (
    sender        INTEGER NOT NULL REFERENCES nodes,
    recipient     INTEGER NOT NULL REFERENCES nodes,
    justification TEXT    NOT NULL,
    at            INTEGER NOT NULL,
    PRIMARY KEY (recipient, sender)
) STRICT, WITHOUT ROWID;

CREATE TABLE handshake_responses (
    sender    INTEGER NOT NULL REFERENCES nodes,
    recipient INTEGER NOT NULL REFERENCES nodes,
    accept    INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    PRIMARY KEY (recipient, sender)
) STRICT, WITHOUT ROWID;

CREATE TABLE networks (
    id           INTEGER PRIMARY KEY,
    name         TEXT    NOT NULL UNIQUE,
    join_rule    TEXT    NOT NULL,
    token_digest BLOB,
    creator      INTEGER NOT NULL REFERENCES nodes,
    created_at   INTEGER NOT NULL
) STRICT;

CREATE TABLE members (
    network INTEGER NOT NULL REFERENCES networks,
    node    INTEGER NOT NULL REFERENCES nodes,
    PRIMARY KEY (network, node)
) STRICT, WITHOUT ROWID;

CREATE TABLE invites (
    network INTEGER NOT NULL REFERENCES networks,
    target  INTEGER NOT NULL REFERENCES nodes,
    inviter INTEGER NOT NULL REFERENCES nodes,
    at      INTEGER NOT NULL,
    PRIMARY KEY (network, target)
) STRICT, WITHOUT ROWID;
