# Sourced. need_commands COMMAND=PACKAGE …, need_files FILE=PACKAGE …: installs the Debian packages of what is missing, or names them and stops.

# Debian keeps file system tools where an ordinary user's PATH does not look.
PATH="$PATH:/usr/sbin:/sbin"

need_commands() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null 2>&1 || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
}

need_files() {
    local pair missing=()
    for pair in "$@"; do
        [ -e "${pair%%=*}" ] || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
}

install_packages() {
    local sudo=()
    if [ "$(id -u)" -ne 0 ]; then
        if may_be_root; then
            sudo=(sudo -n)
        else
            echo "missing packages: $*" >&2
            echo "install them and run this again:  sudo apt-get install $*" >&2
            exit 1
        fi
    fi
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "missing: $* (named as Debian packages; there is no apt-get here)" >&2
        exit 1
    fi
    echo "installing $*" >&2
    "${sudo[@]}" apt-get update -qq >&2
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

may_be_root() { [ "$(id -u)" -eq 0 ] || { command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; }; }
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi; }

need_cargo() {
    command -v cargo >/dev/null 2>&1 && return 0
    [ -x "$HOME/.cargo/bin/cargo" ] && PATH="$HOME/.cargo/bin:$PATH" && return 0
    echo "missing: a Rust toolchain (1.95 or later); https://rustup.rs tells how to get one" >&2
    exit 1
}
