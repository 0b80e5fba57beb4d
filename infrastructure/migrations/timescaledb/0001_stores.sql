-- Features and slow readings. Times are whole nanoseconds, which a timestamp cannot hold: identities must come back exactly.
-- Names sort by their bytes, as everywhere else in MANTIS.

CREATE EXTENSION IF NOT EXISTS timescaledb WITH SCHEMA public;

CREATE TABLE series (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    asset text COLLATE "C" NOT NULL,
    sensor text COLLATE "C" NOT NULL,
    UNIQUE (asset, sensor)
);

-- No foreign key to series: it would cost a look-up for each row, and ids are only made by the writer.
CREATE TABLE readings (
    series integer NOT NULL,
    time_ns bigint NOT NULL,
    value double precision NOT NULL,
    quality smallint NOT NULL,
    arrival_ms bigint NOT NULL,
    PRIMARY KEY (series, time_ns)
);
-- A chunk is a day.
SELECT create_hypertable('readings', by_range('time_ns', 86400000000000), create_default_indexes => false);

CREATE TABLE features (
    series integer NOT NULL,
    window_ns bigint NOT NULL,
    start_ns bigint NOT NULL,
    end_ns bigint NOT NULL,
    version integer NOT NULL,
    count bigint NOT NULL,
    uncertain bigint NOT NULL,
    bad bigint NOT NULL,
    coverage double precision,
    exact boolean NOT NULL,
    provisional boolean NOT NULL,
    revision bigint NOT NULL,
    processed_ms bigint NOT NULL,
    extras text NOT NULL,
    mean double precision,
    std double precision,
    min double precision,
    max double precision,
    first double precision,
    last double precision,
    rms double precision,
    peak double precision,
    peak_to_peak double precision,
    crest_factor double precision,
    shape_factor double precision,
    impulse_factor double precision,
    clearance_factor double precision,
    skewness double precision,
    kurtosis_excess double precision,
    zero_crossings double precision,
    rms_ac double precision,
    peak_ac double precision,
    crest_factor_ac double precision,
    sample_rate_hz double precision,
    dominant_frequency_hz double precision,
    dominant_amplitude double precision,
    centroid_hz double precision,
    PRIMARY KEY (series, window_ns, start_ns)
);
-- A chunk is a week.
SELECT create_hypertable('features', by_range('start_ns', 604800000000000), create_default_indexes => false);

-- Up to where the stores hold everything: the writer goes on from here, whatever its group has committed.
CREATE TABLE ledger (
    cluster_id text NOT NULL,
    consumer_group text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (cluster_id, consumer_group, topic, partition)
);

-- From where rows are kept: what is missing before was deleted on purpose, what is missing behind was lost.
CREATE TABLE retention (
    only_row integer PRIMARY KEY CHECK (only_row = 1),
    retained_from_ns bigint NOT NULL
);

-- The writer owns no table and so cannot drop a chunk: this function, the owner's, does it for the time that is on record.
CREATE FUNCTION retain(from_ns bigint, OUT features bigint, OUT readings bigint) LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    kept_from_ns bigint;
BEGIN
    INSERT INTO retention (only_row, retained_from_ns) VALUES (1, from_ns)
        ON CONFLICT (only_row) DO UPDATE SET retained_from_ns = greatest(retention.retained_from_ns, excluded.retained_from_ns)
        RETURNING retained_from_ns INTO kept_from_ns;
    SELECT count(*) INTO features FROM features f WHERE f.start_ns < kept_from_ns;
    SELECT count(*) INTO readings FROM readings r WHERE r.time_ns < kept_from_ns;
    IF features > 0 THEN
        PERFORM drop_chunks('features', older_than => kept_from_ns);
        DELETE FROM features f WHERE f.start_ns < kept_from_ns;
    END IF;
    IF readings > 0 THEN
        PERFORM drop_chunks('readings', older_than => kept_from_ns);
        DELETE FROM readings r WHERE r.time_ns < kept_from_ns;
    END IF;
END $$;
DO $$ BEGIN EXECUTE format('ALTER FUNCTION retain SET search_path = %I, public, pg_temp', current_schema()); END $$;
REVOKE ALL ON FUNCTION retain FROM public;

-- As people and dashboards read them. Filter by time_ns or start_ns: these find their chunks.
CREATE VIEW readings_by_name AS
    SELECT asset, sensor, to_timestamp(time_ns / 1e9) AS "time", readings.* FROM readings JOIN series ON series.id = readings.series;
CREATE VIEW features_by_name AS
    SELECT asset, sensor,
        CASE
            WHEN window_ns = 0 THEN 'frame'
            WHEN window_ns % 86400000000000 = 0 THEN window_ns / 86400000000000 || 'd'
            WHEN window_ns % 3600000000000 = 0 THEN window_ns / 3600000000000 || 'h'
            WHEN window_ns % 60000000000 = 0 THEN window_ns / 60000000000 || 'm'
            WHEN window_ns % 1000000000 = 0 THEN window_ns / 1000000000 || 's'
            WHEN window_ns % 1000000 = 0 THEN window_ns / 1000000 || 'ms'
            ELSE window_ns || 'ns'
        END AS "window",
        to_timestamp(start_ns / 1e9) AS start,
        features.*
    FROM features JOIN series ON series.id = features.series;
