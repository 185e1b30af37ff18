# Sourced, in the guest. Two RDMA devices on one kernel: soft-RoCE on both ends of a veth pair, with routes that make packets cross it. (Soft-RoCE in network
# namespaces does not work on Linux 6.1.)
#
#   va  10.9.0.1  fd09::1   rxea   the target's end
#   vb  10.9.0.2  fd09::2   rxeb   the host's end
#
# Where a case asks for a second wire (network_second_up):
#
#   vc  10.9.1.1            rxec   the target's end
#   vd  10.9.1.2            rxed   the host's end

network_up() {
    local ip
    network_wire va vb || return 1
    ip addr add 10.9.0.1/24 dev va noprefixroute
    ip addr add 10.9.0.2/24 dev vb noprefixroute
    ip -6 addr add fd09::1/64 dev va noprefixroute nodad
    ip -6 addr add fd09::2/64 dev vb noprefixroute nodad
    ip link set va up
    ip link set vb up
    echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter
    network_rules ip va 101 10.9.0.1 vb 102 10.9.0.2
    network_rules "ip -6" va 101 fd09::1 vb 102 fd09::2
    # Local delivery is looked at after these, not first.
    for ip in ip "ip -6"; do
        $ip rule add pref 10 table local
        $ip rule del pref 0
    done
    network_routes
    modprobe rdma_rxe || return 1
    rxe_add va && rxe_add vb
}

# Once.
network_second_up() {
    [ ! -e /sys/class/net/vc ] || return 0
    network_wire vc vd || return 1
    ip addr add 10.9.1.1/24 dev vc noprefixroute
    ip addr add 10.9.1.2/24 dev vd noprefixroute
    ip link set vc up
    ip link set vd up
    network_rules ip vc 103 10.9.1.1 vd 104 10.9.1.2
    ip route replace 10.9.1.0/24 dev vc src 10.9.1.1 table 103
    ip route replace 10.9.1.0/24 dev vd src 10.9.1.2 table 104
    rxe_add vc && rxe_add vd
}

# network_wire A B: a veth pair, not up yet.
network_wire() {
    local side
    ip link add "$1" type veth peer name "$2" || return 1
    for side in "$1" "$2"; do
        # A path MTU of RoCE is a power of two, and headers come on top.
        ip link set "$side" mtu 4200
        echo 1 >/proc/sys/net/ipv4/conf/$side/accept_local
        echo 0 >/proc/sys/net/ipv4/conf/$side/rp_filter
        echo 1 >/proc/sys/net/ipv4/conf/$side/arp_ignore
        echo 2 >/proc/sys/net/ipv4/conf/$side/arp_announce
        # No time for the detection of duplicate addresses, and no router.
        echo 0 >/proc/sys/net/ipv6/conf/$side/accept_dad
        echo 0 >/proc/sys/net/ipv6/conf/$side/accept_ra
    done
    # What one CPU sends is received on that CPU, so that packets of a queue pair overtake each other where both CPUs send them, and soft-RoCE's host side does
    # not survive it (it registers memory a second time). So each end is received on one CPU.
    echo 1 >"/sys/class/net/$1/queues/rx-0/rps_cpus"
    echo 2 >"/sys/class/net/$2/queues/rx-0/rps_cpus"
}

# network_rules IP A TABLE_A ADDRESS_A B TABLE_B ADDRESS_B: what goes from one address to the other takes the wire, although both are this kernel's own.
network_rules() {
    local ip=$1 va=$2 table_a=$3 a=$4 vb=$5 table_b=$6 b=$7
    $ip rule add pref 1 oif "$va" table "$table_a"
    $ip rule add pref 2 oif "$vb" table "$table_b"
    $ip rule add pref 3 iif lo from "$a" to "$b" table "$table_a"
    $ip rule add pref 4 iif lo from "$b" to "$a" table "$table_b"
    # Who does not say where from is on the other end.
    $ip rule add pref 5 iif lo to "$a" table "$table_b"
    $ip rule add pref 6 iif lo to "$b" table "$table_a"
}

# Again after a link was down.
network_routes() {
    ip route replace 10.9.0.0/24 dev va src 10.9.0.1 table 101
    ip route replace 10.9.0.0/24 dev vb src 10.9.0.2 table 102
    ip -6 route replace fd09::/64 dev va src fd09::1 table 101
    ip -6 route replace fd09::/64 dev vb src fd09::2 table 102
}

# rxe_add va|vb|vc|vd, rxe_remove …: the RDMA device of an end.
rxe_add() { rdma link add "rxe${1#v}" type rxe netdev "$1"; }
rxe_remove() { rdma link delete "rxe${1#v}"; }
