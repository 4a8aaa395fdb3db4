#!/bin/sh
# Leeward day 0: from a medium to a running management daemon, with nothing but this file trusted.
#
#   1. Copy it off the medium:      cp /media/leeward/bootstrap /root/bootstrap
#   2. Compare with the paper:      sha256sum /root/bootstrap
#   3. Run the copy:                sh /root/bootstrap /media/leeward
#
# It carries the SHA-256 of every file that it uses, copies each off the medium first and checks the
# copy, installs a private Python environment without any index, anchors the trusted root, and starts
# leewardd. It can be run again at any time: what is complete is kept, what is not is made anew. It
# runs nothing from the medium and nothing from /tmp, so both may be mounted noexec.
set -eu
umask 022
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

RELEASE='@RELEASE@'
APPLIANCE='@APPLIANCE@'
ROOT_FINGERPRINT='@ROOT_FINGERPRINT@'
NEEDED_BYTES='@NEEDED_BYTES@'

STAGE=/var/lib/leeward/bootstrap
ENVIRONMENT=/opt/leeward/appliance/$APPLIANCE
MEDIUM=
CONSOLE=yes

say() { printf '%s\n' "$*"; }
fail() { # title, detail, remedy
    printf '\nFAIL  %s\n      %s\n      %s\n' "$1" "$2" "$3" >&2
    exit "${4:-3}"
}
usage() {
    say "usage: sh bootstrap [--no-console] MEDIUM"
    say "MEDIUM is the folder where the Leeward medium is mounted, for example /media/leeward."
}

while [ $# -gt 0 ]; do
    case $1 in
        --no-console) CONSOLE=no ;;
        -h | --help) usage; exit 0 ;;
        -*) usage >&2; exit 2 ;;
        *) MEDIUM=${1%/} ;;
    esac
    shift
done
[ -n "$MEDIUM" ] || { usage >&2; exit 2; }

# --- may this run here? Nothing is changed before these have passed. ---
[ "$(id -u)" = 0 ] || fail "Root is needed" "This runs as $(id -un)." "Run it with sudo, or as root." 2
[ -d "$MEDIUM/blobs" ] || fail "No Leeward medium there" "$MEDIUM has no blobs folder." "Mount the medium and give the folder where it is mounted." 2
case $(readlink -f "$0") in
    "$(readlink -f "$MEDIUM")"/*) fail "This is the copy on the medium" "A file on a medium can change while it runs." "cp $MEDIUM/bootstrap /root/bootstrap, compare its sha256sum with the paper, then: sh /root/bootstrap $MEDIUM" 2 ;;
esac
. /etc/os-release
[ "${ID:-} ${VERSION_ID:-}" = "debian 12" ] || fail "This operating system is not in the release" "Seen: ${PRETTY_NAME:-unknown}. Needed: Debian 12." "Use a node with Debian 12."
[ "$(uname -m)" = x86_64 ] || fail "This processor is not in the release" "Seen: $(uname -m). Needed: x86_64." "Use an x86-64 node."
[ -d /run/systemd/system ] || fail "systemd does not run here" "There is no /run/systemd/system." "Boot the node with systemd."
for folder in /opt /var/lib; do
    free=$(df --output=avail -B1 "$folder" | tail -n 1)
    [ "$free" -ge "$NEEDED_BYTES" ] || fail "There is not enough disk space" "Free at $folder: $free bytes. Needed: $NEEDED_BYTES bytes." "Free some space, then run this again. Nothing was installed."
done

# --- the list: SHA-256, size, path of each file that may be needed now ---
list() {
    cat <<'LIST'
@LIST@
LIST
}

take() { # SHA-256, size, path: copy one file off the medium, part by part, and check the copy
    target=$STAGE/$3
    if [ -f "$target" ] && printf '%s  %s\n' "$1" "$target" | sha256sum --status -c -; then return 0; fi
    mkdir -p "$(dirname "$target")"
    : >"$target.partial"
    taken=0 part=0
    while [ "$taken" -lt "$2" ]; do
        name=$MEDIUM/blobs/$1.p$(printf '%03d' "$part")
        [ -f "$name" ] && [ ! -L "$name" ] || fail "The medium is not complete" "$name is missing ($3)." "Mount the right medium, or ask the publisher for a new one. Nothing was installed from it." 4
        head -c "$(($2 - taken))" "$name" >>"$target.partial" || fail "The medium could not be read" "$name gave an error ($3)." "Try another port or reader, then run this again." 4
        taken=$(stat -c %s "$target.partial") part=$((part + 1))
    done
    printf '%s  %s\n' "$1" "$target.partial" | sha256sum --status -c - || {
        rm -f "$target.partial"
        fail "The content is not what was signed" "$3 does not have the SHA-256 $1." "Do not use this medium. Call the publisher. Nothing was installed from it." 4
    }
    mv "$target.partial" "$target"
}
take_under() { # path prefix
    list | while read -r digest size path; do
        case $path in "$1"*) take "$digest" "$size" "$path" ;; esac
    done
}

say "Leeward $RELEASE: day 0"
say "  1/5 copy and check the appliance's own packages"
mkdir -p /var/lib/leeward /opt/leeward/appliance
mkdir -p -m 0700 "$STAGE"
take_under appliance/

say "  2/5 Python environments can be made"
if ! /usr/bin/python3.11 -c 'import ensurepip, venv' 2>/dev/null; then
    take_under os/debian-12/dists/
    take_under os/debian-12/leeward-os.gpg
    repository=$STAGE/os/debian-12
    printf 'deb [signed-by=%s/leeward-os.gpg] file://%s leeward main\n' "$repository" "$repository" >"$STAGE/sources.list"
    mkdir -p "$STAGE/lists/partial" "$STAGE/archives/partial"
    apt_offline() {
        apt-get -q -o APT::Sandbox::User=root -o Dir::Etc::SourceList="$STAGE/sources.list" -o Dir::Etc::SourceParts=/dev/null \
            -o Dir::State::Lists="$STAGE/lists" -o Dir::Cache::Archives="$STAGE/archives" "$@" </dev/null
    }
    apt_offline update >"$STAGE/apt.log" 2>&1 || fail "The package repository was refused" "$(tail -n 3 "$STAGE/apt.log")" "Call the publisher. Nothing was installed." 4
    apt_offline install --print-uris -y --no-remove --no-install-recommends python3-venv >"$STAGE/wanted" 2>>"$STAGE/apt.log" ||
        fail "python3-venv cannot be installed from this medium" "$(tail -n 3 "$STAGE/apt.log")" "The node's packages do not fit the medium's. Use a plain Debian 12, or ask the publisher."
    sed -n "s|^'file:\(//\)\?$repository/\([^']*\)'.*|os/debian-12/\2|p" "$STAGE/wanted" | sed 's/%2b/+/g; s/%7e/~/g' | while read -r path; do take_under "$path"; done
    apt_offline install -y --no-remove --no-install-recommends python3-venv >>"$STAGE/apt.log" 2>&1 ||
        fail "python3-venv could not be installed" "$(tail -n 3 "$STAGE/apt.log")" "See $STAGE/apt.log; dpkg --configure -a mends an interrupted run."
fi

say "  3/5 the appliance's private environment"
lock=$(sha256sum <"$STAGE/appliance/requirements.lock")
if [ "$(cat "$ENVIRONMENT/.complete" 2>/dev/null)" != "$lock" ]; then
    rm -rf "$ENVIRONMENT" # ours, and never finished or made from another lock
    /usr/bin/python3.11 -m venv "$ENVIRONMENT"
    mkdir -p -m 0700 "$STAGE/tmp"
    TMPDIR=$STAGE/tmp "$ENVIRONMENT/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir \
        --no-index --no-deps --require-hashes --find-links "$STAGE/appliance/wheels" -r "$STAGE/appliance/requirements.lock" \
        >"$STAGE/pip.log" 2>&1 || fail "The appliance could not be installed" "$(tail -n 3 "$STAGE/pip.log")" "See $STAGE/pip.log, then run this again."
    sync
    printf '%s\n' "$lock" >"$ENVIRONMENT/.complete"
fi
ln -sfn "$APPLIANCE" /opt/leeward/appliance/current.new
mv -T /opt/leeward/appliance/current.new /opt/leeward/appliance/current
for program in leeward leeward-console; do ln -sfn "/opt/leeward/appliance/current/bin/$program" "/usr/local/bin/$program"; done

say "  4/5 the trusted root: $ROOT_FINGERPRINT"
[ -f "$MEDIUM/metadata/1.root.json" ] || fail "The medium is not complete" "metadata/1.root.json is missing." "Ask the publisher for a new medium." 4
cp "$MEDIUM/metadata/1.root.json" "$STAGE/1.root.json"
/usr/local/bin/leeward bundle anchor --state /var/lib/leeward/trust --root "$STAGE/1.root.json" --fingerprint "$ROOT_FINGERPRINT" ||
    fail "The trusted root was refused" "metadata/1.root.json does not have the SHA-256 that this script carries." "Call the publisher." 4

say "  5/5 the management daemon"
install -D -m 0644 "$("$ENVIRONMENT/bin/python" -c 'from appliance.resources import unit_file; print(unit_file("leewardd.service"))')" /etc/systemd/system/leewardd.service
systemctl daemon-reload
systemctl enable --quiet leewardd.service
systemctl restart leewardd.service
tries=0
until /usr/local/bin/leeward status >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -lt 60 ] || fail "leewardd does not answer" "$(journalctl -u leewardd.service -n 5 -o cat --no-pager 2>/dev/null)" "journalctl -u leewardd.service shows why."
    sleep 0.5
done
rm -rf "$STAGE"

say ""
say "Leeward is on this node. Nothing is served yet. Next, either of:"
say "  leeward console                          the console asks, step by step"
say "  leeward install --medium $MEDIUM --help  the same from a script"
if [ "$CONSOLE" = yes ] && [ -t 0 ] && [ -t 1 ]; then exec /usr/local/bin/leeward console; fi
