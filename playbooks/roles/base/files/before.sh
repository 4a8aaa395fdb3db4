# What the node is before Leeward changes it, so that `uninstall` can tell what is Leeward's own.
# Argument: the folder to make. It is there whole or not at all.
set -eu
umask 077
install -d "$(dirname "$1")"
rm -rf "$1.new"
mkdir "$1.new"
cd "$1.new"
# A node that an earlier release of Leeward has changed already cannot tell any more.
if [ -e /etc/leeward/apt.conf ]; then : >too-late; fi
dpkg-query --show --showformat='${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p' | sort -u >packages
apt-mark showhold >holds
getent passwd | cut -d: -f1 >accounts
getent group | cut -d: -f1 >groups
# Folders that Leeward makes beside its own and that were not there, outer ones first.
for folder in /etc/nftables.d /etc/audit /etc/audit/rules.d /etc/chrony /etc/chrony/sources.d /etc/issue.d \
    /etc/apt/sources.list.d /etc/systemd/journald.conf.d /etc/systemd/coredump.conf.d \
    /etc/systemd/system/auditd.service.d /etc/usbguard /etc/usbguard/rules.d; do
    if [ ! -d "$folder" ]; then printf '%s\n' "$folder"; fi
done >folders
if [ -f /etc/chrony/chrony.conf ]; then cp -p /etc/chrony/chrony.conf chrony.conf; fi
sync --file-system .
mv "$1.new" "$1"
