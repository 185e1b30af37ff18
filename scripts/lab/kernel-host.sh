# Sourced, in the guest. The kernel's own NVMe/RDMA host, by nvme-cli.

# host_connect ADDRESS NQN [ARGUMENT…]: connects from the host's end of the wire with short timers, and sets host_controller (nvme0). The wait for a lost
# connection is long: a case that wants the host to give up says so.
host_connect() {
    local address=$1 nqn=$2
    shift 2
    modprobe nvme-rdma
    host_controller=$(nvme connect -t rdma -a "$address" -w "$(other_end "$address")" -s 4420 -n "$nqn" -k 5 -c 2 -l 120 -o json "$@" | jq -r .device)
    [ -n "$host_controller" ] || fail "nvme connect named no device"
    wait_for "$host_controller is live" host_is live "$host_controller"
}

# host_connect_plainly ADDRESS NQN: the same with the timers that nvme-cli takes by itself.
host_connect_plainly() {
    modprobe nvme-rdma
    host_controller=$(nvme connect -t rdma -a "$1" -w "$(other_end "$1")" -s 4420 -n "$2" -o json | jq -r .device)
    [ -n "$host_controller" ] || fail "nvme connect named no device"
    wait_for "$host_controller is live" host_is live "$host_controller"
}

# host_connect_as DIGIT ADDRESS NQN [OPTION]: the same as another host, whose identity is made of a digit. By the kernel's own interface, as nvme-cli 2.3 takes a
# connection of another host for this one's. To port 4420, or host_port.
host_connect_as() {
    local address=$2 id answer fabrics
    id=$(sed "s/x/$1/g" <<<xxxxxxxx-xxxx-4xxx-8xxx-xxxxxxxxxxxx)
    modprobe nvme-rdma
    exec {fabrics}<>/dev/nvme-fabrics
    echo -n "transport=rdma,traddr=$address,host_traddr=$(other_end "$address"),trsvcid=${host_port:-4420},nqn=$3,hostid=$id,hostnqn=nqn.2014-08.org.nvmexpress:uuid:$id,keep_alive_tmo=5,reconnect_delay=2,ctrl_loss_tmo=120${4:+,$4}" >&"$fabrics"
    read -r answer <&"$fabrics"
    exec {fabrics}>&-
    host_controller=$(sed -n 's/.*instance=\([0-9]*\).*/nvme\1/p' <<<"$answer")
    [ -n "$host_controller" ] || fail "the kernel named no controller: $answer"
    wait_for "$host_controller is live" host_is live "$host_controller"
}

other_end() {
    case $1 in
        10.9.0.1) echo 10.9.0.2 ;;
        10.9.0.2) echo 10.9.0.1 ;;
        10.9.1.1) echo 10.9.1.2 ;;
        10.9.1.2) echo 10.9.1.1 ;;
        fd09::1) echo fd09::2 ;;
        fd09::2) echo fd09::1 ;;
        *) fail "$1 is no address of this network" ;;
    esac
}

# host_is STATE CONTROLLER: live, connecting, resetting, deleting.
host_is() { [ "$(cat "/sys/class/nvme/$2/state" 2>/dev/null)" = "$1" ]; }

host_disconnect() {
    nvme disconnect -d "$1" >/dev/null
    wait_for "$1 is gone" refused test -e "/sys/class/nvme/$1"
}

# host_namespace NQN [NSID]: sets host_disk to the block device (/dev/nvme0n1).
host_namespace() {
    host_disk=
    wait_for "a disk of $1, namespace ${2:-1}" host_find_disk "$1" "${2:-1}"
    wait_for "$host_disk" test -b "$host_disk"
}

host_find_disk() {
    local block
    for block in /sys/block/nvme*; do
        [ -e "$block" ] && [ "$(cat "$block/hidden")" = 0 ] || continue
        # With several paths the disk is the subsystem's, else the controller's: both tell the NQN.
        [ "$(cat "$block/device/subsysnqn" 2>/dev/null)" = "$1" ] || continue
        [ "$(cat "$block/nsid")" = "$2" ] || continue
        host_disk=/dev/${block##*/}
        return 0
    done
    return 1
}

# The number of I/O queues of a controller, without the admin queue.
host_queue_count() { echo $(($(cat "/sys/class/nvme/$1/queue_count") - 1)); }

# host_all_gone: every controller of the host, whatever its state. True when there is none left.
host_all_gone() {
    local controller
    drives_down
    for controller in /sys/class/nvme/nvme*; do
        [ -e "$controller" ] || continue
        timeout 60 nvme disconnect -d "${controller##*/}" >/dev/null 2>&1
    done
    [ -z "$(host_controllers)" ]
}

# drives_down: the machine's own drives are nobody's.
drives_down() {
    local drive
    for drive in /sys/bus/pci/drivers/nvme/*:*; do
        [ ! -e "$drive" ] || echo "${drive##*/}" >/sys/bus/pci/drivers/nvme/unbind
    done
    rmmod nvme 2>/dev/null || true
}

host_controllers() { ls /sys/class/nvme 2>/dev/null | tr '\n' ' '; }

# uevents_begin: what the kernel tells user space about NVMe devices goes to /run/lab/uevents, until the case ends.
uevents_begin() {
    rm -f /run/lab/uevents
    # A netlink socket (16) for uevents (15), group 1.
    perl -e '
        $| = 1;
        my $socket;
        socket($socket, 16, 3, 15) && bind($socket, pack("S S L L", 16, 0, 0, 1)) or die "$!\n";
        print "listening\n";
        while (defined recv($socket, my $event, 65536, 0)) {
            print $event =~ tr/\0/ /r, "\n" if $event =~ /nvme/i;
        }' >/run/lab/uevents &
    wait_for "uevents are listened to" test -s /run/lab/uevents
}

# verified DISK ARGUMENT…: fio that writes, reads back and compares. What fio says is an error.
verified() {
    local disk=$1
    shift
    # A disk that is gone is not to become a file.
    fio --name=verified --filename="$disk" --allow_file_create=0 --ioengine=libaio --direct=1 --verify=crc32c --verify_fatal=1 --eta=never --output-format=terse --output=/dev/null \
        --randrepeat=1 --size=2M "$@"
}
