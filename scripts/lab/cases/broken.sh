# Cases that have to fail, by what the lab sees after a case that says nothing is wrong. Only with --broken; what they have to fail with is their description.

declare_case broken-complaint 30 broken "WARNING: made up"
case_broken_complaint() { echo "WARNING: made up" >/dev/kmsg; }

declare_case broken-leftover 60 broken "left behind: nvme"
case_broken_leftover() {
    kernel_target_up nqn.2026-11.io.quiesce:kernel 10.9.0.1
    host_connect 10.9.0.1 nqn.2026-11.io.quiesce:kernel -i 1
}

declare_case broken-verify 60 broken "status 1: verified"
case_broken_verify() {
    kernel_target_up nqn.2026-11.io.quiesce:kernel 10.9.0.1
    host_connect 10.9.0.1 nqn.2026-11.io.quiesce:kernel -i 1
    host_namespace nqn.2026-11.io.quiesce:kernel
    verified "$host_disk" --rw=write --bs=4k --size=64k --do_verify=0
    # Behind the host's back.
    dd if=/dev/urandom of=/dev/ram0 bs=4k seek=3 count=1 oflag=direct status=none
    verified "$host_disk" --rw=write --bs=4k --size=64k --verify_only=1
}

declare_case broken-command 30 broken "status 1: case_broken_command"
case_broken_command() {
    false
    true
}

declare_case broken-wait 30 broken "in vain for: godot"
case_broken_wait() { patience_s=2 wait_for godot false; }

declare_case broken-endless 5 broken "not done after 5 s"
case_broken_endless() { sleep 600; }

declare_case broken-kernel 30 broken "the guest panicked"
case_broken_kernel() {
    echo c >/proc/sysrq-trigger
    sleep 30
}

declare_case broken-silent 30 broken "the guest timed out"
case_broken_silent() {
    # Who would end the case.
    kill -STOP $$
    sleep 600
}
