-- Who may do what. Both are groups without a login: users become members of them.
-- A role is of the whole server, so another database of it may have made them.
DO $$
DECLARE
    group_name text;
BEGIN
    FOREACH group_name IN ARRAY ARRAY['mantis_writer', 'mantis_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = group_name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', group_name);
        END IF;
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), group_name);
        EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO %I', current_schema(), group_name);
    END LOOP;
    -- The writer brings its rows in through temporary tables.
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO mantis_writer', current_database());
END $$;
GRANT INSERT ON series, readings, features, ledger TO mantis_writer;
GRANT UPDATE ON readings, features, ledger TO mantis_writer;
GRANT DELETE ON ledger TO mantis_writer;
GRANT EXECUTE ON FUNCTION retain TO mantis_writer;
