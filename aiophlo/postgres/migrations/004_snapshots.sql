-- What each pool does, masked, for the wallboards of all pools. Written while one of
-- them is watched, and only then.
CREATE UNLOGGED TABLE {schema}.snapshots (
    pool bigint PRIMARY KEY,
    at timestamptz NOT NULL,
    part jsonb NOT NULL);
