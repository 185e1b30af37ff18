# The kernel's host against our target.

declare_case host-discover 60 ci "nvme discover, and every field of its JSON; a subsystem that is not there"
case_host_discover() {
    local log=/run/lab/discovery
    target_up
    modprobe nvme-rdma
    nvme discover -t rdma -a 10.9.0.1 -w 10.9.0.2 -s 4420
    nvme discover -t rdma -a 10.9.0.1 -w 10.9.0.2 -s 4420 -o json >$log
    cat $log
    # By each listener, and nothing else.
    expect "records of our subsystem" 2 "$(jq "[.records[] | select(.subnqn == \"$our_nqn\")] | length" $log)"
    discovered 10.9.0.1 ipv4 $log
    discovered fd09::1 ipv6 $log
    if nvme connect -t rdma -a 10.9.0.1 -w 10.9.0.2 -s 4420 -n nqn.2026-11.io.quiesce:nobody; then
        fail "connected to a subsystem that there is not"
    fi
}

# discovered ADDRESS FAMILY FILE
discovered() {
    local record
    record=$(jq -c --arg nqn $our_nqn --arg address "$1" '.records[] | select(.subnqn == $nqn and .traddr == $address)' "$3")
    expect trtype rdma "$(jq -r .trtype <<<"$record")"
    expect adrfam "$2" "$(jq -r .adrfam <<<"$record")"
    expect subtype "nvme subsystem" "$(jq -r .subtype <<<"$record")"
    expect trsvcid 4420 "$(jq -r .trsvcid <<<"$record")"
    expect rdma_qptype connected "$(jq -r .rdma_qptype <<<"$record")"
    expect rdma_cms rdma-cm "$(jq -r .rdma_cms <<<"$record")"
    jq -e '.treq | test("not (required|specified)")' <<<"$record"
    jq -e '.rdma_prtype | test("roce|not specified")' <<<"$record"
}

declare_case host-identify 90 ci "id-ctrl, id-ns, list-subsys, list, smart-log, logs, registers, features: fields are checked" plain day:srq
case_host_identify() {
    local json=/run/lab/json device
    target_up
    host_connect 10.9.0.1 $our_nqn -i 1
    device=/dev/$host_controller
    nvme id-ctrl "$device" -o json >$json
    cat $json
    expect "serial number" $our_serial "$(jq -r '.sn | rtrimstr(" ") | sub(" +$"; "")' $json)"
    expect "model number" "$our_model" "$(jq -r '.mn | sub(" +$"; "")' $json)"
    expect "subsystem NQN" $our_nqn "$(jq -r .subnqn $json)"
    expect "sqes, cqes" "102 68" "$(jq -r '"\(.sqes) \(.cqes)"' $json)"
    expect "response capsules" 1 "$(jq -r .iorcsz $json)"
    jq -e '.ioccsz >= 4 and .cntlid > 0 and .maxcmd > 0 and .kas > 0 and (.sgls % 4) > 0' $json
    nvme id-ns "$device" -n 1 -o json >$json
    cat $json
    expect "blocks" 131072 "$(jq .nsze $json)"
    expect "bytes of a block, as a power of 2" 9 "$(jq '.lbafs[.flbas % 16].ds' $json)"
    nvme id-ns "$device" -n 2 -o json >$json
    expect "blocks of the file" 8192 "$(jq .nsze $json)"
    expect "bytes of a block of the file, as a power of 2" 12 "$(jq '.lbafs[.flbas % 16].ds' $json)"
    expect "namespaces" "1 2" "$(nvme list-ns "$device" -o json | jq -r '[.nsid_list[].nsid] | join(" ")')"
    nvme ns-descs "$device" -n 1 -o json | jq -e 'tostring | test("uuid|nguid|eui64")'
    nvme list-subsys -o json | jq -e --arg nqn $our_nqn 'tostring | contains($nqn) and contains("10.9.0.1") and contains("live")'
    host_namespace $our_nqn 1
    nvme list -o json | jq -e --arg disk "$host_disk" '[.. | strings] | any(. == $disk)'
    nvme smart-log "$device" -o json | jq -e 'has("temperature") and .critical_warning == 0'
    nvme error-log "$device" -e 1 -o json >/dev/null
    nvme fw-log "$device" -o json >/dev/null
    # CSTS: ready.
    nvme get-property "$device" --offset=0x1c --human-readable | grep -i 'ready.*: *yes'
    nvme get-feature "$device" -f 7
    nvme set-feature "$device" -f 11 -v 0
    host_disconnect "$host_controller"
}

declare_case host-queues 120 day "1, 2 and 6 I/O queues, short and long ones; verified I/O through each" plain two-cpus
case_host_queues() {
    local sizes
    target_up
    # I/O queues that the host shall have, and arguments for that.
    while read -r wanted sizes; do
        # shellcheck disable=SC2086
        host_connect 10.9.0.1 $our_nqn $sizes
        expect "I/O queues ($sizes)" "$wanted" "$(host_queue_count "$host_controller")"
        host_namespace $our_nqn
        verified "$host_disk" --rw=randwrite --bs=4k --iodepth=16 --size=512k
        if [ "$wanted" = 6 ]; then
            # Polled queues are used by polled I/O only.
            verified "$host_disk" --rw=randwrite --bs=4k --iodepth=1 --size=128k --ioengine=pvsync2 --hipri=1
        fi
        host_disconnect "$host_controller"
    done <<END
1 -i 1 -Q 16
2 -i 2 -Q 128
6 -i 2 -W 2 -P 2
END
}

declare_case host-fio 180 ci "fio with CRC-32C: 512 bytes to 1 MiB, mixed sizes and offsets, random and sequential, blocks of 512 and of 4096 bytes" plain srq day:two-cpus
case_host_fio() {
    target_up
    host_connect 10.9.0.1 $our_nqn -i 2
    host_namespace $our_nqn 1
    verified "$host_disk" --rw=write --bsrange=512-1M --bs_unaligned=0 --iodepth=4 --size=4M
    verified "$host_disk" --rw=randwrite --bssplit=512/30:1k/10:4k/30:12k/10:64k/10:256k/10 --iodepth=16 --size=3M --offset=$((64 * 1024 + 512))
    verified "$host_disk" --rw=randwrite --bs=1M --iodepth=2 --size=4M --offset=32M
    host_namespace $our_nqn 2
    verified "$host_disk" --rw=randwrite --bsrange=4k-128k --blockalign=4k --iodepth=8 --size=3M
    host_disconnect "$host_controller"
}

declare_case host-filesystem 180 day "mkfs.ext4, mount, copy of this tree, unmount, fsck, compare" plain srq
case_host_filesystem() {
    target_up
    host_connect 10.9.0.1 $our_nqn -i 2
    host_namespace $our_nqn 1
    mkfs.ext4 -q -F "$host_disk" 48M
    mount "$host_disk" /mnt
    cp -a /lab/source/docs /lab/source/scripts /lab/source/nvmf-core/src /mnt/
    umount /mnt
    fsck.ext4 -f -n "$host_disk"
    mount -o ro "$host_disk" /mnt
    diff -r /lab/source/docs /mnt/docs
    diff -r /lab/source/scripts /mnt/scripts
    diff -r /lab/source/nvmf-core/src /mnt/src
    umount /mnt
    host_disconnect "$host_controller"
}

declare_case host-zeroes 90 day "nvme write-zeroes, blkdiscard, blkdiscard --zeroout, nvme flush: what they touch and what they leave"
case_host_zeroes() {
    local before=/run/lab/before
    target_up
    host_connect 10.9.0.1 $our_nqn -i 1
    host_namespace $our_nqn 1
    head -c 1M /dev/urandom >$before
    dd if=$before of="$host_disk" bs=64k oflag=direct status=none
    nvme write-zeroes "$host_disk" -n 1 -s 16 -c 15
    nvme flush "$host_disk" -n 1
    dd if=/dev/zero of=$before bs=512 seek=16 count=16 conv=notrunc status=none
    same_as "$before" "$host_disk"
    blkdiscard --zeroout -o 256k -l 128k "$host_disk"
    dd if=/dev/zero of=$before bs=64k seek=4 count=2 conv=notrunc status=none
    same_as "$before" "$host_disk"
    case_discard $before
    host_disconnect "$host_controller"
}

# case_discard BEFORE: Dataset Management.
case_discard() {
    local range=/run/lab/range
    blkdiscard -o 512k -l 64k "$host_disk"
    dd if="$host_disk" of=$range bs=64k skip=8 count=1 iflag=direct status=none
    # What was deallocated reads as zeroes or as it was; all else is untouched.
    if ! cmp -s $range <(head -c 64k /dev/zero); then
        cmp $range <(dd if="$1" bs=64k skip=8 count=1 status=none)
    fi
    dd if=$range of="$1" bs=64k seek=8 conv=notrunc status=none
    same_as "$1" "$host_disk"
}

# same_as FILE DISK: the disk begins with what is in the file.
same_as() {
    dd if="$2" bs=64k count=$(($(stat -c %s "$1") / 65536)) iflag=direct status=none | cmp - "$1"
}

declare_case host-reset 120 day "nvme reset, idle and under verified I/O" plain two-cpus
case_host_reset() {
    local io
    target_up
    host_connect 10.9.0.1 $our_nqn -i 2
    host_namespace $our_nqn 1
    nvme reset "/dev/$host_controller"
    wait_for "live after a reset" host_is live "$host_controller"
    verified "$host_disk" --rw=randwrite --bs=4k --iodepth=8 --loops=3 &
    io=$!
    for _ in 1 2 3; do
        sleep 1
        nvme reset "/dev/$host_controller"
        wait_for "live after a reset" host_is live "$host_controller"
    done
    wait $io
    host_disconnect "$host_controller"
}

declare_case host-two 120 day "a host with two connections at once, of two host NQNs: both verify; one leaves while the other goes on" plain two-cpus
case_host_two() {
    local first second io
    target_up
    host_connect_as 1 10.9.0.1 $our_nqn nr_io_queues=1
    first=$host_controller
    host_connect_as 2 10.9.0.1 $our_nqn nr_io_queues=2
    second=$host_controller
    [ "$first" != "$second" ] || fail "both are $first"
    [ "$LAB_VARIANT" = kernel ] || expect "controllers" 2 "$(metric nvmf_controllers)"
    # The kernel takes them for two paths to the same disks, and uses both.
    host_namespace $our_nqn 1
    verified "$host_disk" --rw=randwrite --bs=4k --iodepth=8 --loops=3 &
    io=$!
    sleep 1
    host_disconnect "$first"
    wait $io
    verified "$host_disk" --rw=randwrite --bs=4k --iodepth=4 --size=512k
    host_disconnect "$second"
}

declare_case host-ipv6 90 day "connect, verified I/O, disconnect over IPv6"
case_host_ipv6() {
    target_up
    nvme discover -t rdma -a fd09::1 -w fd09::2 -s 4420 -o json | jq -e --arg nqn $our_nqn 'any(.records[]; .subnqn == $nqn)'
    host_connect fd09::1 $our_nqn -i 2
    host_namespace $our_nqn 1
    verified "$host_disk" --rw=randwrite --bs=16k --iodepth=8
    host_disconnect "$host_controller"
}

declare_case host-keep-alive 120 day "an idle connection lives on for three keep-alive times"
case_host_keep_alive() {
    local before
    target_up
    before=$(metric nvmf_keep_alive_expired_total)
    host_connect 10.9.0.1 $our_nqn -i 1 -k 3
    sleep 10
    host_is live "$host_controller" || fail "$host_controller is $(cat "/sys/class/nvme/$host_controller/state")"
    expect "controllers that ended for want of a Keep Alive" "$before" "$(metric nvmf_keep_alive_expired_total)"
    host_disconnect "$host_controller"
}

declare_case host-listener 150 day "the listener that a host came by is removed by JSON-RPC under verified I/O, and added again: the host comes back, and I/O ends well" plain srq
case_host_listener() {
    local io
    target_up
    host_connect 10.9.0.1 $our_nqn -i 2
    host_namespace $our_nqn 1
    io_begin "$host_disk"
    expect "the removal's answer" true "$(rpc nvmf_subsystem_remove_listener "$(listener_of 10.9.0.1)")"
    wait_for "the host has lost its target" refused host_is live "$host_controller"
    wait_for "nothing of the host is left in the target" nothing_connected
    expect "addresses that are listed" fd09::1 "$(rpc nvmf_subsystem_get_listeners "{\"nqn\": \"$our_nqn\"}" | jq -r '.[].address.traddr')"
    expect "the addition's answer" true "$(rpc nvmf_subsystem_add_listener "$(listener_of 10.9.0.1)")"
    wait_for "live again" host_is live "$host_controller"
    io_ends
    host_disconnect "$host_controller"
}
listener_of() { echo "{\"nqn\": \"$our_nqn\", \"listen_address\": {\"trtype\": \"RDMA\", \"adrfam\": \"IPv4\", \"traddr\": \"$1\", \"trsvcid\": \"4420\"}}"; }
