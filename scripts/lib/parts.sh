# Sourced. part NAME SHARE_SECONDS COMMAND…: runs one part, keeps its time, stops at the first that fails. parts_table: prints them all.

PARTS=()

part() {
    local name=$1 share=$2 start=$SECONDS status=0
    shift 2
    printf '\n== %s: %s\n' "$name" "$*"
    "$@" || status=$?
    PARTS+=("$name|$((SECONDS - start))|$share|$([ $status -eq 0 ] && echo passed || echo "FAILED ($status)")")
    if [ $status -ne 0 ]; then
        parts_table
        exit "$status"
    fi
}

parts_table() {
    local row name seconds share result total=0
    printf '\n%-28s %8s %8s  %s\n' part seconds share result
    for row in "${PARTS[@]}"; do
        IFS='|' read -r name seconds share result <<<"$row"
        total=$((total + seconds))
        [ "$seconds" -gt "$share" ] && result="$result, over its share"
        printf '%-28s %8s %8s  %s\n' "$name" "$seconds" "$share" "$result"
    done
    printf '%-28s %8s\n' all "$total"
}
