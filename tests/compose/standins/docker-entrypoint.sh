#!/bin/sh
# What the official image does on its first start, with Debian's server: a cluster, a superuser, a database.
set -eu
PATH="$(echo /usr/lib/postgresql/*/bin):$PATH"

if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA"
    chown -R postgres:postgres /var/lib/postgresql
    exec setpriv --reuid postgres --regid postgres --clear-groups "$0" "$@"
fi

if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then
    POSTGRES_PASSWORD="$(cat "$POSTGRES_PASSWORD_FILE")"
fi
user="${POSTGRES_USER:-postgres}"
database="${POSTGRES_DB:-$user}"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    secret="$(mktemp)"
    printf '%s\n' "${POSTGRES_PASSWORD:?}" > "$secret"
    initdb --username "$user" --pwfile "$secret" --auth-local trust --auth-host trust --encoding UTF8 \
        --locale C.UTF-8
    rm "$secret"
    # The same doors as in the official image: the loopback trusts, everybody else needs a password.
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    if [ "$database" != postgres ]; then
        # Only its socket answers until the database is there, so nobody takes it for ready.
        pg_ctl --wait --options "-c listen_addresses=" start
        createdb --username "$user" --maintenance-db postgres "$database"
        pg_ctl --wait stop
    fi
fi
exec "$@" -c "listen_addresses=*"
