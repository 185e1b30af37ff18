# Sourced, in the guest. Two RDMA devices on one kernel: soft-RoCE on both ends of a veth pair, with routes that make packets cross it. (Soft-RoCE in network
# namespaces does not work on Linux 6.1.)
#
#   va  10.9.0.1  fd09::1   rxea   the target's end
#   vb  10.9.0.2  fd09::2   rxeb   the host's end

network_up() {
    local side
    ip link add va type veth peer name vb || return 1
    for side in va vb; do
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
    echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter
    ip addr add 10.9.0.1/24 dev va noprefixroute
    ip addr add 10.9.0.2/24 dev vb noprefixroute
    ip -6 addr add fd09::1/64 dev va noprefixroute nodad
    ip -6 addr add fd09::2/64 dev vb noprefixroute nodad
    # What one CPU sends is received on that CPU, so that packets of a queue pair overtake each other where both CPUs send them, and soft-RoCE's host side does
    # not survive it (it registers memory a second time). So each end is received on one CPU.
    echo 1 >/sys/class/net/va/queues/rx-0/rps_cpus
    echo 2 >/sys/class/net/vb/queues/rx-0/rps_cpus
    ip link set va up
    ip link set vb up
    network_rules ip 10.9.0.1 10.9.0.2
    network_rules "ip -6" fd09::1 fd09::2
    network_routes
    modprobe rdma_rxe || return 1
    rxe_add va && rxe_add vb
}

# network_rules IP ADDRESS_A ADDRESS_B: what goes from one address to the other takes the wire, although both are this kernel's own.
network_rules() {
    local ip=$1 a=$2 b=$3
    $ip rule add pref 1 oif va table 101
    $ip rule add pref 2 oif vb table 102
    $ip rule add pref 3 iif lo from "$a" to "$b" table 101
    $ip rule add pref 4 iif lo from "$b" to "$a" table 102
    # Who does not say where from is on the other end.
    $ip rule add pref 5 iif lo to "$a" table 102
    $ip rule add pref 6 iif lo to "$b" table 101
    # Local delivery is looked at after these, not first.
    $ip rule add pref 10 table local
    $ip rule del pref 0
}

# Again after a link was down.
network_routes() {
    ip route replace 10.9.0.0/24 dev va src 10.9.0.1 table 101
    ip route replace 10.9.0.0/24 dev vb src 10.9.0.2 table 102
    ip -6 route replace fd09::/64 dev va src fd09::1 table 101
    ip -6 route replace fd09::/64 dev vb src fd09::2 table 102
}

# rxe_add va|vb, rxe_remove va|vb: the RDMA device of an end.
rxe_add() { rdma link add "rxe${1#v}" type rxe netdev "$1"; }
rxe_remove() { rdma link delete "rxe${1#v}"; }
