#!/bin/sh
# Starts the broker with two logins. `training` sees its own queue, what is on its way to it, and how its tasks ended; the
# tasks of the other queue carry tokens that are not for it. What else Celery shares are control messages without content.
set -eu

umask 077
password() { cat "/run/secrets/$1"; }
cat > /tmp/users.acl <<END
user default on >$(password REDIS_PASSWORD) ~* &* +@all
user training on >$(password REDIS_TRAINING_PASSWORD) &* ~gpu* ~training-* ~celery-task-meta-* ~*celery.pidbox* ~*celeryev* ~_kombu.binding*gpu ~_kombu.binding_deadlines +@all -@admin -@dangerous +info
END
# Messages outlive a kill.
exec redis-server --aclfile /tmp/users.acl --dir /data --appendonly yes "$@"
