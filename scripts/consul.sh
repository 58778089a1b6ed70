# Sourced by install-peers after apt.sh: the real Consul that the tests run.
#
# Debian's last release that packages Consul is bullseye (1.8.7). Its package is fetched from the
# mirrors that this machine's own apt sources name, by an apt with state, cache and sources of its
# own under target/peers/consul, and unpacked there: nothing is installed, and nothing of the
# machine's configuration is touched.

consul_suite=bullseye
debian_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# Writes a one-line source of bullseye for each Debian archive that the machine uses: the release
# itself and its security updates.
consul_sources() {
    # shellcheck disable=SC2016 # the fields are apt's
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        while read -r uri release component; do
            [ "$component" = main ] || continue
            case "$release" in
                "$1") printf '%s %s\n' "$uri" "$consul_suite" ;;
                "$1-security" | "$1/updates") printf '%s %s\n' "$uri" "$consul_suite-security" ;;
            esac
        done | sort -u |
        while read -r uri suite; do
            printf 'deb [arch=%s signed-by=%s] %s %s main\n' \
                "$(dpkg --print-architecture)" "$debian_keyring" "$uri" "$suite"
        done
}

# Fetches and unpacks Consul below the directory $1, unless it is there.
install_consul() {
    local root=$1/consul hint='or set CONSUL_BIN to a Consul of your own'
    [ -z "${CONSUL_BIN-}" ] || return 0
    [ ! -x "$root/usr/bin/consul" ] || return 0
    [ -r "$debian_keyring" ] ||
        fail "$debian_keyring is missing; install debian-archive-keyring, $hint"

    local apt=$root/apt codename
    codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME-}")
    rm -rf "$apt" "$root/unpacked"
    mkdir -p "$apt"/{state/lists/partial,cache/archives/partial,parts}
    consul_sources "$codename" >"$apt/sources.list"
    [ -s "$apt/sources.list" ] ||
        fail "no apt source of this machine names the archive of Debian $codename; add one, $hint"

    local options=(
        -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts="$apt/parts"
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts="$apt/parts"
        -o Dir::State="$apt/state" -o Dir::State::status=/dev/null -o Dir::Cache="$apt/cache"
        -o APT::Default-Release= -o APT::Sandbox::User= -o Acquire::Retries=3
        -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
    )
    printf 'fetching: consul (%s) into %s\n' "$consul_suite" "$root"
    # One archive of several may lack the suite; whether the package can be had decides.
    apt-get "${options[@]}" update -q || true
    (cd "$apt" && apt-get "${options[@]}" download -q consul) ||
        fail "consul cannot be fetched; see whether $apt/sources.list names an archive that has $consul_suite, $hint"
    dpkg -x "$apt"/consul_*.deb "$root/unpacked"
    # In one step: what is there is whole.
    rm -rf "$root/usr"
    mv "$root/unpacked/usr" "$root/usr"
    rm -rf "$root/unpacked" "$apt"
}
