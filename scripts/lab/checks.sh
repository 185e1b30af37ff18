# Sourced, in the guest. What must not be there after a case, whatever it did.

# complaints MARK: what the kernel complained of since the mark that kernel_mark made.
kernel_mark() { echo "lab mark: $1" >/dev/kmsg; }
complaints() {
    dmesg | awk -v mark="lab mark: $1" 'index($0, mark) { seen = 1; delete found; count = 0 } seen && /BUG:|WARNING:|Call Trace|hung task|blocked for more than|KASAN|KFENCE|UBSAN|Oops|general protection|refcount_t|list_(add|del) corruption|stall/ { print }' | head -5
}

# complaints_of_programs DIRECTORY: what sanitizers and panics left in logs.
complaints_of_programs() {
    grep -rhE 'AddressSanitizer|LeakSanitizer|runtime error:|panicked at' "$1" 2>/dev/null | head -5
}
