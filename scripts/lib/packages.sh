# Sourced. need_commands COMMAND=PACKAGE …: installs the Debian packages of commands that are missing, or names them and stops.

# Debian keeps file system tools where an ordinary user's PATH does not look.
PATH="$PATH:/usr/sbin:/sbin"

need_commands() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null 2>&1 || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    local sudo=()
    if [ "$(id -u)" -ne 0 ]; then
        if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
            sudo=(sudo -n)
        else
            echo "missing packages: ${missing[*]}" >&2
            echo "install them and run this again:  sudo apt-get install ${missing[*]}" >&2
            exit 1
        fi
    fi
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "missing: ${missing[*]} (named as Debian packages; there is no apt-get here)" >&2
        exit 1
    fi
    echo "installing ${missing[*]}"
    "${sudo[@]}" apt-get update -qq
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

need_cargo() {
    command -v cargo >/dev/null 2>&1 && return 0
    [ -x "$HOME/.cargo/bin/cargo" ] && PATH="$HOME/.cargo/bin:$PATH" && return 0
    echo "missing: a Rust toolchain (1.95 or later); https://rustup.rs tells how to get one" >&2
    exit 1
}
