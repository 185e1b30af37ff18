# Hosts that have to prove who they are: DH-HMAC-CHAP between the kernel and us, in both directions.
#
# Debian's Linux 6.1 is built without it, on both sides: there, the cases see that who cannot prove anything stays outside, and say what they left out.
# scripts/kernel-lab --kernel 6.12 --case host-authentication --case ours-authentication

proven_id=aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa
proven_nqn=nqn.2014-08.org.nvmexpress:uuid:$proven_id

# kernel_authenticates: true if the kernel's host was built with it. From then on there is a module of its own.
kernel_authenticates() { modprobe -n nvme-auth 2>/dev/null; }

# key_made NAME HASH: sets key_file, key_text. A secret as nvme-cli makes them; hash 0 is none.
key_made() {
    key_file=/run/lab/$1.key
    key_text=$(nvme gen-dhchap-key --hmac="$2" -n $proven_nqn)
    (umask 077 && echo "$key_text" >"$key_file")
}

# key_added NAME HASH: the target has it, under its name.
key_added() {
    key_made "$1" "$2"
    expect "keyring_file_add_key" true "$(rpc keyring_file_add_key "{\"name\": \"$1\", \"path\": \"$key_file\"}")"
}

# keys_set METHOD [KEY [CONTROLLER_KEY]]: for the host of these cases.
keys_set() {
    local keys=""
    [ -z "${2:-}" ] || keys+=", \"dhchap_key\": \"$2\""
    [ -z "${3:-}" ] || keys+=", \"dhchap_ctrlr_key\": \"$3\""
    expect "$1" true "$(rpc "$1" "{\"nqn\": \"$our_nqn\", \"host\": \"$proven_nqn\"$keys}")"
}

# allowed_set DIGESTS GROUPS: what the target uses, each in quotes.
allowed_set() {
    expect nvmf_set_config true "$(rpc nvmf_set_config "{\"dhchap_digests\": [$1], \"dhchap_dhgroups\": [$2]}")"
}

# proven_connect [ARGUMENT…]: as that host.
proven_connect() { host_connect 10.9.0.1 $our_nqn -i 2 -q $proven_nqn -I $proven_id "$@"; }

# proven_refused WHAT [ARGUMENT…]: it may not connect, and nothing of it stays.
proven_refused() {
    local what=$1
    shift
    if nvme connect -t rdma -a 10.9.0.1 -w 10.9.0.2 -s 4420 -n $our_nqn -i 2 -q $proven_nqn -I $proven_id "$@"; then
        fail "connected $what"
    fi
    wait_for "nothing is left of a host that was refused" host_has_none
}

host_has_none() { [ -z "$(host_controllers)" ]; }

# kernel_said MARK TEXT: since the mark that kernel_mark made.
kernel_said() { dmesg | awk -v mark="lab mark: $1" 'index($0, mark) { seen = 1 } seen' | grep -F "$2"; }

declare_case host-authentication 480 day "DH-HMAC-CHAP: one- and two-way, each hash, no group and two, each queue, wrong and missing secrets, a new key on a live connection"
case_host_authentication() {
    local ours theirs other renewed digest group before io
    target_up
    modprobe nvme-rdma
    key_added ours 0 && ours=$key_text
    key_added theirs 2 && theirs=$key_text
    key_added renewed 3 && renewed=$key_text
    key_made other 0 && other=$key_text
    keys_set nvmf_subsystem_add_host ours theirs
    proven_refused "without a secret"
    if ! kernel_authenticates; then
        not_yet "no DH-HMAC-CHAP in $(uname -r): the rest runs with --kernel 6.12"
        case_host_authentication_ends
        return 0
    fi

    # An emulated CPU takes seconds for the larger groups: unit tests have those.
    while read -r digest group; do
        allowed_set "\"$digest\"" "\"$group\""
        before=$(metric nvmf_authentications_total)
        kernel_mark "$group"
        proven_connect -S "$ours"
        expect "queues that authenticated ($group)" 3 $(($(metric nvmf_authentications_total) - before))
        # Without a group the kernel says nothing.
        [ "$group" = null ] || kernel_said "$group" "authenticated with hash hmac($digest) dhgroup $group"
        host_namespace $our_nqn 1
        verified "$host_disk" --rw=randwrite --bs=4k --iodepth=8 --size=256k
        host_disconnect "$host_controller"
    done <<END
sha256 null
sha384 ffdhe2048
sha512 ffdhe3072
END

    # Whom the controller does not know, and who does not know the controller.
    allowed_set '"sha256", "sha384", "sha512"' '"null", "ffdhe2048"'
    before=$(metric nvmf_authentications_failed_total)
    kernel_mark wrong
    proven_refused "with a wrong secret" -S "$other"
    expect "authentications that failed" 1 $(($(metric nvmf_authentications_failed_total) - before))
    kernel_said wrong "authentication failed"
    kernel_mark imposter
    proven_refused "to a controller with a wrong secret" -S "$ours" -C "$other"
    kernel_said imposter "controller authentication failed"
    proven_connect -S "$ours" -C "$theirs"
    kernel_mark renewed

    # A new key, under verified I/O: the kernel authenticates all queues again when it is told.
    host_namespace $our_nqn 1
    verified "$host_disk" --rw=randwrite --bs=4k --iodepth=4 --size=512k --loops=3 &
    io=$!
    keys_set nvmf_subsystem_set_keys renewed theirs
    before=$(metric nvmf_authentications_total)
    echo "$renewed" >"/sys/class/nvme/$host_controller/dhchap_secret"
    wait_for "each queue to authenticate again" authenticated_since "$before" 3
    wait $io
    nvme reset "/dev/$host_controller"
    wait_for "live after a reset" host_is live "$host_controller"
    verified "$host_disk" --rw=randwrite --bs=4k --iodepth=4 --size=256k
    host_disconnect "$host_controller"
    proven_refused "with a secret that was replaced" -S "$ours"
    case_host_authentication_ends
}

# authenticated_since BEFORE COUNT
authenticated_since() { [ $(($(metric nvmf_authentications_total) - $1)) -ge "$2" ]; }

case_host_authentication_ends() {
    local name
    allowed_set '"sha256", "sha384", "sha512"' '"null", "ffdhe2048", "ffdhe3072", "ffdhe4096", "ffdhe6144", "ffdhe8192"'
    expect nvmf_subsystem_remove_host true "$(rpc nvmf_subsystem_remove_host "{\"nqn\": \"$our_nqn\", \"host\": \"$proven_nqn\"}")"
    for name in ours theirs renewed; do
        expect keyring_file_remove_key true "$(rpc keyring_file_remove_key "{\"name\": \"$name\"}")"
    done
}

declare_case ours-authentication 480 day "our host proves itself to the kernel's target and to ours: one- and two-way, wrong and missing secrets"
case_ours_authentication() {
    local nqn=nqn.2026-11.io.quiesce:kernel hosts=$nvmet/hosts/$proven_nqn digest group
    key_made other 0
    target_up
    key_added ours 0
    key_added theirs 2
    keys_set nvmf_subsystem_add_host ours theirs
    ours_prove $our_nqn null
    ours_prove $our_nqn ffdhe2048
    case_ours_authentication_ends
    if ! kernel_authenticates; then
        not_yet "no DH-HMAC-CHAP in $(uname -r): the kernel's target with --kernel 6.12"
        return 0
    fi

    kernel_target_up $nqn 10.9.0.1
    echo 0 >"$nvmet/subsystems/$nqn/attr_allow_any_host"
    mkdir "$hosts"
    ln -s "$hosts" "$nvmet/subsystems/$nqn/allowed_hosts/$proven_nqn"
    cat /run/lab/ours.key >"$hosts/dhchap_key"
    cat /run/lab/theirs.key >"$hosts/dhchap_ctrl_key"
    while read -r digest group; do
        echo "hmac($digest)" >"$hosts/dhchap_hash"
        echo "$group" >"$hosts/dhchap_dhgroup"
        # It takes the group it was told whatever is offered, but refuses an offer of that one alone where it is null.
        ours_prove $nqn null,ffdhe2048
    done <<END
sha256 null
sha512 ffdhe2048
END
    kernel_target_down
}

case_ours_authentication_ends() {
    local name
    expect nvmf_subsystem_remove_host true "$(rpc nvmf_subsystem_remove_host "{\"nqn\": \"$our_nqn\", \"host\": \"$proven_nqn\"}")"
    for name in ours theirs; do
        expect keyring_file_remove_key true "$(rpc keyring_file_remove_key "{\"name\": \"$name\"}")"
    done
    target_down
}

# ours_prove NQN GROUPS: who knows the secrets does I/O, who does not does none.
ours_prove() {
    local nqn=$1 ours="--dhchap-dhgroups $2 --dhchap-secret-file /run/lab/ours.key"
    # shellcheck disable=SC2086
    {
        proven_verifies $nqn $ours
        proven_verifies $nqn $ours --dhchap-ctrl-secret-file /run/lab/theirs.key
        ours_refused $nqn --dhchap-dhgroups "$2" --dhchap-secret-file /run/lab/other.key
        ours_refused $nqn $ours --dhchap-ctrl-secret-file /run/lab/other.key
    }
    ours_refused $nqn
}

proven_verifies() {
    local nqn=$1
    shift
    our_host 10.9.0.1 $nqn --host-nqn $proven_nqn --nsid 1 -w randwrite -o 4k -q 8 -n 64 -P 2 --verify "$@"
}

# The kernel's target often has ended the connection before its reason was read.
ours_refused() {
    if proven_verifies "$@" 2>/run/lab/refusal; then
        fail "I/O without the right secret: $*"
    fi
    cat /run/lab/refusal
    grep -Ei 'authenticat|secret' /run/lab/refusal || { [ "$1" != $our_nqn ] && grep -F 'the connection of queue 0 is gone' /run/lab/refusal; }
}
