-- Pin, for the transaction, the settings that affect how values and expressions are written as text
-- and read back, so that no default of the database or of a login changes the result. Returns, as
-- alternating names and values, the session's previous settings where they differ: policies run
-- under those again, because the functions they call rely on them. Parallel workers, the read-only
-- flag and row_security stay pinned.
--
-- There is no SET clause, because leaving the function would undo the pins; so every name here is
-- qualified.
CREATE OR REPLACE FUNCTION ayb_realtime.pin_session() RETURNS text[]
    LANGUAGE plpgsql VOLATILE
AS $pin$
DECLARE
    pins constant pg_catalog.text[] := ARRAY[
        'search_path', 'pg_catalog, pg_temp', 'TimeZone', 'UTC', 'DateStyle', 'ISO, MDY',
        'IntervalStyle', 'postgres', 'extra_float_digits', '1', 'bytea_output', 'hex',
        'lc_monetary', 'C', 'array_nulls', 'on', 'xmloption', 'content', 'xmlbinary', 'base64'
    ];
    own pg_catalog.text[] := '{}';
    found pg_catalog.text;
    is_null boolean;
BEGIN
    is_null := pg_catalog.set_config('transaction_read_only', 'on', true) IS NULL
        OR pg_catalog.set_config('row_security', 'on', true) IS NULL
        OR pg_catalog.set_config('max_parallel_workers_per_gather', '0', true) IS NULL
        OR pg_catalog.set_config('quote_all_identifiers', 'off', true) IS NULL
        OR pg_catalog.set_config('standard_conforming_strings', 'on', true) IS NULL
        OR pg_catalog.set_config('transform_null_equals', 'off', true) IS NULL;
    FOR place IN 1 .. 19 BY 2 LOOP
        found := pg_catalog.current_setting(pins[place]);
        IF found OPERATOR(pg_catalog.<>) pins[place OPERATOR(pg_catalog.+) 1] THEN
            own := own OPERATOR(pg_catalog.||) ARRAY[pins[place], found];
            is_null := pg_catalog.set_config(pins[place], pins[place OPERATOR(pg_catalog.+) 1], true) IS NULL;
        END IF;
    END LOOP;
    RETURN own;
END
$pin$;
