# Sourced, in the guest. Our target: one process, which cases share as long as they want the same variant of it.
#
#   plain      one CPU, receives of each queue pair's own, commands of up to 1 MiB
#   srq        one CPU, shared receives, commands of up to 128 KiB
#   two-cpus   two CPUs: queues of one host are on both
#   two-wires  two CPUs, shared receives, listeners on two RDMA devices: the second is 10.9.1.1
#   asan       two CPUs, shared receives, built with AddressSanitizer
#   kernel     not ours at all, but the kernel's: any case may be asked for with it, to tell whether the lab or our target is wrong. What needs our metrics fails
#
# Namespaces 1 (memory, blocks of 512 bytes, 64 MiB) and 2 (a file, blocks of 4096 bytes, 32 MiB).

our_nqn=nqn.2026-11.io.quiesce:lab
our_serial=QUIESCE-LAB
our_model="Quiesce lab"
our_directory=/run/lab/target
our_metrics=127.0.0.1:9420

# target_up: the target of the case's variant, ready. It goes on after the case.
target_up() {
    if [ "$LAB_VARIANT" = kernel ]; then
        kernel_target_up $our_nqn 10.9.0.1 fd09::1
        return
    fi
    if target_is_up && [ "$(cat $our_directory/variant)" = "$LAB_VARIANT" ]; then
        return 0
    fi
    target_down || return 1
    [ "$LAB_VARIANT" != two-wires ] || network_second_up || return 1
    mkdir -p $our_directory
    target_config >$our_directory/target.toml
    target_start
    gauges >$our_directory/baseline
}

target_config() {
    local cpus="[0]" shared_receives=0 transfer_size=1MiB second=""
    case $LAB_VARIANT in
        plain) ;;
        srq) shared_receives=256 transfer_size=128KiB ;;
        two-cpus) cpus="[0, 1]" ;;
        two-wires) cpus="[0, 1]" shared_receives=128 second=', "10.9.1.1:4420"' ;;
        asan) cpus="[0, 1]" shared_receives=256 transfer_size=128KiB ;;
        *) fail "no variant of the target is called $LAB_VARIANT" ;;
    esac
    cat <<TOML
[target]
cpus = $cpus
data_memory = "16MiB"
[transport]
provider = "ibv"
transfer_size = "$transfer_size"
shared_receives = $shared_receives
[[device]]
name = "memory"
type = "memory"
size = "64MiB"
[[device]]
name = "image"
type = "file"
path = "$our_directory/image"
block_size = 4096
[[subsystem]]
nqn = "$our_nqn"
serial = "$our_serial"
model = "$our_model"
allow_any_host = true
listeners = ["10.9.0.1:4420", "[fd09::1]:4420"$second]
[[subsystem.namespace]]
nsid = 1
device = "memory"
[[subsystem.namespace]]
nsid = 2
device = "image"
[metrics]
listen = "$our_metrics"
[rpc]
socket = "$our_directory/rpc"
TOML
}

# target_start: with the configuration that is there. Its log goes on where an earlier one's ended, and so does what its gauges have to come back to: a host
# may be waiting for it, and be there before anybody looks.
target_start() {
    local program=${LAB_BIN:-}/nvmf-tgt before
    [ "$LAB_VARIANT" != asan ] || program=$LAB_BIN_ASAN/nvmf-tgt
    [ -e $our_directory/image ] || truncate -s 32M $our_directory/image
    echo "$LAB_VARIANT" >$our_directory/variant
    rm -f $our_directory/status
    touch /lab/logs/target
    before=$(target_ready_count)
    # Not in the case's process group, which ends with the case.
    setsid bash -c 'cd "$1"; "$2" --config target.toml >>/lab/logs/target 2>&1 & echo $! >pid; wait $!; echo $? >status' - $our_directory "$program" </dev/null >/dev/null 2>&1 &
    wait_for "the target is ready, or has ended" target_has_answered "$before"
    if ! target_is_up; then
        tail -20 /lab/logs/target >&2
        fail "the target did not start: status $(cat $our_directory/status)"
    fi
    wait_for "metrics" metrics_are_there
}

target_ready_count() { grep -c ' ready' /lab/logs/target || true; }
target_has_answered() { [ "$(target_ready_count)" != "$1" ] || [ -s $our_directory/status ]; }
target_is_up() { [ -s $our_directory/pid ] && [ ! -s $our_directory/status ]; }
target_pid() { cat $our_directory/pid; }

# target_down: SIGTERM, and it has to end well. Nothing if there is none.
target_down() {
    target_is_up || return 0
    kill -TERM "$(target_pid)"
    wait_for "the target ends after SIGTERM" test -s $our_directory/status
    expect "the target's status after SIGTERM" 0 "$(cat $our_directory/status)"
}

target_kill() {
    kill -KILL "$(target_pid)"
    wait_for "the target is killed" test -s $our_directory/status
}

# metric NAME: of the running target, summed over labels.
metric() {
    curl -sf --max-time 20 "http://$our_metrics/metrics" | awk -v name="$1" '{ split($1, parts, "{") } parts[1] == name { sum += $2 } END { printf "%d\n", sum }'
}

# rpc METHOD PARAMETERS: the result, as JSON. An error is one.
rpc() {
    local answer
    # Without modules, which would have to be read over the wire to this machine's files.
    answer=$(perl -e '
        my $socket;
        socket($socket, 1, 1, 0) && connect($socket, pack("S a108", 1, $ARGV[0])) or die "$ARGV[0]: $!\n";
        syswrite($socket, $ARGV[1]);
        my ($answer, $depth) = ("", 0);
        # One object, whose strings hold no brackets.
        while (sysread($socket, my $part, 65536)) {
            $answer .= $part;
            $depth = ($answer =~ tr/{//) - ($answer =~ tr/}//);
            last if $depth == 0 && length $answer;
        }
        print $answer;' "$our_directory/rpc" "{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"$1\", \"params\": $2}")
    jq -ce 'has("result")' <<<"$answer" >/dev/null || fail "$1 was answered with: $answer"
    jq -c .result <<<"$answer"
}

# rpc_is RESULT METHOD PARAMETERS: the method has that result.
rpc_is() { expect "the result of $2" "$1" "$(rpc "$2" "$3")"; }

# gauges: name and value of every gauge of live things.
gauges() {
    curl -sf --max-time 20 "http://$our_metrics/metrics" | awk '!/^#/ { split($1, parts, "{") } !/^#/ && parts[1] ~ /(_live|^nvmf_(qpairs|controllers|requests|device_leases|buffers_taken|limbo_entries))$/ { sum[parts[1]] += $2 }
        END { for (name in sum) print name, sum[name] }' | sort
}
metrics_are_there() { [ -n "$(gauges)" ]; }

# gauges_are_back: true when nothing is alive that was not at the start.
gauges_are_back() { [ "$(gauges)" = "$(cat $our_directory/baseline)" ]; }
gauges_left() { gauges | diff "$our_directory/baseline" - | sed -n 's/^> //p' | tr '\n' ' '; }
