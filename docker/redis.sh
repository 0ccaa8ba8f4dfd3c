#!/bin/sh
# Starts the broker with two logins. `training` reaches its own queue, what is on its way to it, and control messages and events
# of its own exchange: tasks of the other queue, which a worker also tells whoever may ask it, carry tokens that are not for it. How a
# task ended it may read and write, but only by the task's id, and no command lists ids. The last part lets it clear away what
# ended clients of the other exchange have left, as each worker does, and nothing else.
set -eu

# Ends the script where a secret is missing or empty: both would be a password that everybody knows.
hash_of() {
    password=$(cat "/run/secrets/$1")
    [ -n "$password" ] || { echo "expected a password in the secret $1, it is empty" >&2; exit 1; }
    printf %s "$password" | sha256sum | cut -c -64
}
all=$(hash_of REDIS_PASSWORD)
training=$(hash_of REDIS_TRAINING_PASSWORD)

# Who subscribes by a pattern has to have that very pattern.
channels="&/0.training.pidbox &/0.trainingev/* &/0.trainingev/worker.*"
keys="~gpu* ~training* ~*.training.pidbox* ~_kombu.binding*gpu ~_kombu.binding*training* ~_kombu.binding_deadlines"
commands="+@all -@admin -@dangerous -scan -randomkey -pubsub -client|tracking +info"
results="(+get +set +setex +publish ~celery-task-meta-* &celery-task-meta-*)"
cleaning="(+exists +del ~_kombu.binding*celery*)"
umask 077
cat > /tmp/users.acl <<END
user default on #$all ~* &* +@all
user training on #$training resetchannels $channels $keys $commands $results $cleaning
END
# Messages outlive a kill.
exec redis-server --aclfile /tmp/users.acl --dir /data --appendonly yes "$@"
