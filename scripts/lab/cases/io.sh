# The I/O commands beyond reading and writing: the kernel's host against our target.

declare_case io-commands 120 day "nvme compare, verify, copy, dsm, write-zeroes with deallocation, write-uncor; what Identify says of them" plain srq two-cpus
case_io_commands() {
    local before=/run/lab/before part=/run/lab/part json=/run/lab/json oncs
    target_up
    host_connect 10.9.0.1 $our_nqn -i 2
    host_namespace $our_nqn 1
    nvme id-ctrl "/dev/$host_controller" -o json >$json
    oncs=$(jq .oncs $json)
    # Compare, Dataset Management, Write Zeroes, Verify, Copy; no Write Uncorrectable without a device that can.
    expect "ONCS, of the I/O commands" $((0x18d)) $((oncs & 0x18f))
    expect "FUSES" 1 "$(jq .fuses $json)"
    nvme id-ns "$host_disk" -o json >$json
    expect "MSRC, MSSRL, MCL" "127 32768 131072" "$(jq -r '"\(.msrc) \(.mssrl) \(.mcl)"' $json)"

    head -c 1M /dev/urandom >$before
    dd if=$before of="$host_disk" bs=64k oflag=direct status=none
    io_compare $before $part
    nvme verify "$host_disk" -n 1 -s 0 -c 65535
    if nvme verify "$host_disk" -n 1 -s 131072 -c 0; then
        fail "verified past the end"
    fi
    io_copy $before
    io_deallocate $before
    nvme write-zeroes "$host_disk" -n 1 -s 64 -c 63 -d
    dd if=/dev/zero of=$before bs=512 seek=64 count=64 conv=notrunc status=none
    same_as $before "$host_disk"
    if nvme write-uncor "$host_disk" -n 1 -s 0 -c 0; then
        fail "wrote an uncorrectable block to a device that has none"
    fi
    host_disconnect "$host_controller"
}

declare_case io-faults 120 day "blocks written as uncorrectable, and an error that is injected by JSON-RPC: what the kernel's host is told, and that both are over" plain srq
case_io_faults() {
    local nsid before=/run/lab/before part=/run/lab/part device
    target_up
    rpc_is '"bad"' bdev_malloc_create '{"name": "bad", "num_blocks": 32768, "block_size": 512}'
    rpc_is true bdev_error_create '{"base_name": "bad"}'
    nsid=$(rpc nvmf_subsystem_add_ns "{\"nqn\": \"$our_nqn\", \"namespace\": {\"bdev_name\": \"EE_bad\"}}")
    host_connect 10.9.0.1 $our_nqn -i 1
    host_namespace $our_nqn "$nsid"
    device=$host_disk
    nvme id-ctrl "/dev/$host_controller" -o json | jq -e '((.oncs / 2) | floor) % 2 == 1'
    head -c 64k /dev/urandom >$before
    dd if=$before of="$device" bs=64k oflag=direct status=none
    nvme write-uncor "$device" -n "$nsid" -s 8 -c 7
    unreadable nvme read "$device" -n "$nsid" -s 8 -c 0 -z 512 -d $part
    unreadable nvme read "$device" -n "$nsid" -s 0 -c 127 -z 65536 -d $part
    unreadable nvme verify "$device" -n "$nsid" -s 15 -c 0
    if dd if="$device" of=$part bs=4k skip=1 count=1 iflag=direct status=none; then
        fail "the kernel has read uncorrectable blocks"
    fi
    # Beside them.
    nvme read "$device" -n "$nsid" -s 16 -c 0 -z 512 -d $part
    cmp $part <(dd if=$before bs=512 skip=16 count=1 status=none)
    dd if=$before of="$device" bs=4k skip=1 seek=1 count=1 oflag=direct conv=notrunc status=none
    same_as $before "$device"
    rpc_is true bdev_error_inject_error '{"name": "EE_bad", "io_type": "read", "error_type": "failure", "num": 1}'
    # Passed through, as the kernel itself would try again.
    if nvme read "$device" -n "$nsid" -s 0 -c 0 -z 512 -d $part; then
        fail "a read that had to fail did not"
    fi
    nvme read "$device" -n "$nsid" -s 0 -c 0 -z 512 -d $part
    same_as $before "$device"
    host_disconnect "$host_controller"
    rpc_is true bdev_error_delete '{"name": "EE_bad"}'
    rpc_is true bdev_malloc_delete '{"name": "bad"}'
}

# unreadable COMMAND…: it ends with Unrecovered Read Error.
unreadable() {
    local said
    if said=$("$@" 2>&1); then
        fail "no error: $*"
    fi
    grep -qi 'unrecovered read error' <<<"$said" || fail "$* ended with: $said"
}

# io_compare FILE PART: 4 KiB and 64 KiB that are the same, and the same with the last byte changed.
io_compare() {
    local count len
    for count in 8 128; do
        len=$((count * 512))
        dd if="$1" of="$2" bs=512 skip=32 count=$count status=none
        nvme compare "$host_disk" -n 1 -s 32 -c $((count - 1)) -z $len -d "$2"
        printf '\001' | dd of="$2" bs=1 seek=$((len - 1)) conv=notrunc status=none
        if cmp -s "$2" <(dd if="$1" bs=512 skip=32 count=$count status=none); then
            printf '\002' | dd of="$2" bs=1 seek=$((len - 1)) conv=notrunc status=none
        fi
        if nvme compare "$host_disk" -n 1 -s 32 -c $((count - 1)) -z $len -d "$2"; then
            fail "$len bytes compare that are not the same"
        fi
    done
}

# io_copy FILE: two ranges to where nothing of them is; then one onto itself. Counts are zero-based.
io_copy() {
    nvme copy "$host_disk" -n 1 --sdlba=1024 --slbs=16,400 --blocks=7,299
    dd if="$1" of="$1" bs=512 skip=16 seek=1024 count=8 conv=notrunc status=none
    dd if="$1" of="$1" bs=512 skip=400 seek=1032 count=300 conv=notrunc status=none
    same_as "$1" "$host_disk"
    if nvme copy "$host_disk" -n 1 --sdlba=4 --slbs=0 --blocks=7; then
        fail "copied blocks onto themselves"
    fi
    same_as "$1" "$host_disk"
}

# io_deallocate FILE: two ranges of one command, which read as zeroes afterwards; one of two past the end, and nothing is done.
io_deallocate() {
    nvme dsm "$host_disk" -n 1 -d -s 8,512 -b 8,128
    dd if=/dev/zero of="$1" bs=512 seek=8 count=8 conv=notrunc status=none
    dd if=/dev/zero of="$1" bs=512 seek=512 count=128 conv=notrunc status=none
    same_as "$1" "$host_disk"
    if nvme dsm "$host_disk" -n 1 -d -s 0,131071 -b 8,2; then
        fail "deallocated past the end"
    fi
    same_as "$1" "$host_disk"
    # The kernel sends a whole page for one range.
    blkdiscard -o 768k -l 64k "$host_disk"
    dd if=/dev/zero of="$1" bs=64k seek=12 count=1 conv=notrunc status=none
    same_as "$1" "$host_disk"
}
