#!/bin/sh
# partyline's commands as its service would run them: as its user, with its configuration, in its folder. Never as root,
# whose files in the spool the service could not write to. Copy to /usr/local/bin/partyline; names of files that you give
# it are of /var/lib/partyline, unless they begin with /.
exec runuser -u partyline -- env -C /var/lib/partyline PARTYLINE_CONFIG=/etc/partyline/partyline.toml \
    /opt/partyline/bin/partyline "$@"
