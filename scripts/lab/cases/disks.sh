# Disks and files under the target that are what they are, or go wrong: the kernel's host against our target's file devices.

declare_case disk-kinds 150 day "block devices with blocks of 512 and 4096 bytes: verified I/O, zeroes, deallocation, a disk that grows; the wrong block size is refused" plain
case_disk_kinds() {
    local block_len loop nsid before
    target_up
    for block_len in 512 4096; do
        disk_loop_up $block_len 16M
        loop=$disk_loop
        if [ $block_len = 4096 ]; then
            disk_refused "the disk has blocks of 4096 bytes itself" bdev_uring_create "{\"name\": \"disk\", \"filename\": \"$loop\", \"block_size\": 512}"
        fi
        rpc_is '"disk"' bdev_uring_create "{\"name\": \"disk\", \"filename\": \"$loop\", \"block_size\": $block_len}"
        nsid=$(disk_namespace disk)
        host_connect 10.9.0.1 $our_nqn -i 2
        host_namespace $our_nqn "$nsid"
        expect "the size of a block" $block_len "$(cat "/sys/block/${host_disk##*/}/queue/logical_block_size")"
        expect "the cache" "write back" "$(cat "/sys/block/${host_disk##*/}/queue/write_cache")"
        verified "$host_disk" --rw=randwrite --bs=8k --iodepth=8 --size=2m --fsync=16
        head -c 1M /dev/urandom >/run/lab/before
        dd if=/run/lab/before of="$host_disk" bs=64k oflag=direct conv=fsync status=none
        same_as /run/lab/before "$loop"
        blkdiscard -o 128k -l 256k "$host_disk"
        blkdiscard -z -o 512k -l 128k "$host_disk"
        dd if=/dev/zero of=/run/lab/before bs=64k seek=2 count=4 conv=notrunc status=none
        dd if=/dev/zero of=/run/lab/before bs=64k seek=8 count=2 conv=notrunc status=none
        same_as /run/lab/before "$host_disk"
        before=$(stat -c %b /run/lab/loop-$block_len)
        blkdiscard "$host_disk"
        [ "$(stat -c %b /run/lab/loop-$block_len)" -lt "$before" ] || fail "deallocation gave no space back: $before sectors before and after"
        truncate -s 24M /run/lab/loop-$block_len
        losetup -c "$loop"
        rpc_is true bdev_uring_rescan '{"name": "disk"}'
        wait_for "the host sees the new size" disk_size_is "$host_disk" $((24 << 20))
        dd if=/run/lab/before of="$host_disk" bs=64k seek=300 count=16 oflag=direct status=none
        host_disconnect "$host_controller"
        rpc_is true bdev_uring_delete '{"name": "disk"}'
        losetup -d "$loop"
    done
}

declare_case disk-errors 180 day "a disk with a bad spot, one that hangs, a full file system and a file that was cut off: the specified status, and another namespace goes on" plain
case_disk_errors() {
    local loop bad full cut part=/run/lab/part io at name reader
    target_up
    modprobe dm-mod
    disk_loop_up 512 16M
    loop=$disk_loop
    disk_mapper_up bad "0 8192 linear $loop 0" "8192 8 error" "8200 24568 linear $loop 8200"
    mkdir -p /run/lab/full
    mount -t tmpfs -o size=1M full /run/lab/full
    truncate -s 8M /run/lab/full/image /run/lab/cut
    rpc_is '"bad"' bdev_aio_create "{\"name\": \"bad\", \"filename\": \"$disk_mapper\", \"block_size\": 512}"
    rpc_is '"full"' bdev_aio_create '{"name": "full", "filename": "/run/lab/full/image", "block_size": 512}'
    rpc_is '"cut"' bdev_aio_create '{"name": "cut", "filename": "/run/lab/cut", "block_size": 512}'
    bad=$(disk_namespace bad) full=$(disk_namespace full) cut=$(disk_namespace cut)
    host_connect 10.9.0.1 $our_nqn -i 2
    host_namespace $our_nqn 1
    io_begin "$host_disk"

    host_namespace $our_nqn "$bad"
    disk_ends_with 'unrecovered read error' nvme read "$host_disk" -n "$bad" -s 8192 -c 0 -z 512 -d $part
    disk_ends_with 'unrecovered read error' nvme read "$host_disk" -n "$bad" -s 8184 -c 15 -z 8192 -d $part
    head -c 8192 /dev/urandom >$part
    disk_ends_with 'write.*fault\|write data could not be' nvme write "$host_disk" -n "$bad" -s 8192 -c 0 -z 512 -d $part
    # Beside it.
    nvme write "$host_disk" -n "$bad" -s 8200 -c 15 -z 8192 -d $part
    cmp $part <(dd if="$host_disk" bs=512 skip=8200 count=16 iflag=direct status=none)

    # The disk hangs: its commands do, and nobody else's.
    dmsetup suspend --noudevsync --noflush bad
    dd if="$host_disk" of=/dev/null bs=4k count=1 iflag=direct status=none &
    reader=$!
    in_vain_for 3 refused kill -0 $reader || fail "a read of a disk that hangs has ended"
    io_goes_on
    dmsetup resume --noudevsync bad
    wait $reader || fail "the read that was held back failed"

    host_namespace $our_nqn "$full"
    head -c 64k /dev/urandom >$part
    for ((at = 0; at < 64; at++)); do
        nvme write "$host_disk" -n "$full" -s $((at * 128)) -c 127 -z 65536 -d $part 2>/run/lab/said >&2 || break
    done
    cat /run/lab/said
    [ "$at" -lt 64 ] || fail "4 MiB went into 1 MiB"
    grep -qi 'capacity' /run/lab/said || fail "a full file system ended with: $(cat /run/lab/said)"
    # Room again: it works again.
    nvme write-zeroes "$host_disk" -n "$full" -s 0 -c 1023 -d
    nvme write "$host_disk" -n "$full" -s $((at * 128)) -c 127 -z 65536 -d $part

    host_namespace $our_nqn "$cut"
    truncate -s 1M /run/lab/cut
    disk_ends_with 'lba.*range\|out of range' nvme read "$host_disk" -n "$cut" -s 8192 -c 0 -z 512 -d $part
    nvme read "$host_disk" -n "$cut" -s 0 -c 0 -z 512 -d $part
    disk_refused "can grow and not shrink" bdev_aio_rescan '{"name": "cut"}'
    rm /run/lab/cut
    nvme read "$host_disk" -n "$cut" -s 0 -c 0 -z 512 -d $part
    io_goes_on
    io_ends
    host_disconnect "$host_controller"
    for name in bad full cut; do
        rpc_is true bdev_aio_delete "{\"name\": \"$name\"}"
    done
    umount /run/lab/full
    dmsetup remove --noudevsync bad
    losetup -d "$loop"
}

declare_case disk-flaky 240 day "a disk that fails everything for a while (dm-flakey), and is well again; ext4 that is full under a file, and has room again: another namespace goes on" plain
case_disk_flaky() {
    local loop flaky full part=/run/lab/part said=/run/lab/said io at reader
    target_up
    modprobe -a dm-mod dm-flakey ext4
    disk_loop_up 512 16M
    loop=$disk_loop
    disk_mapper_up flaky "0 32768 linear $loop 0"
    mkdir -p /run/lab/ext4
    rm -f /run/lab/ext4.img
    truncate -s 4M /run/lab/ext4.img
    mkfs.ext4 -q -F -b 4096 -O ^has_journal /run/lab/ext4.img
    mount -o loop /run/lab/ext4.img /run/lab/ext4
    truncate -s 32M /run/lab/ext4/image
    rpc_is '"flaky"' bdev_uring_create "{\"name\": \"flaky\", \"filename\": \"$disk_mapper\", \"block_size\": 512}"
    rpc_is '"ext4"' bdev_uring_create '{"name": "ext4", "filename": "/run/lab/ext4/image", "block_size": 4096}'
    flaky=$(disk_namespace flaky) full=$(disk_namespace ext4)
    host_connect 10.9.0.1 $our_nqn -i 2
    host_namespace $our_nqn 1
    io_begin "$host_disk"

    host_namespace $our_nqn "$flaky"
    head -c 4096 /dev/urandom >$part
    nvme write "$host_disk" -n "$flaky" -s 0 -c 7 -z 4096 -d $part
    # Under commands: what has begun goes one way or the other.
    fio --name=flaky --filename="$host_disk" --allow_file_create=0 --ioengine=libaio --direct=1 --rw=randrw --bs=4k --iodepth=4 --offset=1M --size=2M --time_based --runtime=100 \
        --eta=never --output=/run/lab/flaky &
    reader=$!
    disk_mapper_is flaky "0 32768 flakey $loop 0 0 3600"
    if wait $reader; then
        fail "reads and writes of a disk that fails everything went well"
    fi
    for ((at = 0; at < 3; at++)); do
        disk_ends_with 'unrecovered read error' nvme read "$host_disk" -n "$flaky" -s 0 -c 7 -z 4096 -d $said
        disk_ends_with 'write.*fault\|write data could not be' nvme write "$host_disk" -n "$flaky" -s 8 -c 7 -z 4096 -d $part
    done
    io_goes_on
    disk_mapper_is flaky "0 32768 linear $loop 0"
    nvme read "$host_disk" -n "$flaky" -s 0 -c 7 -z 4096 -d $said
    cmp $part $said
    verified "$host_disk" --rw=randwrite --bs=4k --iodepth=4 --size=1m --fsync=16

    host_namespace $our_nqn "$full"
    head -c 128k /dev/urandom >$part
    for ((at = 0; at < 64; at++)); do
        nvme write "$host_disk" -n "$full" -s $((at * 32)) -c 31 -z 131072 -d $part >$said 2>&1 || break
    done
    [ "$at" -lt 64 ] || fail "8 MiB went into ext4 of 4 MiB"
    grep -qi 'capacity' $said || fail "ext4 that is full ended with: $(cat $said)"
    # What has room goes on: what was written is written again, and read.
    nvme write "$host_disk" -n "$full" -s 0 -c 31 -z 131072 -d $part
    nvme flush "$host_disk" -n "$full"
    nvme read "$host_disk" -n "$full" -s 0 -c 31 -z 131072 -d $said
    cmp $part $said
    io_goes_on
    nvme dsm "$host_disk" -n "$full" -d 1 -s 0 -b 512
    nvme write "$host_disk" -n "$full" -s $((at * 32)) -c 31 -z 131072 -d $part
    io_ends
    host_disconnect "$host_controller"
    rpc_is true bdev_uring_delete '{"name": "flaky"}'
    rpc_is true bdev_uring_delete '{"name": "ext4"}'
    wait_for "ext4 is let go of" umount /run/lab/ext4
    wait_for "the mapper is let go of" dmsetup remove --noudevsync flaky
    losetup -d "$loop"
}

# disk_loop_up BLOCK_LEN SIZE: sets disk_loop to a loop device.
disk_loop_up() {
    modprobe loop
    rm -f "/run/lab/loop-$1"
    truncate -s "$2" "/run/lab/loop-$1"
    disk_loop=$(losetup -f --show -b "$1" "/run/lab/loop-$1")
    wait_for "$disk_loop" test -b "$disk_loop"
}

# disk_mapper_up NAME LINE…: sets disk_mapper to a device of the device mapper.
disk_mapper_up() {
    local name=$1
    shift
    printf '%s\n' "$@" | dmsetup create --noudevsync "$name"
    disk_mapper=/dev/dm-$(dmsetup info -c --noheadings -o minor "$name" | tr -d ' ')
    wait_for "$disk_mapper" test -b "$disk_mapper"
}

# disk_mapper_is NAME LINE: it is that from now on.
disk_mapper_is() {
    dmsetup suspend --noudevsync --noflush "$1"
    dmsetup load "$1" --table "$2"
    dmsetup resume --noudevsync "$1"
}

disk_namespace() { rpc nvmf_subsystem_add_ns "{\"nqn\": \"$our_nqn\", \"namespace\": {\"bdev_name\": \"$1\"}}"; }
disk_size_is() { [ "$(blockdev --getsize64 "$1")" = "$2" ]; }

# disk_refused WORDS METHOD PARAMETERS: the method's error says so.
disk_refused() {
    local said
    if said=$( (rpc "$2" "$3") 2>&1); then
        fail "$2 was not refused: $said"
    fi
    grep -q "$1" <<<"$said" || fail "$2 was refused with: $said"
}

# disk_ends_with PATTERN COMMAND…: it fails, and says so.
disk_ends_with() {
    local pattern=$1 said
    shift
    if said=$("$@" 2>&1); then
        fail "no error: $*"
    fi
    grep -qi "$pattern" <<<"$said" || fail "$* ended with: $said"
}
