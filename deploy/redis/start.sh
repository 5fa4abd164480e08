#!/bin/sh
# Starts Redis with redis.conf and two users, whose passwords come from the environment and are written down as
# hashes alone. `respool` may do what the program does and no more. `default` may do everything: it is who the
# operator is, and who makes backups. Further arguments are options of redis-server.
set -eu

: "${REDIS_PASSWORD:?is the password of the user respool; make one with openssl rand -hex 32}"
: "${REDIS_ADMIN_PASSWORD:?is the password of the user default; make one with openssl rand -hex 32}"

folder=$(dirname "$0")
users=${REDIS_USERS_FILE:-/tmp/users.acl}

hash_of() { printf %s "$1" | sha256sum | cut -d " " -f 1; }

(
    umask 077
    {
        echo "user default reset on #$(hash_of "$REDIS_ADMIN_PASSWORD") ~* &* +@all"
        sed "s/HASH/$(hash_of "$REDIS_PASSWORD")/" "$folder/respool.acl"
    } >"$users"
)
unset REDIS_PASSWORD REDIS_ADMIN_PASSWORD

exec redis-server "$folder/redis.conf" --aclfile "$users" --maxmemory "${REDIS_MAXMEMORY:-4gb}" "$@"
