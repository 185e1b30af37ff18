# Sourced, in the guest. The kernel's own NVMe/RDMA target (nvmet), set up through configfs: one subsystem with two memory disks.

nvmet=/sys/kernel/config/nvmet

# kernel_target_up NQN ADDRESS…: namespaces 1 and 2 on two memory disks, a port for each address.
kernel_target_up() {
    local nqn=$1 port=0 nsid address family
    shift
    [ ! -d "$nvmet/subsystems/$nqn" ] || return 0
    # Both listen on the same addresses.
    target_down
    modprobe -a nvmet nvmet-rdma
    [ -b /dev/ram0 ] || modprobe brd rd_nr=2 rd_size=65536
    mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
    mkdir "$nvmet/subsystems/$nqn"
    echo 1 >"$nvmet/subsystems/$nqn/attr_allow_any_host"
    echo $our_serial >"$nvmet/subsystems/$nqn/attr_serial"
    echo "$our_model" >"$nvmet/subsystems/$nqn/attr_model"
    for nsid in 1 2; do
        mkdir "$nvmet/subsystems/$nqn/namespaces/$nsid"
        echo -n /dev/ram$((nsid - 1)) >"$nvmet/subsystems/$nqn/namespaces/$nsid/device_path"
        echo 1 >"$nvmet/subsystems/$nqn/namespaces/$nsid/enable"
    done
    for address in "$@"; do
        port=$((port + 1))
        family=ipv4
        case $address in *:*) family=ipv6 ;; esac
        mkdir "$nvmet/ports/$port"
        echo rdma >"$nvmet/ports/$port/addr_trtype"
        echo $family >"$nvmet/ports/$port/addr_adrfam"
        echo "$address" >"$nvmet/ports/$port/addr_traddr"
        echo 4420 >"$nvmet/ports/$port/addr_trsvcid"
        ln -s "$nvmet/subsystems/$nqn" "$nvmet/ports/$port/subsystems/$nqn"
    done
}

# Whatever there is of it. Removing a port ends its connections.
kernel_target_down() {
    local port subsystem namespace host
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
        rm -f "$subsystem"/allowed_hosts/*
        rmdir "$subsystem"
    done
    for host in "$nvmet"/hosts/*; do
        [ ! -d "$host" ] || rmdir "$host"
    done
}
