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
