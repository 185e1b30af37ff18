# Our host, against the kernel's target and against ours.

declare_case ours-kernel 120 ci "our host, the kernel's target: discover, identify, verified writes of 512 bytes to 128 KiB, within commands and pulled"
case_ours_kernel() {
    local nqn=nqn.2026-11.io.quiesce:kernel
    kernel_target_up $nqn 10.9.0.1 fd09::1
    our_host 10.9.0.1 nqn.2014-08.org.nvmexpress.discovery discover | tee /run/lab/discovered
    grep -q $nqn /run/lab/discovered
    our_host 10.9.0.1 $nqn identify
    our_host_verifies 10.9.0.1 $nqn
    kernel_target_down
}

declare_case ours-kernel-ipv6 90 day "our host, the kernel's target, over IPv6"
case_ours_kernel_ipv6() {
    local nqn=nqn.2026-11.io.quiesce:kernel
    kernel_target_up $nqn fd09::1
    our_host fd09::1 $nqn --nsid 1 -w randwrite -o 4k -q 8 -n 256 --verify
    kernel_target_down
}

declare_case ours-kernel-connect 120 day "our host, the kernel's target: associations that come and go, with quiet, abrupt and early ends"
case_ours_kernel_connect() {
    local nqn=nqn.2026-11.io.quiesce:kernel
    kernel_target_up $nqn 10.9.0.1
    our_host 10.9.0.1 $nqn --nsid 1 connect -P 2 -j 2 -n 12 --end mixed --verify 4
    our_host 10.9.0.1 $nqn --nsid 1 -w randwrite -o 4k -q 8 -n 128 --verify
    kernel_target_down
}

our_host_verifies() {
    our_host "$1" "$2" --nsid 1 -w randwrite -o 512 -q 16 -n 256 --verify
    our_host "$1" "$2" --nsid 1 -w randwrite -o 4k -q 16 -n 256 --verify --in-capsule
    our_host "$1" "$2" --nsid 1 -w write -o 64k -q 4 -n 32 --verify
    our_host "$1" "$2" --nsid 1 -w randwrite -o 128k -q 4 -n 16 --verify -P 2
}

declare_case ours-ours 120 ci "our host, our target: discover, identify, verified writes of 512 bytes to 128 KiB, within commands and pulled" plain day:srq day:two-cpus
case_ours_ours() {
    target_up
    our_host 10.9.0.1 nqn.2014-08.org.nvmexpress.discovery discover | tee /run/lab/discovered
    grep -q $our_nqn /run/lab/discovered
    our_host 10.9.0.1 $our_nqn identify
    our_host_verifies 10.9.0.1 $our_nqn
    our_host fd09::1 $our_nqn --nsid 1 -w randwrite -o 4k -q 8 -n 128 --verify
}

declare_case ours-connect 180 day "our host, our target: associations that come and go, with quiet, abrupt and early ends" plain srq two-cpus
case_ours_connect() {
    target_up
    our_host 10.9.0.1 $our_nqn --nsid 1 connect -P 3 -j 2 -n 24 --end mixed --verify 4
    our_host 10.9.0.1 $our_nqn --nsid 1 -w randwrite -o 4k -q 8 -n 128 --verify
}
