# Sourced, in the guest. A second target of ours, beside the one that cases share: it is a case's own, ends with it, and listens on port 4421.

second_directory=/run/lab/second
second_pid=

# second_config: what the case says on standard input, and what every target needs.
second_config() {
    local shared_receives=0
    [ "$LAB_VARIANT" != srq ] || shared_receives=64
    mkdir -p $second_directory
    {
        cat <<TOML
[target]
cpus = [1]
data_memory = "4MiB"
[transport]
provider = "ibv"
transfer_size = "128KiB"
shared_receives = $shared_receives
[rpc]
socket = "$second_directory/rpc"
TOML
        cat
    } >$second_directory/target.toml
}

# second_start: with the configuration that is there.
second_start() {
    local program=${LAB_BIN:-}/nvmf-tgt before
    [ "$LAB_VARIANT" != asan ] || program=$LAB_BIN_ASAN/nvmf-tgt
    touch /lab/logs/second
    before=$(second_ready_count)
    "$program" --config $second_directory/target.toml >>/lab/logs/second 2>&1 &
    second_pid=$!
    wait_for "the second target is ready, or has ended" second_has_answered "$before"
    kill -0 $second_pid 2>/dev/null || { tail -20 /lab/logs/second >&2; fail "the second target did not start"; }
}
second_ready_count() { grep -c ' ready' /lab/logs/second || true; }
second_has_answered() { [ "$(second_ready_count)" != "$1" ] || ! kill -0 $second_pid 2>/dev/null; }

second_kill() {
    kill -KILL $second_pid
    wait $second_pid || true
}

# second_down: SIGTERM, and it has to end well.
second_down() {
    kill -TERM $second_pid
    wait_for "the second target ends after SIGTERM" refused kill -0 $second_pid
    wait $second_pid || fail "the second target's status after SIGTERM is $?"
}
