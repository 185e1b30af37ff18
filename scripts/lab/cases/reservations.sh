# Reservations: two hosts of the kernel against a target of ours. The kernel takes both for paths to one disk; what each of them does alone goes through its controller's
# own device, which takes I/O commands where there is one namespace.

declare_case resv-commands 240 day "two hosts register, reserve, are kept out, preempt, are told, release, clear; a target that starts again knows it all" plain srq
case_resv_commands() {
    local nqn=nqn.2026-11.io.quiesce:reserved a b host_port=4421 events
    resv_target $nqn
    uevents_begin
    host_connect_as 1 10.9.0.1 $nqn nr_io_queues=1
    a=/dev/$host_controller
    host_connect_as 2 10.9.0.1 $nqn nr_io_queues=1
    b=/dev/$host_controller
    nvme id-ctrl "$a" -o json | jq -e '((.oncs / 32) | floor) % 2 == 1'
    expect "RESCAP" 255 "$(nvme id-ns "$a" -n 1 -o json | jq .rescap)"
    head -c 512 /dev/urandom >/run/lab/block

    # Both register, the first so that it outlives the target; a key that is another's is none.
    nvme resv-register "$a" -n 1 -k 0xa1 -r 0 -p 3
    nvme resv-register "$b" -n 1 -k 0xb2 -r 0
    conflicts nvme resv-register "$b" -n 1 -c 0xa1 -k 0xb3 -r 2
    resv_is "$a" "registrants 2, type 0, persistent 1, holders "

    # Write Exclusive: others read.
    nvme resv-acquire "$a" -n 1 -c 0xa1 -t 1 -a 0
    resv_is "$b" "registrants 2, type 1, persistent 1, holders 161"
    resv_write "$a"
    conflicts resv_write "$b"
    resv_read "$b"
    conflicts nvme resv-acquire "$b" -n 1 -c 0xb2 -t 1 -a 0
    nvme resv-release "$a" -n 1 -c 0xa1 -t 1 -a 0
    resv_write "$b"

    # Exclusive Access, over a new start of the target.
    nvme resv-acquire "$a" -n 1 -c 0xa1 -t 2 -a 0
    conflicts resv_read "$b"
    second_down
    wait_for "the host has lost its target" refused host_is live "${a##*/}"
    wait_for "the other host has lost its target" refused host_is live "${b##*/}"
    second_start
    wait_for "live again" host_is live "${a##*/}"
    wait_for "live again" host_is live "${b##*/}"
    resv_is "$b" "registrants 2, type 2, persistent 1, holders 161"
    conflicts resv_read "$b"
    resv_read "$a"

    # The second throws the first out, which is told.
    nvme resv-acquire "$b" -n 1 -c 0xb2 -p 0xa1 -t 2 -a 1
    resv_is "$b" "registrants 1, type 2, persistent 1, holders 178"
    conflicts resv_write "$a"
    conflicts resv_read "$a"
    nvme resv-notif-log "$a" -o json | tee /run/lab/json
    # Registration Preempted, of namespace 1.
    jq -e '.count >= 1 and .rn_log_type == 1 and .nsid == 1' /run/lab/json
    # Asynchronous event of type 6 about log page 80h.
    wait_for "the kernel passes the event on" grep -q 'NVME_AEN=0x800006' /run/lab/uevents
    nvme resv-release "$b" -n 1 -c 0xb2 -a 1
    resv_is "$b" "registrants 0, type 0, persistent 1, holders "
    resv_write "$a"
    host_disconnect "${a##*/}"
    host_disconnect "${b##*/}"
    second_down
}

declare_case resv-kernel 150 day "reservations by the kernel's own interface (ioctls of a block device), and another host that is kept out" plain srq
case_resv_kernel() {
    local nqn=nqn.2026-11.io.quiesce:reserved a b host_port=4421
    resv_target $nqn
    host_connect_as 1 10.9.0.1 $nqn nr_io_queues=1
    a=/dev/$host_controller
    host_namespace $nqn 1
    head -c 512 /dev/urandom >/run/lab/block
    # The kernel wants every registration to outlive the target. Numbers and structures are of <linux/pr.h>: IOC_PR_REGISTER, RESERVE, RELEASE, PREEMPT, CLEAR.
    pr 0x401870c8 "Q Q L L" 0 0x11 0 0
    pr 0x401070c9 "Q L L" 0x11 1 0
    resv_is "$a" "registrants 1, type 1, persistent 1, holders 17"
    host_connect_as 2 10.9.0.1 $nqn nr_io_queues=1
    b=/dev/$host_controller
    conflicts resv_write "$b"
    nvme resv-register "$b" -n 1 -k 0x22 -r 0
    host_disconnect "${b##*/}"
    # By the only path that is left: the first host's.
    dd if=/run/lab/block of="$host_disk" bs=512 count=1 oflag=direct status=none
    pr 0x401070ca "Q L L" 0x11 1 0
    resv_is "$a" "registrants 2, type 0, persistent 1, holders "
    # All registrants, exclusive access; then the other's registration goes.
    pr 0x401070c9 "Q L L" 0x11 6 0
    resv_is "$a" "registrants 2, type 6, persistent 1, holders 17 34"
    pr 0x401070cd "Q L L" 0x11 0 0
    resv_is "$a" "registrants 0, type 0, persistent 1, holders "
    host_disconnect "${a##*/}"
    second_down
}

# pr NUMBER LAYOUT VALUE…: an ioctl of the disk.
pr() {
    perl -e '
        my ($disk, $number, $layout, @values) = @ARGV;
        open(my $file, "+<", $disk) or die "$disk: $!\n";
        my $argument = pack($layout, map { oct($_) || $_ } @values);
        my $answer = ioctl($file, oct($number), $argument);
        defined $answer or die "ioctl $number: $!\n";
        $answer == 0 or $answer eq "0 but true" or die "ioctl $number: NVMe status $answer\n";' "$host_disk" "$@"
}

# resv_target NQN: one namespace, a file, whose reservations are kept.
resv_target() {
    second_config <<TOML
[[device]]
name = "disk"
type = "file"
path = "$second_directory/disk"
block_size = 512
[[subsystem]]
nqn = "$1"
allow_any_host = true
listeners = ["10.9.0.1:4421"]
[[subsystem.namespace]]
device = "disk"
ptpl_file = "$second_directory/reservations"
TOML
    truncate -s 4M $second_directory/disk
    rm -f $second_directory/reservations
    second_start
}

resv_write() { nvme write "$1" -n 1 -s 7 -c 0 -z 512 -d /run/lab/block; }
resv_read() { nvme read "$1" -n 1 -s 7 -c 0 -z 512 -d /run/lab/read && cmp /run/lab/block /run/lab/read; }

# conflicts COMMAND…: it ends with Reservation Conflict, and with nothing else.
conflicts() {
    local said
    if said=$("$@" 2>&1); then
        fail "no conflict: $*"
    fi
    grep -qi 'reservation conflict' <<<"$said" || fail "$* ended with: $said"
}

# resv_is DEVICE WORDS: what Reservation Report says, with identifiers of 128 bits.
resv_is() {
    nvme resv-report "$1" -n 1 -e -o json >/run/lab/json
    expect "what is reserved" "$2" "$(jq -r '[.. | arrays] | first // [] | map(select(.rcsts % 2 == 1) | .rkey) | sort | join(" ")' /run/lab/json |
        sed "s/^/$(jq -r '"registrants \(.regctl), type \(.rtype), persistent \(.ptpls), holders "' /run/lab/json)/")"
}
