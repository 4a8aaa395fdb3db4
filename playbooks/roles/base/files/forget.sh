# Takes back what the roles did to the node itself, by what `before.sh` wrote down. Prints a line for
# each thing it removed, and for each that stays and why. Safe to run again after a kill.
# Arguments: the folder of before.sh; packages: remove or keep; drivers: remove or keep; a pattern of drivers.
set -eu
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
before=$1 packages=$2 drivers=$3 driver_pattern=$4

was_there() { grep -qxF -- "$2" "$before/$1"; } # list, entry

give_to_root() { # option of find, name, command: records that are kept must not fall to a later account
    for records in /var/lib/leeward /etc/leeward; do
        if [ -d "$records" ]; then find "$records" "$1" "$2" -exec "$3" -h root {} +; fi
    done
}

ask_public_time_servers_again() { # only those lines that were in force before Leeward
    [ -f "$before/chrony.conf" ] && [ -f /etc/chrony/chrony.conf ] || return 0
    cp -p /etc/chrony/chrony.conf /etc/chrony/.chrony.conf.leeward
    awk 'NR == FNR { if (/^pool[ \t]+[^ \t]+\.debian\.pool\.ntp\.org/) was["# " $0]; next }
         $0 in was { $0 = substr($0, 3) } { print }' \
        "$before/chrony.conf" /etc/chrony/chrony.conf >/etc/chrony/.chrony.conf.leeward
    if cmp -s /etc/chrony/chrony.conf /etc/chrony/.chrony.conf.leeward; then
        rm /etc/chrony/.chrony.conf.leeward
    else
        mv /etc/chrony/.chrony.conf.leeward /etc/chrony/chrony.conf
        systemctl try-restart chrony.service
        echo "removed the note that public time servers are not asked"
    fi
}

brought() { # packages that are in a release of Leeward and were not on the node before
    dpkg-query --show --showformat='${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p' | sort -u |
        grep -vxF -f "$before/packages" | grep -xF -f "$released" | grep -vE '^linux-(image|headers|modules|kbuild|compiler)-' |
        if [ "$drivers" = remove ]; then cat; else grep -vE "$driver_pattern"; fi || true
}

purge() { # never takes along what it was not told: a package that something else needs stays
    while [ $# -gt 0 ]; do
        needed=$(dpkg --no-act --abort-after=100000 --purge "$@" 2>&1 >/dev/null |
            sed -n 's/^dpkg: dependency problems prevent removal of \([^ :]*\).*/\1/p' | sort -u)
        [ -n "$needed" ] || break
        for package in $needed; do echo "kept package $package: others need it"; done
        set -- $(printf '%s\n' "$@" | grep -vxF "$needed" || true)
    done
    [ $# -gt 0 ] || return 0
    dpkg --purge "$@" >&2
    for package in "$@"; do echo "removed package $package"; done
}

forget_accounts() {
    for account in leeward-sign-in leeward-gateway leeward-engine; do
        if was_there accounts "$account" || ! getent passwd "$account" >/dev/null; then continue; fi
        give_to_root -user "$account" chown
        give_to_root -group "$account" chgrp
        userdel "$account"
        echo "removed account $account"
    done
    for group in leeward-sign-in leeward-gateway leeward-engine leeward-admin leeward-operator leeward-auditor; do
        if was_there groups "$group" || ! getent group "$group" >/dev/null; then continue; fi
        give_to_root -group "$group" chgrp
        groupdel "$group"
        echo "removed group $group"
    done
}

if [ ! -d "$before" ] || [ -e "$before/too-late" ]; then
    echo "kept packages, accounts and groups: what the node had before Leeward was never written down"
    exit 0
fi
released=$(mktemp)
trap 'rm -f "$released"' EXIT
cat /var/lib/leeward/slots/*/os/*/dists/*/main/binary-*/Packages 2>/dev/null | sed -n 's/^Package: //p' | sort -u >"$released"

ask_public_time_servers_again
if [ "$packages" = remove ]; then
    # shellcheck disable=SC2046 # names of packages hold no spaces
    purge $(brought)
else
    echo "kept packages: this was asked for"
fi
held=$(dpkg-query --show --showformat='${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p' | grep -xF -f "$before/holds" || true)
# shellcheck disable=SC2086
[ -z "$held" ] || apt-mark hold $held >/dev/null
forget_accounts
sort -r "$before/folders" | while read -r folder; do
    if [ -d "$folder" ] && rmdir "$folder" 2>/dev/null; then echo "removed folder $folder"; fi
done
