-- What is stored of a review. Cases and cells come from predictions; decisions and signatures are only ever added. The
-- label of a cell follows from its decisions: it is stored as well so that a case is read quickly.
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE TABLE IF NOT EXISTS cases (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    source TEXT NOT NULL,           -- the folder of predictions
    digest TEXT NOT NULL,           -- of what was predicted, to recognise the case again
    model TEXT NOT NULL,            -- fingerprint of the ensemble that predicted it
    created_at TEXT NOT NULL,
    added_by TEXT NOT NULL          -- the user who uploaded it; '' for one that "nonet serve" was given
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
    batch INTEGER NOT NULL,         -- what one key did; signatures are numbered with them
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
CREATE INDEX IF NOT EXISTS decisions_of_batches ON decisions (batch);
CREATE INDEX IF NOT EXISTS decisions_undone ON decisions (undoes) WHERE undoes IS NOT NULL;

CREATE TABLE IF NOT EXISTS signatures (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    batch INTEGER NOT NULL,
    at TEXT NOT NULL,
    who TEXT NOT NULL,
    case_id INTEGER NOT NULL REFERENCES cases (id),
    action TEXT NOT NULL CHECK (action IN ('sign', 'reopen')),
    comment TEXT NOT NULL
) STRICT;

-- Letters that a person gave to labels in place of those that are in `keys`.
CREATE TABLE IF NOT EXISTS letters (
    who TEXT NOT NULL,
    label TEXT NOT NULL,
    letter TEXT NOT NULL,
    PRIMARY KEY (who, label)
) STRICT;

CREATE TRIGGER IF NOT EXISTS decisions_unchanged BEFORE UPDATE ON decisions
BEGIN SELECT RAISE(ABORT, 'decisions are only ever added'); END;
CREATE TRIGGER IF NOT EXISTS decisions_stay BEFORE DELETE ON decisions
BEGIN SELECT RAISE(ABORT, 'decisions are only ever added'); END;
CREATE TRIGGER IF NOT EXISTS signatures_unchanged BEFORE UPDATE ON signatures
BEGIN SELECT RAISE(ABORT, 'signatures are only ever added'); END;
CREATE TRIGGER IF NOT EXISTS signatures_stay BEFORE DELETE ON signatures
BEGIN SELECT RAISE(ABORT, 'signatures are only ever added'); END;
CREATE TRIGGER IF NOT EXISTS predictions_unchanged
BEFORE UPDATE OF case_id, position, image, path, sha256, predicted, reason, facts ON cells
BEGIN SELECT RAISE(ABORT, 'predictions do not change'); END;
CREATE TRIGGER IF NOT EXISTS cells_stay BEFORE DELETE ON cells
BEGIN SELECT RAISE(ABORT, 'cells of a case stay'); END;
CREATE TRIGGER IF NOT EXISTS cases_unchanged BEFORE UPDATE ON cases
BEGIN SELECT RAISE(ABORT, 'cases do not change'); END;
CREATE TRIGGER IF NOT EXISTS cases_stay BEFORE DELETE ON cases
BEGIN SELECT RAISE(ABORT, 'cases stay'); END;
