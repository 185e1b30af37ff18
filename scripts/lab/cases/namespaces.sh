# The kernel's host against our target, while namespaces change by JSON-RPC and while their subsystem is paused.

declare_case host-namespaces 150 ci "a namespace is added, grows, is hidden, shown and removed under a connected host that verifies: events tell it, nobody rescans" plain day:srq
case_host_namespaces() {
    local io nsid disk
    target_up
    host_connect 10.9.0.1 $our_nqn -i 2
    host_namespace $our_nqn 1
    io_begin "$host_disk"
    rpc_is '"late"' bdev_null_create '{"name": "late", "num_blocks": 65536, "block_size": 512}'
    nsid=$(rpc nvmf_subsystem_add_ns "{\"nqn\": \"$our_nqn\", \"namespace\": {\"bdev_name\": \"late\", \"no_auto_visible\": true}}")
    expect "the lowest free id" 3 "$nsid"
    expect "namespaces that the host sees" "1 2" "$(nsids_of "$host_controller")"
    rpc_is true nvmf_ns_add_host "$(seer_of "$nsid")"
    host_namespace $our_nqn "$nsid"
    disk=$host_disk
    expect "sectors" 65536 "$(cat "/sys/block/${disk##*/}/size")"
    rpc_is true bdev_null_resize '{"name": "late", "new_size": 64}'
    wait_for "the host sees the new size" sectors_are "$disk" 131072
    rpc_is true nvmf_ns_remove_host "$(seer_of "$nsid")"
    wait_for "the host sees the disk no more" refused test -e "$disk"
    rpc_is true nvmf_ns_add_host "$(seer_of "$nsid")"
    host_namespace $our_nqn "$nsid"
    rpc_is true nvmf_subsystem_remove_ns "{\"nqn\": \"$our_nqn\", \"nsid\": $nsid}"
    wait_for "the host has no such disk any more" refused test -e "$host_disk"
    rpc_is true bdev_null_delete '{"name": "late"}'
    # A disk of memory, with its own namespace, is deleted with it.
    rpc_is '"Malloc0"' bdev_malloc_create '{"num_blocks": 32768, "block_size": 512}'
    nsid=$(rpc nvmf_subsystem_add_ns "{\"nqn\": \"$our_nqn\", \"namespace\": {\"bdev_name\": \"Malloc0\"}}")
    host_namespace $our_nqn "$nsid"
    verified "$host_disk" --rw=randwrite --bs=4k --iodepth=16 --size=1m
    rpc_is true bdev_malloc_delete '{"name": "Malloc0"}'
    wait_for "the host has no such disk any more" refused test -e "$host_disk"
    io_ends
    # The kernel has read the log that the events were about.
    nvme changed-ns-list-log "/dev/$host_controller" -o json
    host_disconnect "$host_controller"
}
sectors_are() { [ "$(cat "/sys/block/${1##*/}/size")" = "$2" ]; }
seer_of() { echo "{\"nqn\": \"$our_nqn\", \"nsid\": $1, \"host\": \"$(cat /etc/nvme/hostnqn)\"}"; }
nsids_of() { nvme list-ns "/dev/$1" -o json | jq -r '[.nsid_list[].nsid] | join(" ")'; }

declare_case host-pause 90 day "a subsystem is paused under verified I/O: nothing ends, commands of the admin queue do; then it is resumed, and no I/O failed" plain srq
case_host_pause() {
    local io before
    target_up
    host_connect 10.9.0.1 $our_nqn -i 2
    host_namespace $our_nqn 1
    io_begin "$host_disk"
    for _ in 1 2; do
        rpc_is true nvmf_subsystem_pause "{\"nqn\": \"$our_nqn\"}"
        # The last answers are on their way.
        sleep 1
        before=$(io_count)
        nvme id-ns "/dev/$host_controller" -n 1 -o json | jq -e '.nsze > 0'
        sleep 2
        expect "I/O that ended while the subsystem was paused" 0 $(($(io_count) - before))
        rpc_is true nvmf_subsystem_resume "{\"nqn\": \"$our_nqn\"}"
        wait_for "I/O goes on" io_beyond $((before + 64))
    done
    io_ends
    host_disconnect "$host_controller"
}
