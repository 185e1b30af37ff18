# Sourced, in the guest. Our host: nvmf-perf.

# our_host ADDRESS NQN ARGUMENT…: of the case's variant; asan is instrumented too.
our_host() {
    local address=$1 nqn=$2 program=${LAB_BIN:-}/nvmf-perf
    shift 2
    [ "$LAB_VARIANT" != asan ] || program=$LAB_BIN_ASAN/nvmf-perf
    # The slowest machine's time, ten times.
    "$program" --provider ibv -r "trtype:RDMA traddr:$address trsvcid:4420 subnqn:$nqn" --no-progress --cpus 1 --connect-timeout 60 --command-timeout 120 "$@"
}
