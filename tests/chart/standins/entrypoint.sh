# What the public image of Postgres does at its start, as far as compose.yaml counts on it.
set -eu
if [ "$1" != postgres ]; then
    exec "$@"
fi
export PGDATA=/var/lib/postgresql/data
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    chown postgres /var/lib/postgresql
    as_postgres initdb --username=postgres --auth-local=trust --auth-host=scram-sha-256 \
        --pwfile="$POSTGRES_PASSWORD_FILE" > /dev/null
    echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
    as_postgres pg_ctl --wait --options='-c listen_addresses=' start > /dev/null
    createdb --username=postgres "$POSTGRES_DB"
    for script in /docker-entrypoint-initdb.d/*; do
        case "$script" in
            *.sql) psql -v ON_ERROR_STOP=1 --quiet --username=postgres --dbname="$POSTGRES_DB" -f "$script" ;;
            *.sh) . "$script" ;;
        esac
    done
    as_postgres pg_ctl --wait --mode=fast stop > /dev/null
fi
exec setpriv --reuid=postgres --regid=postgres --init-groups postgres -c listen_addresses='*'
