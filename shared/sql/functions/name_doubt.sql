-- Why a text with these names may do more than read tables; NULL if it cannot. Functions of Postgres
-- that are not IMMUTABLE may look at anything (query_to_xml executes a text), so only those listed
-- here are known to return what depends on arguments, settings, the clock and catalogs. Temporary
-- and toast tables of others can be named by their schema alone.
CREATE OR REPLACE FUNCTION ayb_realtime.name_doubt(names name[]) RETURNS text
    LANGUAGE plpgsql STABLE
AS $doubt$
DECLARE
    harmless constant name[] := '{current_setting,current_user,session_user,current_role,user,now,version,'
        'statement_timestamp,transaction_timestamp,clock_timestamp,date_trunc,date_part,date_bin,extract,'
        'timezone,age,to_char,to_date,to_timestamp,make_timestamptz,generate_series,date,time,timetz,'
        'timestamp,timestamptz,interval,concat,concat_ws,format,length,to_json,to_jsonb,row_to_json,'
        'json_agg,jsonb_agg,json_object_agg,jsonb_object_agg,json_build_object,jsonb_build_object,'
        'json_build_array,jsonb_build_array,json_populate_record,jsonb_populate_record,array_to_string,'
        'string_to_array,array_agg,string_agg,quote_literal,quote_nullable,pg_typeof,current_database,'
        'current_schema,pg_has_role,has_table_privilege,has_schema_privilege,has_function_privilege}';
BEGIN
    IF names && '{execute,refcursor}'::name[] THEN
        RETURN 'may execute a text (EXECUTE)';
    END IF;
    IF EXISTS (SELECT FROM unnest(names) AS n (name) WHERE n.name::text ~ '^pg_(temp|toast)') THEN
        RETURN 'may read temporary tables';
    END IF;
    RETURN (
        SELECT format('may call %I(), which may do anything', p.proname)
        FROM pg_proc p
        WHERE p.proname = ANY (names) AND p.oid < 16384::oid AND p.provolatile <> 'i'
        AND p.proname <> ALL (harmless)
        ORDER BY p.proname LIMIT 1
    );
END
$doubt$;
