# Sourced by scripts/kernel-lab. Power cuts: the guest's target serves two disks that lose what was not flushed, and the emulator is killed under a load.
#
# A killed emulator loses nothing by itself: what it wrote is in this machine's page cache. So the guest's disks are those of volatile-disk, which keeps what
# was not flushed in a memory of its own and drops a part of it when the emulator is gone. The log of what was acknowledged as durable is in /lab, this machine's.

declare_case power-cuts 60 ci "two power cuts under writes with flushes and FUA: everything acknowledged as durable is there afterwards"
declare_case power-cuts-100 5400 hand "the same a hundred times"
declare_case power-without-flush 60 broken "was acknowledged as durable, and is lost"
declare_case power-without-fua 60 broken "was acknowledged as durable, and is lost"

# is_power_case ID: it is this machine that runs it, not the guest.
is_power_case() { [[ $1 == power-* ]]; }

# power_run ID: a line for the results, as the guest writes them.
power_run() {
    local id=$1 start=$SECONDS wrong note
    power_wrong= power_told=
    case ${id%@*} in
        power-cuts) power_cuts 2 none ;;
        power-cuts-100) power_cuts 100 none ;;
        # What each of them does wrong is found by one cut, or else by the next: which blocks are lost is chance.
        power-without-flush) power_cuts 3 flush ;;
        power-without-fua) power_cuts 3 fua ;;
    esac >"$lab/logs/$id" 2>&1
    wrong=$power_wrong note=$power_told
    if [ -n "$wrong" ]; then
        printf '%s|FAILED|%s|%s\n' "$id" $((SECONDS - start)) "$wrong" >>"$lab/results"
        echo "FAILED  $id: $wrong"
    else
        printf '%s|passed|%s|%s\n' "$id" $((SECONDS - start)) "$note" >>"$lab/results"
        echo "passed  $id ($((SECONDS - start)) s)"
    fi
}

# power_cuts COUNT DEFECT: so many cuts, each followed by a boot that checks; sets power_wrong to what was wrong, and power_told to what was seen.
power_cuts() {
    local count=$1 defect=$2 round line last=0 network=no
    power_directory=$lab/power
    rm -rf "$power_directory"
    mkdir "$power_directory"
    touch "$power_directory/log"
    truncate -s 8M "$power_directory/raw"
    truncate -s 24M "$power_directory/ext4"
    mkfs.ext4 -q -F -b 4096 "$power_directory/ext4"
    echo "seed ${LAB_SEED:=$RANDOM}: LAB_SEED=$LAB_SEED cuts at the same times again, as far as times are the same"
    RANDOM=$LAB_SEED
    [ ! -e "$lab/network" ] || { network=yes; rm "$lab/network"; }
    for ((round = 1; round <= count + 1 && ! last; round++)); do
        [ "$round" -le "$count" ] || last=1
        power_round "$round" "$defect" "$last"
        line=$(grep "^checked $round " "$power_directory/log" || true)
        echo "round $round: $line; ${power_lost:-}"
        if [ -n "$power_wrong" ]; then
            power_wrong="round $round: $power_wrong"
            break
        fi
    done
    # The last check knows of all that were before it.
    read -r _ _ places blocks _ <<<"$line"
    power_told="$((round - 2)) cuts, at the end ${places:-0} places durable, ${blocks:-0} blocks compared"
    [ "$network" = no ] || touch "$lab/network"
}

# power_round NUMBER DEFECT IS_LAST: a boot that checks, and but for the last one writes, until the power is cut. Sets power_wrong, and power_lost.
power_round() {
    local round=$1 defect=$2 is_last=$3 id=0 disk disks=() sockets=() end=$((SECONDS + 120)) said
    for disk in raw ext4; do
        rm -f "$power_directory/$disk.socket"
        "$LAB_VOLATILE_DISK" "$power_directory/$disk.socket" "$power_directory/$disk" $RANDOM >"$power_directory/$disk.told" 2>&1 &
        disks+=($!)
    done
    for disk in raw ext4; do
        until [ -S "$power_directory/$disk.socket" ]; do sleep 0.05; done
        sockets+=(
            -blockdev "driver=nbd,node-name=$disk,server.type=unix,server.path=$power_directory/$disk.socket"
            # dpofua: the disk says that it takes FUA, so that the kernel sends it instead of a flush afterwards.
            -device "scsi-hd,drive=$disk,scsi-id=$id,dpofua=on,write-cache=on"
        )
        id=$((id + 1))
    done
    guest_command "$PWD" scripts/lab/power-guest "$round" "$defect" "$is_last"
    rm -f "$lab/status"
    "${QEMU[@]}" -device virtio-scsi-pci "${sockets[@]}" </dev/null &
    lab_pid=$!
    until ! kill -0 "$lab_pid" 2>/dev/null || [ "$SECONDS" -ge "$end" ] || grep -q "^writing $round$" "$power_directory/log"; do sleep 0.1; done
    if grep -q "^writing $round$" "$power_directory/log" && kill -0 "$lab_pid" 2>/dev/null; then
        # 0.2 to 3.2 s of writing.
        sleep "$((RANDOM % 3)).$((RANDOM % 8 + 2))"
    fi
    # The end of the power, or of a guest that has done what it had to.
    [ "$is_last" = 0 ] && [ "$SECONDS" -lt "$end" ] || timeout 60 tail --pid="$lab_pid" -f /dev/null
    kill -KILL "$lab_pid" 2>/dev/null || true
    wait "$lab_pid" 2>/dev/null || true
    lab_pid=
    wait "${disks[@]}" || true
    power_lost=$(paste -sd'|' "$power_directory"/{raw,ext4}.told)
    mv "$lab/console" "$lab/logs/power-console-$round"
    said=$(grep -h "^checked $round " "$power_directory/log" || true)
    case $said in
        "checked $round "*" 0") ;;
        "") power_wrong="not checked: $(tail -3 "$power_directory/guest-$round" 2>/dev/null | tr '\n|' '  ')" ;;
        *) power_wrong=$(grep -hm1 'was acknowledged as durable\|neither whole' "$power_directory/guest-$round" | tr '|' ' ') ;;
    esac
    if [ -z "$power_wrong" ] && [ "$is_last" = 0 ] && ! grep -q "^writing $round$" "$power_directory/log"; then
        power_wrong="nothing was written: $(tail -3 "$power_directory/guest-$round" | tr '\n|' '  ')"
    fi
}
