-- Who may use the page. No password, session or token is stored, only what recognises it.
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE TABLE IF NOT EXISTS users (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    key TEXT NOT NULL UNIQUE,       -- the name regardless of case and Unicode form
    role TEXT NOT NULL CHECK (role IN ('reader', 'reviewer', 'admin')),
    password TEXT NOT NULL,         -- Argon2id, with its parameters and salt
    created_at INTEGER NOT NULL     -- seconds since 1970, as all times of this file
) STRICT;

CREATE TABLE IF NOT EXISTS sessions (
    digest TEXT PRIMARY KEY,        -- SHA-256 of the cookie
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    used_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS sessions_of_users ON sessions (user_id);

CREATE TABLE IF NOT EXISTS tokens (
    digest TEXT PRIMARY KEY,        -- SHA-256 of the token
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    label TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    UNIQUE (user_id, label)
) STRICT;
