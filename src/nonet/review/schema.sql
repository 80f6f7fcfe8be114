-- What is kept of a review. Cells and cases come from predictions; decisions and signatures are only ever added.
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE TABLE IF NOT EXISTS cases (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    source TEXT NOT NULL,           -- the folder of predictions
    model TEXT NOT NULL,            -- fingerprint of the ensemble that predicted it
    created_at TEXT NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS cells (
    id INTEGER PRIMARY KEY,
    case_id INTEGER NOT NULL REFERENCES cases (id),
    position INTEGER NOT NULL,      -- in the predictions of the case
    image TEXT NOT NULL,            -- name in predictions.csv
    path TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    predicted TEXT NOT NULL,        -- a class, "unidentified", or "" for an image that cannot be read
    reason TEXT NOT NULL,
    facts TEXT NOT NULL,            -- JSON: confidence, probabilities, prediction set, votes
    label TEXT NOT NULL,            -- as it stands
    version INTEGER NOT NULL DEFAULT 0,  -- grows with each change of the label
    UNIQUE (case_id, position)
) STRICT;

CREATE TABLE IF NOT EXISTS decisions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    batch INTEGER NOT NULL,         -- decisions that one key made
    at TEXT NOT NULL,
    who TEXT NOT NULL,
    cell_id INTEGER NOT NULL REFERENCES cells (id),
    sha256 TEXT NOT NULL,
    from_label TEXT NOT NULL,
    to_label TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('move', 'agree', 'accept', 'undo')),
    undoes INTEGER REFERENCES decisions (id),
    is_blind INTEGER NOT NULL DEFAULT 0,
    model TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS decisions_of_cells ON decisions (cell_id);

CREATE TABLE IF NOT EXISTS signatures (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    who TEXT NOT NULL,
    case_id INTEGER NOT NULL REFERENCES cases (id),
    action TEXT NOT NULL CHECK (action IN ('sign', 'reopen')),
    comment TEXT NOT NULL
) STRICT;

CREATE TRIGGER IF NOT EXISTS decisions_are_kept BEFORE UPDATE ON decisions
BEGIN SELECT RAISE(ABORT, 'decisions are only ever added'); END;
CREATE TRIGGER IF NOT EXISTS decisions_stay BEFORE DELETE ON decisions
BEGIN SELECT RAISE(ABORT, 'decisions are only ever added'); END;
CREATE TRIGGER IF NOT EXISTS signatures_are_kept BEFORE UPDATE ON signatures
BEGIN SELECT RAISE(ABORT, 'signatures are only ever added'); END;
CREATE TRIGGER IF NOT EXISTS signatures_stay BEFORE DELETE ON signatures
BEGIN SELECT RAISE(ABORT, 'signatures are only ever added'); END;
