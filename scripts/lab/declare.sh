# Sourced, by scripts/kernel-lab and in the guest. What cases there are.
#
#   declare_case NAME SECONDS SET DESCRIPTION [VARIANT…]    then a function case_NAME (with _ for -)
#
# SECONDS is its time limit. SET is ci (in every run), day (in one of eight runs, by the date), long (only with --long), broken (only with --broken), hand (only by its name). Without a VARIANT of the target (see
# our-target.sh) it is run as plain; SET:VARIANT puts one of them into another set.

case_ids=()
declare -A case_seconds case_set case_description

declare_case() {
    local name=$1 seconds=$2 set=$3 description=$4 variant id
    shift 4
    [ $# -gt 0 ] || set -- plain
    for variant in "$@"; do
        id=$name@${variant#*:}
        case_ids+=("$id")
        case_seconds[$id]=$seconds
        case_description[$id]=$description
        case_set[$id]=$set
        case $variant in *:*) case_set[$id]=${variant%%:*} ;; esac
    done
}
