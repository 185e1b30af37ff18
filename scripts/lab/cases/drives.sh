# Local NVMe drives under the target, which are QEMU's: the kernel's host and ours against our target's NVMe devices.

declare_case drive 180 day "NVMe drives with blocks of 512 and 4096 bytes by their own commands: verified I/O, FUA, flush, zeroes, deallocation, uncorrectable blocks, identifiers; other formats are refused" plain
case_drive() {
    local block_len nsid disk drive part=/run/lab/part
    target_up
    drives_up
    drive=$(drive_generic LAB-DRIVE 1)
    disk=/dev/${drive#/dev/}
    disk=${disk/ng/nvme}
    disk_refused "metadata is 8 bytes a block: none" bdev_xnvme_create "{\"name\": \"drive\", \"filename\": \"${drive%1}3\"}"
    disk_refused "command set is zoned" bdev_xnvme_create "{\"name\": \"drive\", \"filename\": \"${drive%1}4\"}"
    disk_refused "generic character device" bdev_xnvme_create "{\"name\": \"drive\", \"filename\": \"$disk\"}"
    disk_refused "io_uring_cmd or left out" bdev_xnvme_create "{\"name\": \"drive\", \"filename\": \"$drive\", \"io_mechanism\": \"libaio\"}"
    for block_len in 512 4096; do
        [ $block_len = 512 ] || drive=${drive%1}2 disk=${disk%1}2
        rpc_is '"drive"' bdev_xnvme_create "{\"name\": \"drive\", \"filename\": \"$drive\", \"io_mechanism\": \"io_uring_cmd\"}"
        rpc bdev_get_bdevs '{"name": "drive"}' | jq -e --argjson len $block_len '.[0] | .block_size == $len and .driver_specific.xnvme.serial_number == "LAB-DRIVE"'
        refused perl -MFcntl -e 'sysopen(my $held, $ARGV[0], O_RDWR | O_EXCL) or die' "$disk" || fail "a drive that is served can be mounted"
        nsid=$(disk_namespace drive)
        # Longer than the drive takes, which is 128 KiB, and shorter.
        our_host 10.9.0.1 $our_nqn --nsid "$nsid" -w randwrite -o 4k -q 16 -n 256 --verify
        our_host 10.9.0.1 $our_nqn --nsid "$nsid" -w write -o 512k -q 4 -n 16 --verify
        host_connect 10.9.0.1 $our_nqn -i 2
        host_namespace $our_nqn "$nsid"
        expect "the size of a block" $block_len "$(cat "/sys/block/${host_disk##*/}/queue/logical_block_size")"
        expect "the cache" "write back" "$(cat "/sys/block/${host_disk##*/}/queue/write_cache")"
        expect "FUA" 1 "$(cat "/sys/block/${host_disk##*/}/queue/fua")"
        if [ $block_len = 512 ]; then
            expect "the drive's EUI64" 0123456789abcdef "$(nvme id-ns "$host_disk" -n "$nsid" -o json | jq -r .eui64)"
        fi
        verified "$host_disk" --rw=randwrite --bs=8k --iodepth=8 --size=2m --fsync=16
        head -c 1M /dev/urandom >/run/lab/before
        dd if=/run/lab/before of="$host_disk" bs=64k oflag=direct,dsync status=none
        same_as /run/lab/before "$disk"
        blkdiscard -z -o 512k -l 128k "$host_disk"
        dd if=/dev/zero of=/run/lab/before bs=64k seek=8 count=2 conv=notrunc status=none
        same_as /run/lab/before "$host_disk"
        same_as /run/lab/before "$disk"
        blkdiscard -o 8M -l 8M "$host_disk"
        nvme write-uncor "$host_disk" -n "$nsid" -s 4096 -c 0 >/run/lab/said 2>&1 || grep -qi 'invalid command opcode' /run/lab/said || fail "Write Uncorrectable: $(cat /run/lab/said)"
        if ! grep -qi 'invalid command opcode' /run/lab/said; then
            disk_ends_with 'unrecovered read error' nvme read "$host_disk" -n "$nsid" -s 4096 -c 0 -z $block_len -d $part
            head -c $block_len /dev/urandom >$part
            nvme write "$host_disk" -n "$nsid" -s 4096 -c 0 -z $block_len -d $part
        fi
        host_disconnect "$host_controller"
        rpc_is true bdev_xnvme_delete '{"name": "drive"}'
    done
    drives_down
}

declare_case drive-contract 150 day "what every block device keeps, on NVMe drives of both block sizes and a virtio disk" plain
case_drive_contract() {
    local device
    drives_up
    modprobe virtio_blk
    wait_for "the virtio disk" test -b /dev/vda
    for device in "$(drive_generic LAB-DRIVE 1)" "$(drive_generic LAB-DRIVE 2)" /dev/vda; do
        echo "on $device"
        BDEV_CONTRACT_DEVICE=$device RUST_BACKTRACE=0 "$LAB_CONTRACT" --test-threads 1
    done
    drives_down
}

declare_case drive-gone 180 day "an NVMe drive is pulled out under I/O: its commands end with a status, its namespace is taken from hosts, another goes on" plain
case_drive_gone() {
    local nsid drive reader io
    target_up
    drives_up
    # Once in a boot.
    wait_for "the drive that is pulled out" drive_generic LAB-PULLED 1
    drive=$(drive_generic LAB-PULLED 1)
    rpc_is '"pulled"' bdev_xnvme_create "{\"name\": \"pulled\", \"filename\": \"$drive\"}"
    nsid=$(disk_namespace pulled)
    host_connect 10.9.0.1 $our_nqn -i 2
    host_namespace $our_nqn 1
    io_begin "$host_disk"
    host_namespace $our_nqn "$nsid"
    fio --name=pulled --filename="$host_disk" --allow_file_create=0 --ioengine=libaio --direct=1 --rw=randrw --bs=4k --iodepth=8 --time_based --runtime=100 --eta=never \
        --output=/run/lab/pulled &
    reader=$!
    in_vain_for 2 refused kill -0 $reader || fail "reads and writes of a drive ended: $(cat /run/lab/pulled)"
    echo device_del lab-pulled >/lab/monitor-asks
    wait_for "the drive is gone" refused test -e "$drive"
    wait_for "its namespace is taken from the host" refused host_find_disk $our_nqn "$nsid"
    if wait $reader; then
        fail "reads and writes of a drive that is gone went well"
    fi
    io_goes_on
    io_ends
    grep -q "the kernel has no $drive any more" /lab/logs/target || fail "the target does not say that the drive is gone"
    host_disconnect "$host_controller"
    drives_down
}

# drives_up: the machine's own drives are the kernel's.
drives_up() {
    modprobe nvme
    wait_for "the drive" drive_generic LAB-DRIVE 2
}

# drive_generic SERIAL NSID: names a namespace's character device.
drive_generic() {
    local controller
    for controller in /sys/class/nvme/nvme*; do
        if [ -e "$controller" ] && [ "$(tr -d ' ' <"$controller/serial")" = "$1" ] && [ -c "/dev/ng${controller##*/nvme}n$2" ]; then
            echo "/dev/ng${controller##*/nvme}n$2"
            return 0
        fi
    done
    return 1
}
