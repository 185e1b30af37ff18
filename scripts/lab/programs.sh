# Sourced by scripts/kernel-lab: builds what the wanted cases run.

# programs_ready: exports where the guest finds nvmf-tgt and nvmf-perf: LAB_BIN, and built with AddressSanitizer LAB_BIN_ASAN; and where the disk is that
# power cuts need: LAB_VOLATILE_DISK; where the contract suite is: LAB_CONTRACT. Who sets these has built them.
programs_ready() {
    local base=${CARGO_TARGET_DIR:-target}
    case $base in /*) ;; *) base=$PWD/$base ;; esac
    if [ "${QUIESCE_WITHOUT_RDMA:-}" = 1 ]; then
        echo "kernel-lab: QUIESCE_WITHOUT_RDMA is set: there would be nothing to try" >&2
        exit 1
    fi
    if programs_are_wanted "@(plain|srq|two-cpus|two-wires)" && [ -z "${LAB_BIN:-}" ]; then
        need_cargo
        need_rdma_headers
        cargo build --release --locked -p tools -p perf
        export LAB_BIN=$base/release
    fi
    if programs_are_wanted_by "power-*" && [ -z "${LAB_VOLATILE_DISK:-}" ]; then
        need_cargo
        cargo build --locked -p bdev --example volatile-disk
        LAB_VOLATILE_DISK=$base/debug/examples/volatile-disk
    fi
    if programs_are_wanted_by "drive-contract@*" && [ -z "${LAB_CONTRACT:-}" ]; then
        need_cargo
        LAB_CONTRACT=$(cargo test --locked -p bdev --test contract --no-run --message-format json | jq -r 'select(.executable != null and .target.name == "contract").executable')
        export LAB_CONTRACT
    fi
    if programs_are_wanted asan; then
        if [ -z "${LAB_BIN_ASAN:-}" ]; then
            scripts/sanitize address-programs
            export LAB_BIN_ASAN=$base/sanitize-address/x86_64-unknown-linux-gnu/debug
        fi
        export ASAN_OPTIONS="detect_leaks=1:handle_sigbus=0:quarantine_size_mb=64" LSAN_OPTIONS="suppressions=$PWD/scripts/lsan-suppressions:print_suppressions=0"
    fi
    need_commands cc=gcc
    need_files /usr/include/rdma/rdma_cma.h=librdmacm-dev
    cc -O1 -Wall -Wextra -Werror -o "$lab/raw-host" scripts/lab/raw-host.c -lrdmacm -libverbs
}

# programs_are_wanted_by PATTERN: whether a case of such a name is wanted.
programs_are_wanted_by() {
    local id
    for id in "${wanted[@]}"; do
        # shellcheck disable=SC2053
        [[ $id != $1 ]] || return 0
    done
    return 1
}

# programs_are_wanted PATTERN: whether a case of that variant is wanted. The lab's own need no program of ours.
programs_are_wanted() {
    local id
    for id in "${wanted[@]}"; do
        # shellcheck disable=SC2053
        if [[ $id != @(lab|broken)-* && ${id#*@} == $1 ]]; then
            return 0
        fi
    done
    return 1
}
