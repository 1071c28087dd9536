#!/bin/sh
# Installs the system packages that a bare Debian lacks, and nothing when all are there.
#
#   deploy/bootstrap.sh venv    what `python3 -m venv` needs; cannot go on without
#   deploy/bootstrap.sh test    the servers and browsers of the tests; without them those tests are skipped,
#                               but with CI=true a missing one is an error
#   deploy/bootstrap.sh bench   servers that the load test compares with, and a compiler; without them, or without Go,
#                               what needs them is left out
#
# Uses apt as root or through a sudo that asks no password; otherwise says what to install. Starts no service.
set -eu

POLICY=/usr/sbin/policy-rc.d

missing_for_venv() {
    # Debian ships the module venv without ensurepip, which it needs, in a package of its own.
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
}

missing_for_test() {
    # The package, and a file or command of it: what came another way than by apt counts too.
    while read -r package file; do
        [ -e "$file" ] || command -v "$file" >/dev/null 2>&1 || echo "$package"
    done <<'END'
rabbitmq-server /usr/lib/rabbitmq/bin/rabbitmq-server
redis-server redis-server
chromium chromium
nodejs node
npm npm
nginx /usr/sbin/nginx
haproxy /usr/sbin/haproxy
caddy caddy
prometheus promtool
systemd systemd-analyze
iproute2 /sbin/tc
curl curl
default-jdk-headless javac
librabbitmq-client-java /usr/share/java/amqp-client.jar
php-cli php
php-amqplib /usr/share/php/PhpAmqpLib/autoload.php
END
}

missing_for_bench() {
    [ -e /usr/lib/nginx/modules/ngx_nchan_module.so ] || echo libnginx-mod-nchan
    command -v cc >/dev/null 2>&1 || echo gcc libc6-dev
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

can_install() {
    command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends \
        -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

keep_services_down() {
    # Packages ask policy-rc.d before they start their service; 101 is "forbidden". Somebody's own is left alone.
    [ -e "$POLICY" ] && return
    trap 'as_root rm -f "$POLICY"' EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$POLICY" >/dev/null
    as_root chmod 755 "$POLICY"
}

install() {
    echo "bootstrap: installing $*"
    keep_services_down
    if ! apt-cache show "$@" >/dev/null 2>&1 || ! apt_install "$@"; then
        # No package lists yet, or old ones that name files which are no longer there.
        as_root apt-get update --quiet </dev/null
        apt_install "$@"
    fi
}

case "${1:-}" in
    venv | test | bench) what=$1 ;;
    *) echo "usage: $0 venv|test|bench" >&2; exit 2 ;;
esac

packages=$("missing_for_$what")
[ -n "$packages" ] || exit 0

if can_install; then
    # shellcheck disable=SC2086  # one word a package
    install $packages
    packages=$("missing_for_$what")
    [ -n "$packages" ] || exit 0
fi

echo "bootstrap: missing, please install: $(echo $packages)" >&2
[ "$what" = bench ] && exit 0
[ "$what" = test ] && [ "${CI:-}" != true ] && {
    echo "bootstrap: the tests that need them will be skipped" >&2
    exit 0
}
exit 1
