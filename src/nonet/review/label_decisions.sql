-- What people decided on doubtful labels of the run's own images. Decisions are only ever added, an undo as well; which
-- one stands follows from them.
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE TABLE IF NOT EXISTS label_decisions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    who TEXT NOT NULL,
    image_id TEXT NOT NULL,
    sha256 TEXT NOT NULL,           -- of the image when the dataset was built; "" where that is not known
    given TEXT NOT NULL,            -- the label that was doubted
    decision TEXT NOT NULL CHECK (decision IN ('keep', 'relabel', 'unsure', 'drop', 'undo')),
    label TEXT NOT NULL CHECK ((label != '') = (decision = 'relabel')),
    note TEXT NOT NULL,
    undoes INTEGER REFERENCES label_decisions (id),
    CHECK ((undoes IS NOT NULL) = (decision = 'undo'))
) STRICT;
CREATE INDEX IF NOT EXISTS label_decisions_of_images ON label_decisions (image_id);
CREATE UNIQUE INDEX IF NOT EXISTS label_decisions_undone ON label_decisions (undoes) WHERE undoes IS NOT NULL;

CREATE TRIGGER IF NOT EXISTS label_decisions_unchanged BEFORE UPDATE ON label_decisions
BEGIN SELECT RAISE(ABORT, 'decisions are only ever added'); END;
CREATE TRIGGER IF NOT EXISTS label_decisions_stay BEFORE DELETE ON label_decisions
BEGIN SELECT RAISE(ABORT, 'decisions are only ever added'); END;
