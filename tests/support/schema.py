"""What the schema `ayb_realtime` of a database consists of, as rows that can be compared."""

from __future__ import annotations

from typing import Final

SCHEMA: Final = """
    SELECT 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text,
        pg_get_expr(d.adbin, d.adrelid)
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relnamespace = 'ayb_realtime'::regnamespace
    UNION ALL
    SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', ''
    FROM pg_constraint WHERE connamespace = 'ayb_realtime'::regnamespace
    UNION ALL
    SELECT 'index', tablename, indexname, indexdef, '', '' FROM pg_indexes
    WHERE schemaname = 'ayb_realtime'
    UNION ALL
    SELECT 'view', viewname, definition, '', '', '' FROM pg_views WHERE schemaname = 'ayb_realtime'
    UNION ALL
    SELECT 'function', proname, pg_get_function_arguments(oid), pg_get_functiondef(oid),
        proacl::text, ''
    FROM pg_proc WHERE pronamespace = 'ayb_realtime'::regnamespace
    UNION ALL
    SELECT 'migration', number::text, name, checksum, '', '' FROM ayb_realtime.migrations
    ORDER BY 1, 2, 3, 4
"""
