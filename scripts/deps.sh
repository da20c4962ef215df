#!/bin/sh
# Installs the Debian packages that the tests and the demo need, and starts none of their
# daemons, now or at the next boot. Installs only what is missing; --list names the packages.
set -eu

PACKAGES="iproute2 nftables keepalived frr haproxy tshark tcpdump iputils-ping iputils-arping \
systemd-container debootstrap dbus polkitd procps clang llvm fence-agents openipmi ipmitool \
python3-venv openssl qemu-system-x86 busybox-static cpio kmod postgresql-15 pgbouncer patroni \
python3-pysyncobj"
# What these packages would start at boot.
UNITS="keepalived.service haproxy.service frr.service nftables.service openipmi.service \
ipmievd.service postgresql.service pgbouncer.service patroni.service"
POLICY=/usr/sbin/policy-rc.d
SAVED=$POLICY.before-vipd
MARK="# vipd: nothing starts while the tests' packages are installed"

if [ "${1:-}" = --list ]; then
    echo "$PACKAGES"
    exit 0
fi

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=
for package in $PACKAGES; do
    installed "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "These packages are missing and need root to install:$missing" >&2
    echo 'Run:  sudo make deps' >&2
    exit 1
fi

# Puts back the policy that was there before, if there was one.
restore() {
    if [ -f "$POLICY" ] && grep -qxF "$MARK" "$POLICY"; then
        rm -f "$POLICY"
    fi
    if [ -e "$SAVED" ] || [ -L "$SAVED" ]; then
        mv -f "$SAVED" "$POLICY"
    fi
}
trap restore EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
# A run that was killed may have left its policy behind.
restore
if [ -e "$POLICY" ] || [ -L "$POLICY" ]; then
    mv "$POLICY" "$SAVED"
fi
printf '#!/bin/sh\n%s\nexit 101\n' "$MARK" >"$POLICY"
chmod 755 "$POLICY"

# A daemon that was there already is its owner's business.
ours=
for unit in $UNITS; do
    package="${unit%.service}"
    [ "$package" != ipmievd ] || package=ipmitool
    [ "$package" != postgresql ] || package=postgresql-15
    installed "$package" || ours="$ours $unit"
done

# The tests make their own clusters; one that is there already is its owner's.
if ! installed postgresql-15 && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
fi

echo "Installing:$missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of words
install() { apt-get install -y -q --no-install-recommends $missing; }
if ! install; then
    apt-get update -q
    install
fi

if command -v systemctl >/dev/null; then
    for unit in $ours; do
        # Not all packages bring one.
        systemctl disable --quiet "$unit" 2>/dev/null || true
    done
fi
