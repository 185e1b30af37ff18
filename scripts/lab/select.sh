# Sourced by scripts/kernel-lab: which cases run, and what came of them.

# cases_select SET NAME…: sets wanted, grouped by variant, so that a target is started seldom. A NAME is a case's, with or without @VARIANT; any case may be
# asked for @kernel. Without names it is a set.
cases_select() {
    local set=$1 id name variant picked=()
    shift
    for name in "$@"; do
        local before=${#picked[@]}
        for id in "${case_ids[@]}"; do
            if [ "$id" = "$name" ] || [ "${id%@*}" = "$name" ]; then picked+=("$id"); fi
        done
        if [ "${name#*@}" = kernel ] && [ -n "${case_seconds[${name%@*}@plain]:-}" ]; then
            case_seconds[$name]=${case_seconds[${name%@*}@plain]}
            picked+=("$name")
        fi
        [ "${#picked[@]}" -gt "$before" ] || { echo "kernel-lab: no case is called '$name'; --list names them" >&2; exit 2; }
    done
    if [ $# -eq 0 ]; then
        for id in "${case_ids[@]}"; do
            ! case_is_due "$id" "$set" || picked+=("$id")
        done
    fi
    wanted=()
    # The lab itself first.
    for id in "${picked[@]}"; do
        case $id in lab-*) wanted+=("$id") ;; esac
    done
    for variant in kernel plain srq two-cpus two-wires asan; do
        for id in "${picked[@]}"; do
            case $id in
                lab-*) ;;
                *@$variant) wanted+=("$id") ;;
            esac
        done
    done
}

# The days of the rotation: every case that is not in each run is in one of eight.
rotation_days=8
rotation_day=$(($(date -u +%s) / 86400 % rotation_days))

# case_is_due ID SET: SET is due (what is due today), long, or broken.
case_is_due() {
    local id=$1
    case $2,${case_set[$id]} in
        broken,broken | due,ci) return 0 ;;
        long,*) [[ ${case_set[$id]} != @(broken|hand) ]] ;;
        due,day) [ "${case_day[$id]}" = "$rotation_day" ] ;;
        *) return 1 ;;
    esac
}

# Says what a run leaves out: nothing is skipped in silence.
cases_not_due() {
    local id left=()
    for id in "${day_ids[@]}"; do
        case_is_due "$id" due || left+=("$id")
    done
    echo "day $((rotation_day + 1)) of $rotation_days; not run today (--long runs them): ${left[*]}"
}

cases_load() {
    local file id
    for file in scripts/lab/cases/*.sh; do
        . "$file"
    done
    cases_share_days
}

# Each case of the rotation goes to the day that has the least so far, by time limits, which are multiples of what cases need.
cases_share_days() {
    local id day least seconds=()
    day_ids=()
    declare -gA case_day
    for ((day = 0; day < rotation_days; day++)); do seconds[day]=0; done
    for id in "${case_ids[@]}"; do
        [ "${case_set[$id]}" = day ] || continue
        least=0
        for ((day = 1; day < rotation_days; day++)); do
            [ "${seconds[day]}" -ge "${seconds[least]}" ] || least=$day
        done
        seconds[least]=$((seconds[least] + case_seconds[$id]))
        case_day[$id]=$least
        day_ids+=("$id")
    done
}

cases_list() {
    local id
    for id in "${case_ids[@]}"; do
        printf '%-36s %-5s %s\n' "$id" "${case_set[$id]}" "${case_description[$id]}"
    done
}

# cases_run: boots as often as it takes. A case in which the guest broke is not tried again; the others are run in another boot.
cases_run() {
    local boot=0 running
    mkdir "$lab/logs"
    touch "$lab/results"
    cases_of_power
    while [ ${#wanted[@]} -gt 0 ]; do
        boot=$((boot + 1))
        printf '%s\n' "${wanted[@]}" >"$lab/wanted"
        guest_command "$directory" scripts/lab/run-cases
        guest_run "$silence_s" "$lab/results"
        mv "$lab/console" "$lab/logs/console-$boot"
        running=$(cat "$lab/running" 2>/dev/null || true)
        rm -f "$lab/running"
        case $guest_end in
            0 | 1) ;;
            76)
                echo "the lab itself does not work: nothing can be said of anything else"
                break
                ;;
            75) echo "the guest was not fit for another case: boots again" ;;
            *)
                [ -n "$running" ] || running=boot
                echo "the guest ($guest_end) broke in $running"
                echo "$running|FAILED|0|the guest $guest_end; see logs/console-$boot" >>"$lab/results"
                tail -30 "$lab/logs/console-$boot"
                ;;
        esac
        cases_left
        [ "$running" != boot ] || break
    done
}

# Those that this machine runs: each boots by itself.
cases_of_power() {
    local id
    for id in "${wanted[@]}"; do
        ! is_power_case "$id" || power_run "$id"
    done
    cases_left
}

# Takes out of wanted what has a result.
cases_left() {
    local id left=()
    for id in "${wanted[@]}"; do
        grep -qF "$id|" "$lab/results" || left+=("$id")
    done
    wanted=("${left[@]}")
}

# cases_table: prints it; true if everything passed.
cases_table() {
    local id result seconds note failed=0 count=0
    while IFS='|' read -r id result seconds note; do
        [ "$result" != FAILED ] || cases_log "$id"
    done <"$lab/results"
    printf '\n%-36s %-8s %8s  %s\n' case result seconds ""
    while IFS='|' read -r id result seconds note; do
        count=$((count + 1))
        [ "$result" = passed ] || failed=$((failed + 1))
        printf '%-36s %-8s %8s  %s\n' "$id" "$result" "$seconds" "$note"
    done <"$lab/results"
    printf '%-36s %-8s %8s  %s\n' "all $count, $failed failed" "" "$SECONDS" "Linux ${kernel_release} in QEMU, $(date -u +%F)"
    [ "$failed" -eq 0 ] && [ ${#wanted[@]} -eq 0 ]
}

# cases_broken: true if every case failed, and with what it has to fail with.
cases_broken() {
    local id note bad=0
    for id in "${!case_set[@]}"; do
        [ "${case_set[$id]}" = broken ] || continue
        note=$(sed -n "s/^$id|FAILED|[0-9]*|//p" "$lab/results")
        case $note in
            *"${case_description[$id]}"*) echo "failed, as it has to: $id: $note" ;;
            *)
                echo "NOT SEEN: $id, with '${case_description[$id]}': '$note'"
                bad=1
                ;;
        esac
    done
    return $bad
}

cases_log() {
    [ -s "$lab/logs/$1" ] || return 0
    printf '\n-- %s: the end of its log\n' "$1"
    tail -90 "$lab/logs/$1"
}
