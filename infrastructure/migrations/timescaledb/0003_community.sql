-- Only where the server has the Community licence: compression of what no late reading changes any more, and hourly sums of
-- readings. Sums and counts, never averages of averages.
CREATE FUNCTION now_ns() RETURNS bigint LANGUAGE sql STABLE AS $$ SELECT (extract(epoch FROM now()) * 1000000000)::bigint $$;
SELECT set_integer_now_func('readings', 'now_ns');
SELECT set_integer_now_func('features', 'now_ns');

ALTER TABLE readings SET (timescaledb.compress, timescaledb.compress_segmentby = 'series', timescaledb.compress_orderby = 'time_ns DESC');
ALTER TABLE features SET (
    timescaledb.compress, timescaledb.compress_segmentby = 'series, window_ns', timescaledb.compress_orderby = 'start_ns DESC'
);
-- Seven and thirty days behind: far beyond the longest lateness that a sensor is allowed by default.
SELECT add_compression_policy('readings', compress_after => 604800000000000);
SELECT add_compression_policy('features', compress_after => 2592000000000000);

CREATE MATERIALIZED VIEW readings_hourly WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
    SELECT
        series,
        time_bucket(3600000000000, time_ns) AS start_ns,
        count(*) AS count,
        sum(value) AS sum,
        min(value) AS min,
        max(value) AS max
    FROM readings
    WHERE quality < 2
    GROUP BY 1, 2
    WITH NO DATA;
-- From a week back, as compression begins there, up to an hour ago.
SELECT add_continuous_aggregate_policy('readings_hourly',
    start_offset => 604800000000000, end_offset => 3600000000000, schedule_interval => INTERVAL '30 minutes');
GRANT SELECT ON readings_hourly TO mantis_reader, mantis_writer;
