# Sourced by scripts/kernel-lab. Starts the guest, and tells how it ended.

guest_memory=2G
guest_cpus=2
lab_pid=

# lab_directory: makes $lab, which the guest sees as /lab. It goes with the script, unless it is kept.
lab_directory() {
    lab=$(mktemp -d "${TMPDIR:-/tmp}/quiesce-lab.XXXXXX")
    # Where the guest, whose /lab this is, finds the scripts.
    ln -s "$PWD" "$lab/source"
    trap lab_end EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

lab_end() {
    trap - EXIT INT TERM HUP
    if [ -n "$lab_pid" ]; then
        kill -TERM "$lab_pid" 2>/dev/null || true
        wait "$lab_pid" 2>/dev/null || true
    fi
    if [ "$keep" = yes ]; then
        echo "kept: $lab" >&2
    else
        rm -rf "$lab"
    fi
}

# guest_command DIRECTORY COMMAND…: what the guest is to run. It gets this script's variables that programs of this project, Rust and sanitizers look at.
guest_command() {
    local name directory=$1
    shift
    {
        printf 'cd %q || exit 125\n' "$directory"
        for name in $(compgen -e); do
            case $name in
                PATH | CARGO_* | RUST* | QUIESCE_* | ASAN_* | LSAN_* | LAB_*) printf 'export %s=%q\n' "$name" "${!name}" ;;
            esac
        done
        printf 'exec'
        printf ' %q' "$@"
        printf '\n'
    } >"$lab/command"
}

# guest_drives: what cases of disks need: an NVMe drive with a namespace of blocks of 512 bytes, one of 4096, one with metadata and one of zones; another that can
# be pulled out of its slot; and a disk of virtio. They are nothing to the guest until it loads their modules.
guest_drives() {
    local name
    for name in drive-512 drive-4096 drive-metadata drive-zones drive-pulled virtio; do
        truncate -s 32M "$lab/$name.img"
        QEMU+=(-drive "if=none,id=$name,file=$lab/$name.img,format=raw,discard=unmap")
    done
    QEMU+=(
        -device "pcie-root-port,id=lab-slot,chassis=1,slot=1"
        -device "nvme,id=lab-nvme,bus=lab-slot,serial=LAB-DRIVE,mdts=5"
        -device "nvme-ns,drive=drive-512,bus=lab-nvme,nsid=1,logical_block_size=512,physical_block_size=512,eui64=0x0123456789abcdef"
        -device "nvme-ns,drive=drive-4096,bus=lab-nvme,nsid=2,logical_block_size=4096,physical_block_size=4096"
        -device "nvme-ns,drive=drive-metadata,bus=lab-nvme,nsid=3,ms=8"
        -device "nvme-ns,drive=drive-zones,bus=lab-nvme,nsid=4,zoned=true,zoned.zone_size=1M"
        -device "pcie-root-port,id=lab-slot-2,chassis=2,slot=2"
        -device "nvme,id=lab-pulled,bus=lab-slot-2,serial=LAB-PULLED,drive=drive-pulled"
        -device "virtio-blk-pci,drive=virtio,logical_block_size=512,discard=on,write-zeroes=on"
        -monitor "unix:$lab/monitor,server=on,wait=off"
    )
}

# guest_monitor: gives the emulator the command that the guest has put into /lab/monitor-asks, if there is one.
guest_monitor() {
    [ -s "$lab/monitor-asks" ] || return 0
    perl -MIO::Socket::UNIX -e '
        my $socket = IO::Socket::UNIX->new($ARGV[0]) or die "$ARGV[0]: $!";
        sysread($socket, my $greeting, 65536);
        print $socket "$ARGV[1]\n";
        $socket->flush;
        # Until it has been read, and answered.
        sysread($socket, my $answer, 65536);' "$lab/monitor" "$(cat "$lab/monitor-asks")"
    rm "$lab/monitor-asks"
}

# guest_run SECONDS|forever [FILE]: boots, and sets guest_end to how that ended: status (a number), "panicked", "timed out", or "ended" without a word. With a FILE
# the time begins anew whenever that grows.
guest_run() {
    local seconds=$1 file=${2:-} status=0
    rm -f "$lab/status"
    if [ "$seconds" = forever ]; then
        # In the foreground, as it reads from the terminal.
        "${QEMU[@]}" || status=$?
    else
        "${QEMU[@]}" </dev/null &
        lab_pid=$!
        guest_watch "$seconds" "$file" || status=$?
        lab_pid=
    fi
    if [ -s "$lab/status" ]; then
        guest_end=$(cat "$lab/status")
    elif grep -aq 'Kernel panic' "$lab/console"; then
        guest_end=panicked
    elif [ "$status" -eq 124 ]; then
        guest_end="timed out"
    else
        guest_end=ended
    fi
}

# guest_watch SECONDS [FILE]: waits for the guest, and kills it at the end of its time: 124.
guest_watch() {
    local seconds=$1 file=$2 size=0 now since=$SECONDS
    while kill -0 "$lab_pid" 2>/dev/null; do
        if [ -n "$file" ]; then
            now=$(stat -c %s "$file")
            [ "$now" = "$size" ] || since=$SECONDS
            size=$now
        fi
        if [ $((SECONDS - since)) -ge "$seconds" ]; then
            kill -KILL "$lab_pid"
            wait "$lab_pid" 2>/dev/null || true
            return 124
        fi
        guest_monitor
        sleep 0.2
    done
    wait "$lab_pid"
}

# guest_qemu: sets QEMU to the command that starts the guest. Its first serial port is the kernel's console, its second the command's output.
guest_qemu() {
    local arguments tick_khz
    need_commands cc=gcc
    cc -O1 -Wall -Wextra -Werror -o "$lab/tick-rate" scripts/lab/tick-rate.c
    tick_khz=$("$lab/tick-rate")
    # no_timer_check: where the machine is busy the emulated timer is late, and the kernel would take it for broken, and panic.
    arguments="console=ttyS0 panic=-1 mitigations=off nokaslr tsc=reliable nowatchdog no_timer_check audit=0 random.trust_cpu=on cryptomgr.notests log_buf_len=4M rcupdate.rcu_cpu_stall_timeout=60"
    [ -z "$tick_khz" ] || arguments+=" tsc_early_khz=$tick_khz"
    arguments+=" net.ifnames=0 lab.modules=$kernel_directory/lib/modules lab.guest=$PWD/scripts/lab/guest"
    QEMU=(
        qemu-system-x86_64
        -machine q35 -accel "tcg,thread=multi" -cpu "max,la57=off" -smp "$guest_cpus" -m "$guest_memory"
        -nodefaults -no-user-config -no-reboot -display none
        -kernel "$kernel_directory/vmlinux" -initrd "$initramfs" -append "$arguments"
        -chardev "file,id=console,path=$lab/console" -serial chardev:console
        -chardev "stdio,id=output,signal=off" -serial chardev:output
        -fsdev "local,id=machine,path=/,security_model=none,readonly=on,multidevs=remap" -device "virtio-9p-pci,fsdev=machine,mount_tag=machine"
        -fsdev "local,id=lab,path=$lab,security_model=none" -device "virtio-9p-pci,fsdev=lab,mount_tag=lab"
    )
    guest_drives
}
