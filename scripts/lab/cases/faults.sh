# What goes wrong while a host verifies what it wrote. The kernel's host waits for its target (-l 120), so I/O ends well once that is back.

declare_case fault-device 180 day "the target's RDMA device is removed under I/O and comes back: the listener does too, and the host's I/O ends well" plain asan
case_fault_device() {
    local io removal process before
    target_up
    process=$(target_pid)
    before=$(returns_of_device)
    host_connect 10.9.0.1 $our_nqn -i 2
    host_namespace $our_nqn 1
    io_begin "$host_disk"
    for _ in 1 2; do
        rxe_remove va &
        removal=$!
        wait_for "the host has lost its target" refused host_is live "$host_controller"
        wait_for "nothing of the host is left in the target" nothing_connected
        # Soft-RoCE's removal waits for every process that has the device open.
        wait_for "the target has let go of the device" refused kill -0 $removal
        wait $removal
        expect "whether the device is gone" 1 "$(metric nvmf_rdma_device_removed)"
        expect "listeners that are waited for" 2 "$(metric nvmf_rdma_listeners_renewed_live)"
        rxe_add va
        wait_for "live again" host_is live "$host_controller"
    done
    io_ends
    host_disconnect "$host_controller"
    expect "returns of the device" $((before + 2)) "$(returns_of_device)"
    expect "whether the device is gone" 0 "$(metric nvmf_rdma_device_removed)"
    target_is_up || fail "the target ended"
    expect "the target's process" "$process" "$(target_pid)"
    # Its other address too.
    wait_for "both addresses are listened on" listeners_are 2
    host_connect fd09::1 $our_nqn -i 1
    host_disconnect "$host_controller"
}
returns_of_device() { metric nvmf_rdma_device_returns_total; }
listeners_are() { [ "$(metric nvmf_rdma_provider_listeners_live)" = "$1" ]; }

declare_case fault-one-of-two 240 day "a target on two RDMA devices: each is removed under I/O and comes back, and the other's host does not notice" two-wires
case_fault_one_of_two() {
    local io other
    target_up
    host_connect 10.9.0.1 $our_nqn -i 2
    host_namespace $our_nqn 1
    io_begin "$host_disk"
    our_host 10.9.1.1 $our_nqn --nsid 2 -w randwrite -o 4k -q 4 -P 2 -n 6000 --verify >/run/lab/other 2>&1 &
    other=$!
    wait_for "both are connected" controllers_are 2
    # The first, and the kernel's host with it.
    rxe_remove va
    wait_for "the host has lost its target" refused host_is live "$host_controller"
    expect "devices that are gone" 1 "$(metric nvmf_rdma_device_removed)"
    kill -0 $other || { cat /run/lab/other; fail "the other host has ended before the device was back"; }
    rxe_add va
    wait_for "live again" host_is live "$host_controller"
    wait $other || { cat /run/lab/other; fail "the other host's verification failed"; }
    # The second, and nobody of the kernel's host.
    our_host 10.9.1.1 $our_nqn --nsid 2 -w randwrite -o 4k -q 4 -P 2 -t 600 >/dev/null 2>&1 &
    other=$!
    wait_for "both are connected" controllers_are 2
    rxe_remove vc
    wait_for "the other host has lost its target" refused kill -0 $other
    host_is live "$host_controller" || fail "the kernel's host has noticed"
    rxe_add vc
    wait_for "the second device is back" devices_gone_are 0
    wait_for "all addresses are listened on" listeners_are 3
    our_host 10.9.1.1 $our_nqn --nsid 2 -w randwrite -o 4k -q 4 -P 2 -n 256 --verify
    expect "the kernel's host's reconnects" 1 "$(dmesg | awk -v mark="lab mark: fault-one-of-two@$LAB_VARIANT" 'index($0, mark) { count = 0 } /Successfully reconnected/ { count += 1 } END { print count + 0 }')"
    io_ends
    host_disconnect "$host_controller"
}
devices_gone_are() { [ "$(metric nvmf_rdma_device_removed)" = "$1" ]; }

declare_case fault-host-device 180 day "the host's RDMA device is removed under I/O: the target lets go of it, and takes the host when it is back"
case_fault_host_device() {
    target_up
    host_connect 10.9.0.1 $our_nqn -i 2
    host_namespace $our_nqn 1
    io_begin "$host_disk"
    rxe_remove vb
    wait_for "the host's controller is gone" refused test -e "/sys/class/nvme/$host_controller"
    wait_for "nothing of the host is left in the target" nothing_connected
    rxe_add vb
    wait $io || true
    host_connect 10.9.0.1 $our_nqn -i 2
    host_namespace $our_nqn 1
    verified "$host_disk" --rw=randwrite --bs=4k --iodepth=8
    host_disconnect "$host_controller"
}

declare_case fault-killed-host 120 ci "kill -9 of our host under load: the target notices, and another host goes on" day:plain day:srq asan
case_fault_killed_host() {
    local killed other
    target_up
    our_host 10.9.0.1 $our_nqn --nsid 1 -w randrw -o 16k -q 8 -P 2 -t 600 >/run/lab/killed 2>&1 &
    killed=$!
    our_host 10.9.0.1 $our_nqn --nsid 2 -w randwrite -o 4k -q 4 -n 512 --verify >/run/lab/other 2>&1 &
    other=$!
    wait_for "both are connected" controllers_are 2
    wait_for "commands" commands_beyond 100
    pkill -KILL -P $killed nvmf-perf || kill -KILL $killed
    wait $killed || true
    wait $other || { cat /run/lab/other; fail "the other host's verification failed"; }
    wait_for "nothing is connected" nothing_connected
}

declare_case fault-killed-target 180 ci "kill -9 of the target under I/O, and a new one: the host reconnects, and I/O ends well" plain
case_fault_killed_target() {
    local io
    target_up
    host_connect 10.9.0.1 $our_nqn -i 2
    # A file: what was answered outlives the target.
    host_namespace $our_nqn 2
    io_begin "$host_disk" --bs=4k
    target_kill
    wait_for "the host has lost its target" refused host_is live "$host_controller"
    target_start
    wait_for "live again" host_is live "$host_controller"
    io_ends
    host_disconnect "$host_controller"
}

declare_case fault-restarts 240 day "the target ends with SIGTERM and starts again, twice, while the host keeps reconnecting under I/O" srq asan
case_fault_restarts() {
    local io
    target_up
    host_connect 10.9.0.1 $our_nqn -i 2
    host_namespace $our_nqn 2
    io_begin "$host_disk" --bs=4k
    for _ in 1 2; do
        target_down
        wait_for "the host has lost its target" refused host_is live "$host_controller"
        target_start
        wait_for "live again" host_is live "$host_controller"
    done
    io_ends
    host_disconnect "$host_controller"
}

declare_case fault-upgrade 300 day "the target ends and another one starts in its place, as in an upgrade: a host with default timeouts goes on with verified I/O, also on a namespace that came by request" plain
case_fault_upgrade() {
    local io nsid
    target_down
    mkdir -p $our_directory
    target_config | sed "s|^cpus = .*|&\nstate_directory = \"$our_directory/state\"\nsave_changes = true|" >$our_directory/target.toml
    target_start
    gauges >$our_directory/baseline
    truncate -s 16M $our_directory/upgrade.img
    rpc_is '"upgrade"' bdev_aio_create "{\"name\": \"upgrade\", \"filename\": \"$our_directory/upgrade.img\", \"block_size\": 4096}"
    nsid=$(rpc nvmf_subsystem_add_ns "{\"nqn\": \"$our_nqn\", \"namespace\": {\"bdev_name\": \"upgrade\"}}")
    host_connect_plainly 10.9.0.1 $our_nqn
    host_namespace $our_nqn "$nsid"
    io_begin "$host_disk" --bs=4k
    target_down
    target_start
    wait_for "live again" host_is live "$host_controller"
    io_ends
    host_disconnect "$host_controller"
    target_down
    rm -rf $our_directory/state $our_directory/upgrade.img
}

declare_case fault-cable 240 day "every packet is lost until the host has given its connection up, then none: the host comes back, and I/O ends well" plain asan
case_fault_cable() {
    local io
    target_up
    host_connect 10.9.0.1 $our_nqn -i 2
    host_namespace $our_nqn 1
    io_begin "$host_disk"
    tc qdisc add dev va root netem loss 100%
    tc qdisc add dev vb root netem loss 100%
    wait_for "the host has lost its target" host_is connecting "$host_controller"
    # The target gives it up by itself: nothing can tell it.
    wait_for "nothing of the host is left in the target" nothing_connected
    tc qdisc del dev va root
    tc qdisc del dev vb root
    wait_for "live again" host_is live "$host_controller"
    io_ends
    host_disconnect "$host_controller"
}

declare_case fault-private-data 120 day "private data that is wrong, in every field: each is answered with its own status, and nothing is left of it" plain asan
case_fault_private_data() {
    local before
    target_up
    before=$(metric nvmf_rdma_connections_rejected_total)
    # Record format, queue id, HRQSIZE, HSQSIZE (zero-based), controller id; each of two bytes, little endian.
    answers "established" "0000 0000 2000 1f00 ffff"
    answers "rejected 2" "0100 0000 2000 1f00 ffff"
    answers "rejected 2" "ffff ffff ffff ffff ffff"
    answers "rejected 3" "0000 ffff 2000 1f00 0000"
    answers "rejected 4" "0000 0000 2000 0000 ffff"
    answers "rejected 5" "0000 0000 0000 1f00 ffff"
    # Nothing at all: the connection manager fills it up with zeroes, so it is queues of no entries.
    answers "rejected 4" ""
    # No reads may be asked of this host.
    answers "rejected 7" "0000 0000 2000 1f00 ffff" 0
    expect "rejects that were counted" 7 $(($(metric nvmf_rdma_connections_rejected_total) - before))
    for _ in 1 2 3 4 5 6 7 8; do
        /lab/raw-host 10.9.0.1 "$(head -c 56 /dev/urandom | od -An -v -tx1 | tr -d ' \n')"
    done
    wait_for "nothing is connected" nothing_connected
    our_host 10.9.0.1 $our_nqn --nsid 1 -w randwrite -o 4k -q 4 -n 64 --verify
}

# answers WORDS PRIVATE-DATA [DEPTH]
answers() { expect "the answer to private data '$2', read depth ${3:-16}," "$1" "$(/lab/raw-host 10.9.0.1 "${2// /}" "${3:-16}")"; }

declare_case fault-capsules 120 day "capsules that are too short, too long, or nonsense: the queue pair ends, and nothing else" plain srq asan
case_fault_capsules() {
    local bytes answer
    target_up
    for bytes in 1 63 64 200 20000; do
        answer=$(timeout 60 /lab/raw-host 10.9.0.1 0000000020001f00ffff 16 $bytes | tr '\n' ' ')
        echo "$bytes: $answer"
        case $bytes,$answer in
            *,"established RDMA_CM_EVENT_DISCONNECTED ") ;;
            # A command that there is not, of a legal length, is answered.
            64,"established answered "* | 200,"established answered "*) ;;
            *) fail "a capsule of $bytes bytes was answered with: $answer" ;;
        esac
    done
    wait_for "nothing is connected" nothing_connected
    our_host 10.9.0.1 $our_nqn --nsid 1 -w randwrite -o 4k -q 4 -n 64 --verify
}

declare_case fault-storm 240 ci "hosts of both kinds connect and leave all the time, some without a goodbye, while another verifies" day:two-cpus asan
case_fault_storm() {
    local io first storm
    target_up
    host_connect_as 1 10.9.0.1 $our_nqn nr_io_queues=2
    first=$host_controller
    host_namespace $our_nqn 2
    io_begin "$host_disk" --bs=4k
    our_host 10.9.0.1 $our_nqn --nsid 1 connect -P 3 -j 4 -n 40 --end mixed --verify 2 --continue-on-error >/run/lab/storm 2>&1 &
    storm=$!
    for _ in 1 2 3; do
        host_connect_as 2 10.9.0.1 $our_nqn nr_io_queues=2
        nvme reset "/dev/$host_controller"
        host_disconnect "$host_controller"
        our_host 10.9.0.1 $our_nqn --nsid 1 -w randread -o 4k -q 8 -P 2 -t 600 >/dev/null 2>&1 &
        sleep 1
        pkill -KILL -P $! nvmf-perf || kill -KILL $! || true
    done
    wait $storm || { cat /run/lab/storm; fail "the storm's host failed"; }
    io_ends
    host_disconnect "$first"
    wait_for "nothing is connected" nothing_connected
}

# io_begin DISK [ARGUMENT…]: verified I/O in the background, as io, which has begun when this returns. io_ends: it is told to end, and has to end well.
io_begin() {
    local disk=$1 before
    shift
    before=$(io_count)
    rm -f /run/lab/io-end
    (while [ ! -e /run/lab/io-end ]; do verified "$disk" --rw=randwrite --bs=4k --iodepth=8 --size=1M "$@" || exit 1; done) >/run/lab/io 2>&1 &
    io=$!
    wait_for "I/O has begun" io_beyond $((before + 64))
}
# Of all disks and paths: a disk of several paths counts nothing itself on Linux 6.1.
io_count() { cat /sys/block/nvme*/stat | awk '{ sum += $1 + $5 } END { print sum + 0 }'; }
io_beyond() { [ "$(io_count)" -gt "$1" ]; }
io_ends() {
    touch /run/lab/io-end
    wait $io || { cat /run/lab/io; fail "verified I/O ended with an error"; }
}

# Nothing can be asked of the kernel's target.
nothing_connected() { [ "$LAB_VARIANT" = kernel ] || no_connections; }
no_connections() { controllers_are 0 && [ "$(metric nvmf_rdma_connections_live)" = 0 ]; }
controllers_are() { [ "$(metric nvmf_controllers)" = "$1" ]; }
commands_beyond() { [ "$(metric nvmf_commands_total)" -gt "$1" ]; }
