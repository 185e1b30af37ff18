# The kernel's native multipath over our target, and over two of them.

declare_case path-states 300 day "two addresses of one subsystem: every ANA state is set by JSON-RPC under verified I/O, the host is told, and I/O takes the other path" plain srq two-cpus
case_path_states() {
    local nqn=nqn.2026-11.io.quiesce:paths first second io state disk
    target_up
    rpc_is true nvmf_create_subsystem "{\"nqn\": \"$nqn\", \"allow_any_host\": true, \"ana_reporting\": true, \"min_cntlid\": 100, \"max_cntlid\": 199}"
    rpc_is true nvmf_subsystem_add_listener "$(path_of $nqn 10.9.0.1)"
    rpc_is true nvmf_subsystem_add_listener "$(path_of $nqn fd09::1)"
    rpc_is '"shared"' bdev_malloc_create '{"name": "shared", "num_blocks": 65536, "block_size": 512}'
    rpc_is 1 nvmf_subsystem_add_ns "{\"nqn\": \"$nqn\", \"namespace\": {\"bdev_name\": \"shared\"}}"
    host_connect 10.9.0.1 $nqn -i 1
    first=$host_controller
    host_connect fd09::1 $nqn -i 1
    second=$host_controller
    expect "the first controller's id" 100 "$(nvme id-ctrl "/dev/$first" -o json | jq .cntlid)"
    host_namespace $nqn 1
    disk=$host_disk
    nvme ana-log "/dev/$first" -o json
    nvme list-subsys "$disk"
    wait_for "both paths are optimized" path_is "$first" optimized
    wait_for "both paths are optimized" path_is "$second" optimized
    io_begin "$disk"
    for state in inaccessible non_optimized persistent_loss change optimized; do
        path_set $nqn 10.9.0.1 $state
        wait_for "the host knows one path as $state" path_is "$first" "${state//_/-}"
        case $state in
            optimized) io_goes_on ;;
            *) io_avoids "$first" ;;
        esac
    done
    path_set $nqn fd09::1 inaccessible
    wait_for "the host knows the other path as inaccessible" path_is "$second" inaccessible
    io_avoids "$second"
    # No path at all: I/O waits, and none fails.
    path_set $nqn 10.9.0.1 inaccessible
    wait_for "the host knows no path" path_is "$first" inaccessible
    path_set $nqn fd09::1 non_optimized
    wait_for "the host knows the other path as non-optimized" path_is "$second" non-optimized
    io_avoids "$first"
    io_ends
    host_disconnect "$second"
    host_disconnect "$first"
    rpc_is true nvmf_delete_subsystem "{\"nqn\": \"$nqn\"}"
    rpc_is true bdev_malloc_delete '{"name": "shared"}'
}

# path_of NQN ADDRESS [MORE]: a listener, as parameters.
path_of() {
    local family=IPv4
    case $2 in *:*) family=IPv6 ;; esac
    echo "{\"nqn\": \"$1\", \"listen_address\": {\"trtype\": \"RDMA\", \"adrfam\": \"$family\", \"traddr\": \"$2\", \"trsvcid\": \"${host_port:-4420}\"}${3:-}}"
}
path_set() { rpc_is true nvmf_subsystem_listener_set_ana_state "$(path_of "$1" "$2" ", \"ana_state\": \"$3\"")"; }
# path_is CONTROLLER STATE: of its first namespace, as the kernel has it.
path_is() { [ "$(cat /sys/class/nvme/"$1"/nvme*n1/ana_state 2>/dev/null)" = "$2" ]; }
path_count() { awk '{ print $1 + $5 }' /sys/class/nvme/"$1"/nvme*n1/stat; }

io_goes_on() { wait_for "I/O goes on" io_beyond $(($(io_count) + 24)); }
# io_avoids CONTROLLER: I/O goes on, and none of it by that path. What was sent by it before is waited for.
io_avoids() {
    local before
    io_goes_on
    before=$(path_count "$1")
    io_goes_on
    expect "I/O by the path of $1" "$before" "$(path_count "$1")"
}

declare_case path-two-targets 240 day "two targets offer one subsystem: by ANA and by kill -9 I/O moves to the other and back, and is verified" plain srq
case_path_two_targets() {
    local nqn=nqn.2026-11.io.quiesce:shared uuid=11111111-2222-4333-8444-555555555555 nguid=0123456789abcdef0123456789abcdef
    local first second io loops id
    target_up
    # One file by two block devices: each target has one for itself, and both have the same blocks.
    modprobe loop
    truncate -s 16M /run/lab/blocks
    loops=($(losetup -f --show /run/lab/blocks) $(losetup -f --show /run/lab/blocks))
    rpc_is true nvmf_create_subsystem "{\"nqn\": \"$nqn\", \"serial_number\": \"SHARED\", \"allow_any_host\": true, \"ana_reporting\": true, \"shared\": true, \"min_cntlid\": 1, \"max_cntlid\": 99}"
    rpc_is true nvmf_subsystem_add_listener "$(path_of $nqn 10.9.0.1)"
    rpc_is '"blocks"' bdev_uring_create "{\"name\": \"blocks\", \"filename\": \"${loops[0]}\", \"block_size\": 512}"
    rpc_is 1 nvmf_subsystem_add_ns "{\"nqn\": \"$nqn\", \"namespace\": {\"bdev_name\": \"blocks\", \"uuid\": \"$uuid\", \"nguid\": \"$nguid\"}}"
    second_config <<TOML
[[device]]
name = "blocks"
type = "file"
path = "${loops[1]}"
block_size = 512
[[subsystem]]
nqn = "$nqn"
serial = "SHARED"
allow_any_host = true
ana_reporting = true
shared = true
min_cntlid = 100
max_cntlid = 199
listeners = ["10.9.0.1:4421"]
[[subsystem.namespace]]
device = "blocks"
uuid = "$uuid"
nguid = "$nguid"
TOML
    second_start
    host_connect 10.9.0.1 $nqn -i 1
    first=$host_controller
    host_connect 10.9.0.1 $nqn -i 1 -s 4421
    second=$host_controller
    for id in "$first" "$second"; do
        nvme id-ctrl "/dev/$id" -o json >/run/lab/json
        # What the two cannot agree upon is not offered: reservations, fused commands.
        expect "reservations and fused commands" "0 0" "$(jq -r '"\(((.oncs / 32) | floor) % 2) \(.fuses)"' /run/lab/json)"
    done
    expect "the second controller's id" 100 "$(jq .cntlid /run/lab/json)"
    host_namespace $nqn 1
    io_begin "$host_disk"
    path_set $nqn 10.9.0.1 inaccessible
    wait_for "the host knows the first path as inaccessible" path_is "$first" inaccessible
    io_avoids "$first"
    path_set $nqn 10.9.0.1 optimized
    wait_for "the host knows the first path as optimized" path_is "$first" optimized
    second_kill
    wait_for "the host has lost the second target" refused host_is live "$second"
    io_goes_on
    second_start
    wait_for "the second is live again" host_is live "$second"
    path_set $nqn 10.9.0.1 inaccessible
    wait_for "the host knows the first path as inaccessible" path_is "$first" inaccessible
    io_avoids "$first"
    io_ends
    host_disconnect "$second"
    host_disconnect "$first"
    rpc_is true nvmf_delete_subsystem "{\"nqn\": \"$nqn\"}"
    rpc_is true bdev_uring_delete '{"name": "blocks"}'
    second_down
    losetup -d "${loops[@]}"
}
