# Controllers, as nvme-cli and the kernel's host see them, and discovery that changes.

declare_case admin-identify 120 day "version 2.0: id-ctrl, ns-descs, cmdset-ind-id-ns, nvm-id-ctrl, nvm-id-ns, id-iocs, list-ctrl"
case_admin_identify() {
    local json=/run/lab/json device
    target_up
    host_connect 10.9.0.1 $our_nqn -i 1
    device=/dev/$host_controller
    nvme id-ctrl "$device" -o json >$json
    expect "version" 131072 "$(jq .ver $json)"
    expect "keep-alive by traffic" 64 "$(jq '.ctratt | ((./64|floor) % 2) * 64' $json)"
    # Offsets, effects, what is supported; namespace events; entries of the error log.
    expect "log page attributes" 38 "$(jq .lpa $json)"
    jq -e '.cntrltype == 1 and .elpe == 63 and ((.oaes / 256 | floor) % 2) == 1 and .mnan > 0' $json
    nvme ns-descs "$device" -n 1 -o json | jq -e 'tostring | test("uuid") and test("nguid") and test("csi")'
    nvme cmdset-ind-id-ns "$device" -n 1 -o json >$json
    cat $json
    jq -e '.nstat == 1 and .nmic == 1' $json
    nvme nvm-id-ctrl "$device" -o json
    nvme nvm-id-ns "$device" -n 1 -o json
    nvme id-iocs "$device"
    nvme list-ctrl "$device" -o json >$json
    cat $json
    expect "controllers" "$(nvme id-ctrl "$device" -o json | jq .cntlid)" "$(jq -r '[.ctrl_list[].ctrl_id] | join(" ")' $json)"
    host_disconnect "$host_controller"
}

declare_case admin-logs 120 day "supported-log-pages, effects-log, fid-support-effects-log, changed-ns-list-log, error-log, smart-log, fw-log"
case_admin_logs() {
    local json=/run/lab/json device
    target_up
    host_connect 10.9.0.1 $our_nqn -i 1
    device=/dev/$host_controller
    # Not as JSON: nvme-cli 2.3 aborts while it writes that.
    nvme supported-log-pages "$device" | tee /run/lab/pages
    grep -qi "0x12\|feature identifiers" /run/lab/pages
    nvme effects-log "$device" --csi=0 | tee /run/lab/pages
    grep -qi "ACS6\|Identify" /run/lab/pages
    nvme fid-support-effects-log "$device" | tee /run/lab/pages
    grep -q "FID 0f" /run/lab/pages
    nvme changed-ns-list-log "$device" -o json
    nvme fw-log "$device" -o json
    host_namespace $our_nqn 1
    verified "$host_disk" --rw=randwrite --bs=4k --iodepth=4
    nvme smart-log "$device" -o json >$json
    cat $json
    jq -e '.host_read_commands > 0 and .host_write_commands > 0 and .data_units_read > 0 and .data_units_written > 0' $json
    # A block that there is not.
    if nvme read "$host_disk" --start-block=999999999 --block-count=0 --data-size=512 --data=/dev/null; then
        fail "read a block behind the end"
    fi
    nvme admin-passthru "$device" --opcode=0xC5 && fail "a command that there is not"
    nvme error-log "$device" -e 8 -o json >$json
    cat $json
    jq -e '[.errors[] | select(.error_count > 0)] | length >= 1' $json
    host_disconnect "$host_controller"
}

declare_case admin-features 120 day "features by selection, with namespaces and data; a reset brings the defaults back"
case_admin_features() {
    local device
    target_up
    host_connect 10.9.0.1 $our_nqn -i 1
    device=/dev/$host_controller
    nvme set-feature "$device" -f 5 -n 1 -v 77
    nvme get-feature "$device" -f 5 -n 1 | tee /run/lab/feature
    grep -qi "0x0*4d" /run/lab/feature
    nvme get-feature "$device" -f 0x16 -H
    nvme get-feature "$device" -f 7 -s 3
    nvme set-feature "$device" -f 0xa -v 1
    nvme get-feature "$device" -f 0xa -s 1 | tee /run/lab/feature
    grep -qi "00000000" /run/lab/feature
    nvme reset "$device"
    wait_for "$host_controller is live" host_is live "$host_controller"
    nvme get-feature "$device" -f 0xa | tee /run/lab/feature
    grep -qi "00000000" /run/lab/feature
    host_disconnect "$host_controller"
}

declare_case admin-keep-alive 150 day "a host whose keep-alives its traffic stands for stays connected; one that falls silent is ended" plain two-cpus
case_admin_keep_alive() {
    target_up
    host_connect 10.9.0.1 $our_nqn -i 1
    host_namespace $our_nqn 1
    # Four times the timeout of five seconds, and not one reconnect.
    verified "$host_disk" --rw=randwrite --bs=4k --iodepth=2 --time_based --runtime=20
    host_is live "$host_controller"
    sleep 12
    host_is live "$host_controller"
    dmesg | awk '/lab mark/ { lost = ""; next } /[Rr]econnect|[Kk]eep.[Aa]live/ { lost = lost $0 } END { if (lost != "") { print lost; exit 1 } }' ||
        fail "the host lost its controller"
    host_disconnect "$host_controller"
}
