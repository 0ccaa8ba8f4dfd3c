#!/bin/sh
# Starts Postgres with the certificate of the service $1; who comes over the network speaks TLS, or is not let in.
set -eu

umask 077
# Postgres wants a key that nobody else can read.
cat "/run/secrets/$1.key" > /tmp/server.key
cat > /tmp/pg_hba.conf <<'END'
local    all  all       trust
host     all  all       127.0.0.1/32  trust
hostssl  all  all  all  scram-sha-256
END
exec docker-entrypoint.sh postgres -c ssl=on -c "ssl_cert_file=/run/secrets/$1.crt" -c ssl_key_file=/tmp/server.key \
    -c hba_file=/tmp/pg_hba.conf
