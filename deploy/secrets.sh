#!/bin/sh
# Makes secrets: deploy/secrets/ with fresh random ones, each in a file, and deploy/.env with the name that providers post
# to, for compose.yaml. What is there already stays as it is, so run it as often as you like.
#
#   sh deploy/secrets.sh hooks.example.com              # for compose.yaml
#   sh deploy/secrets.sh hooks.example.com 127.0.0.1    # where Redis is not in its network: Redis' host
set -eu

host=${1:?"say under which name providers reach you, as in: sh $0 hooks.example.com"}
redis=${2:-redis}
cd "$(dirname "$0")"

# Nobody else on this machine gets into the folder. In it, containers' users must be able to read.
mkdir -p secrets
chmod 700 secrets
umask 022

random() { od -An -v -tx1 -N "$1" /dev/urandom | tr -d ' \n'; }
keep() { [ -s "secrets/$1" ] || printf '%s\n' "$2" > "secrets/$1"; }

keep id_key "$(random 32)"
keep api_token "$(random 32)"
if ! [ -s secrets/users.acl ]; then
    ours=$(random 32)
    theirs=$(random 32)
    sed -e "s/REPLACE-THIS-PASSWORD-1/$ours/" -e "s/REPLACE-THIS-PASSWORD-2/$theirs/" users.acl > secrets/users.acl
    printf 'redis://partyline:%s@%s:6379\n' "$ours" "$redis" > secrets/redis_url
    printf 'redis://subscriber:%s@%s:6379\n' "$theirs" "$redis" > secrets/subscriber_url
fi
printf 'PARTYLINE_HOST=%s\n' "$host" > .env
# These are mounted as well, whatever umask the checkout was made with.
chmod a+r container.toml redis.conf Caddyfile

echo "deploy/secrets/ is ready. Back up deploy/secrets/id_key: what is stored can be served with no other."
[ "$redis" != redis ] || [ -s secrets/telnyx_public_key ] || echo "Still to do: put your Telnyx public key into deploy/secrets/telnyx_public_key."
