# The lab itself: the kernel's host against the kernel's target. If these fail, nothing can be said of anything else.

declare_case lab-pair 60 ci "the kernel's host against its own target: discover, connect, fio with verification, disconnect"
case_lab_pair() {
    local nqn=nqn.2026-11.io.quiesce:kernel
    kernel_target_up $nqn 10.9.0.1
    nvme discover -t rdma -a 10.9.0.1 -w 10.9.0.2 -s 4420 -o json | jq -e --arg nqn $nqn '.records[] | select(.subnqn == $nqn)'
    host_connect 10.9.0.1 $nqn -i 2
    host_namespace $nqn
    verified "$host_disk" --rw=randwrite --bs=4k --iodepth=8
    host_disconnect "$host_controller"
}

declare_case lab-pair-ipv6 60 long "the same over IPv6"
case_lab_pair_ipv6() {
    local nqn=nqn.2026-11.io.quiesce:kernel
    kernel_target_up $nqn fd09::1
    host_connect fd09::1 $nqn -i 1
    host_namespace $nqn
    verified "$host_disk" --rw=randwrite --bs=4k --iodepth=8
    host_disconnect "$host_controller"
}
