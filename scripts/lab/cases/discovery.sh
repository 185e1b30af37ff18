# Discovery that goes on: the kernel's host keeps a discovery controller, and is told of changes.

declare_case discovery-changes 150 day "nvme discover --persistent: subsystems, listeners, rights and referrals that come and go are events, and each log tells more" plain srq
case_discovery_changes() {
    local nqn=nqn.2026-11.io.quiesce:late seen
    local referral='{"address": {"trtype": "RDMA", "adrfam": "IPv4", "traddr": "10.9.0.7", "trsvcid": "8009"}}'
    target_up
    modprobe nvme-rdma
    uevents_begin
    discovered_again -p --force -k 5
    host_controller=$(basename "$(grep -l discovery /sys/class/nvme/*/subsysnqn | head -1 | xargs dirname)")
    host_is live "$host_controller"
    seen=$generation
    rpc_is true nvmf_create_subsystem "{\"nqn\": \"$nqn\"}"
    rpc_is true nvmf_subsystem_add_listener "$(path_of $nqn 10.9.0.1)"
    # A subsystem of others is nothing to this host.
    discovered_again --device="$host_controller"
    expect "records of a subsystem that is not for this host" 0 "$(records_of $nqn)"
    discovery_event "{\"nqn\": \"$nqn\", \"host\": \"$(cat /etc/nvme/hostnqn)\"}" nvmf_subsystem_add_host
    expect "records of a subsystem that is" 1 "$(records_of $nqn)"
    discovery_event "$(path_of $nqn fd09::1)" nvmf_subsystem_add_listener
    expect "records of two listeners" 2 "$(records_of $nqn)"
    discovery_event "$(path_of $nqn 10.9.0.1)" nvmf_subsystem_remove_listener
    expect "records of one listener" 1 "$(records_of $nqn)"
    discovery_event "{\"nqn\": \"$nqn\"}" nvmf_delete_subsystem
    expect "records of a subsystem that is gone" 0 "$(records_of $nqn)"
    discovery_event "$referral" nvmf_discovery_add_referral
    expect "referrals" 1 "$(referrals)"
    discovery_event "$referral" nvmf_discovery_remove_referral
    expect "referrals" 0 "$(referrals)"
    # Longer than its keep-alive time.
    sleep 6
    host_is live "$host_controller"
    host_disconnect "$host_controller"
}

# discovery_event PARAMETERS METHOD: a change, which the host is told of, and which the log tells.
discovery_event() {
    local before seen=$generation
    before=$(discovery_events)
    echo "$2 $1"
    rpc_is true "$2" "$1"
    wait_for "an event after $2" discovery_events_beyond "$before"
    discovered_again --device="$host_controller"
    # nvme-cli 2.3 asks for more events only where the log is of 4 KiB at most.
    nvme get-log "/dev/$host_controller" -i 0x70 -l 1024 -b >/dev/null
    [ "$generation" -gt "$seen" ] || fail "the log's generation is $generation after $2, and was $seen"
}
# A notice of type 2, F0h: the discovery log, 70h, has changed.
discovery_events() { grep -c 'NVME_AEN=0x70f002' /run/lab/uevents || true; }
discovery_events_beyond() { [ "$(discovery_events)" -gt "$1" ]; }

# discovered_again ARGUMENT…: the log in /run/lab/discovery, and its generation.
discovered_again() {
    nvme discover -t rdma -a 10.9.0.1 -w 10.9.0.2 -s 4420 -o json "$@" >/run/lab/discovery
    cat /run/lab/discovery
    generation=$(jq .genctr /run/lab/discovery)
}
referrals() { jq '[.records[] | select((.subtype | test("referral")) and .traddr == "10.9.0.7" and .trsvcid == "8009")] | length' /run/lab/discovery; }
records_of() { jq --arg nqn "$1" '[.records[] | select(.subnqn == $nqn)] | length' /run/lab/discovery; }
