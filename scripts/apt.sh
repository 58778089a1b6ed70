# Sourced by the install scripts: Debian packages by name, only those that are missing.

fail() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# Prints those of the given packages that are not installed.
missing_packages() {
    local package
    for package in "$@"; do
        if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
            printf '%s\n' "$package"
        fi
    done
}

# Runs a command as root: as it is, or by sudo.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "root is needed to run: $*"
    fi
}

# Fails off Debian, naming what to install there by hand.
need_debian() {
    command -v apt-get >/dev/null && command -v dpkg-query >/dev/null ||
        fail "this is no Debian; install by your own means what these packages bring: $*"
}

apt_install() {
    printf 'installing: %s\n' "$*"
    as_root apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}
