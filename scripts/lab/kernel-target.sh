# Sourced, in the guest. The kernel's own NVMe/RDMA target (nvmet), set up through configfs: one subsystem with a memory disk.

nvmet=/sys/kernel/config/nvmet

# kernel_target_up NQN ADDRESS [PORT]
kernel_target_up() {
    local nqn=$1 address=$2 port=${3:-4420} family=ipv4
    case $address in *:*) family=ipv6 ;; esac
    modprobe -a nvmet nvmet-rdma
    [ -b /dev/ram0 ] || modprobe brd rd_nr=2 rd_size=65536
    mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
    mkdir "$nvmet/subsystems/$nqn"
    echo 1 >"$nvmet/subsystems/$nqn/attr_allow_any_host"
    mkdir "$nvmet/subsystems/$nqn/namespaces/1"
    echo -n /dev/ram0 >"$nvmet/subsystems/$nqn/namespaces/1/device_path"
    echo 1 >"$nvmet/subsystems/$nqn/namespaces/1/enable"
    mkdir "$nvmet/ports/1"
    echo rdma >"$nvmet/ports/1/addr_trtype"
    echo $family >"$nvmet/ports/1/addr_adrfam"
    echo "$address" >"$nvmet/ports/1/addr_traddr"
    echo "$port" >"$nvmet/ports/1/addr_trsvcid"
    ln -s "$nvmet/subsystems/$nqn" "$nvmet/ports/1/subsystems/$nqn"
}

# Whatever there is of it. Removing a port ends its connections.
kernel_target_down() {
    local port subsystem namespace
    [ -d "$nvmet" ] || return 0
    for port in "$nvmet"/ports/*; do
        [ -d "$port" ] || continue
        rm -f "$port"/subsystems/*
        rmdir "$port"
    done
    for subsystem in "$nvmet"/subsystems/*; do
        # A discovery subsystem is the kernel's own and stays.
        case $subsystem in *discovery* | *\*) continue ;; esac
        for namespace in "$subsystem"/namespaces/*; do
            [ ! -d "$namespace" ] || rmdir "$namespace"
        done
        rmdir "$subsystem"
    done
}
