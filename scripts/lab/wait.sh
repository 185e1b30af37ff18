# Sourced, in the guest. Waiting for what is to become true; saying what went wrong.

# The machine is slow and may be busy besides: limits are generous, as nothing is waited for longer than it takes.
patience_s=${LAB_PATIENCE_S:-60}

# wait_for WHAT COMMAND…: until the command is true. After patience_s it is an error, which names WHAT.
wait_for() {
    local what=$1 end=$((SECONDS + patience_s))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || fail "waited $patience_s s in vain for: $what"
        sleep 0.1
    done
}

# in_vain_for SECONDS COMMAND…: true if the command does not become true in that time.
in_vain_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 0
        sleep 0.1
    done
    return 1
}

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# expect WHAT WANTED FOUND
expect() {
    [ "$2" = "$3" ] || fail "$1 is '$3', expected '$2'"
}

# refused COMMAND…: true if the command fails.
refused() { ! "$@" 2>/dev/null; }

# not_yet WHAT: the case found that something is missing, which is known. It passes, and the table says so.
not_yet() { echo "not yet: $*" >>/run/lab/not-yet; }
