# Sourced by scripts/kernel-lab, on the machine that starts the guest. Gets a Debian kernel without installing it, and what it boots from.
#
# Everything is below $lab_cache, by package and version, and is made once:
#   PACKAGE_VERSION/lib/modules   the package's modules
#   PACKAGE_VERSION/vmlinux       its kernel, uncompressed: QEMU starts that through its PVH entry in a third of the time
#   PACKAGE_VERSION/initramfs-*   scripts/lab/init and what it needs, by the checksum of scripts/lab/init

lab_cache=${QUIESCE_LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/quiesce/lab}

# kernel_ready SERIES REFRESH: sets kernel_directory and kernel_release. A kernel of the series that is there already is taken, unless REFRESH is yes.
kernel_ready() {
    local series=$1 refresh=$2
    mkdir -p "$lab_cache"
    exec {lab_lock}>"$lab_cache/lock"
    flock "$lab_lock"
    kernel_directory=$(kernel_of_series "$series")
    if [ -z "$kernel_directory" ] || [ "$refresh" = yes ]; then
        kernel_fetch "$series"
    fi
    kernel_release=$(ls "$kernel_directory/lib/modules")
    initramfs_ready
    flock -u "$lab_lock"
}

# The newest of what was unpacked.
kernel_of_series() {
    find "$lab_cache" -mindepth 1 -maxdepth 1 -type d -name "linux-image-$1[.-]*" | sort -V | tail -1
}

kernel_fetch() {
    local series=$1 package file directory work
    package=$(kernel_package "$series")
    if [ -z "$package" ]; then
        echo "looks for Linux $series among Debian's packages" >&2
        as_root apt-get update -qq
        package=$(kernel_package "$series")
    fi
    if [ -z "$package" ]; then
        echo "no Debian package of Linux $series: apt-cache knows of $(apt-cache search --names-only '^linux-image-[0-9.]+.*amd64' | wc -l) kernels, none of which is that" >&2
        exit 125
    fi
    work=$(mktemp -d "$lab_cache/fetch.XXXXXX")
    echo "downloads $package" >&2
    # Root's own downloads are not handed to another user, who may not be able to come here.
    (cd "$work" && apt-get download -qq -o APT::Sandbox::User=root "$package")
    file=$(ls "$work"/*.deb)
    directory=$lab_cache/${package}_$(dpkg-deb -f "$file" Version)
    if [ ! -d "$directory" ]; then
        mkdir "$work/all" "$work/kernel"
        dpkg-deb -x "$file" "$work/all"
        mkdir -p "$work/kernel/lib"
        mv "$work/all/lib/modules" "$work/kernel/lib/"
        depmod -b "$work/kernel" "$(ls "$work/kernel/lib/modules")"
        kernel_uncompressed "$work"/all/boot/vmlinuz-* "$work/kernel/vmlinux"
        mv "$work/kernel" "$directory"
    fi
    rm -rf "$work"
    kernel_directory=$directory
}

# The newest package of a series that holds a whole kernel: Debian's cloud kernels have no soft-RoCE. Some come unsigned only, which is all the same here.
kernel_package() {
    local kind package
    for kind in "" -unsigned; do
        package=$(apt-cache search --names-only "^linux-image-${1//./\\.}[.-][0-9.+a-z-]*-amd64$kind\$" | cut -d' ' -f1 | grep -Ev 'cloud|rt-amd64' | sort -V | tail -1)
        [ -z "$package" ] || break
    done
    echo "$package"
}

# kernel_uncompressed VMLINUZ OUT: the ELF file that is compressed within.
kernel_uncompressed() {
    local offset
    for offset in $(LC_ALL=C grep -obUaP '\xfd7zXZ\x00' "$1" | cut -d: -f1); do
        # The stream is followed by its length, of which xz complains.
        tail -c +$((offset + 1)) "$1" | xz -dc >"$2" 2>/dev/null || true
        is_elf "$2" && return 0
    done
    for offset in $(LC_ALL=C grep -obUaP '\x28\xb5\x2f\xfd' "$1" | cut -d: -f1); do
        tail -c +$((offset + 1)) "$1" | zstd -dcq >"$2" 2>/dev/null || true
        is_elf "$2" && return 0
    done
    echo "$1 holds neither an xz nor a zstd stream with a kernel in it" >&2
    exit 125
}

is_elf() { [ "$(head -c 4 "$1" | od -An -tx1 | tr -d ' \n')" = 7f454c46 ]; }

# What the guest needs until it sees this machine's files: busybox, and the modules for that.
initramfs_ready() {
    local sum work module
    sum=$(cat scripts/lab/init "$(command -v busybox)" | sha256sum | cut -c1-16)
    initramfs=$kernel_directory/initramfs-$sum
    [ ! -f "$initramfs" ] || return 0
    work=$(mktemp -d "$lab_cache/initramfs.XXXXXX")
    mkdir -p "$work/root"/{bin,modules,proc,sys,dev,host,over,new}
    cp "$(command -v busybox)" "$work/root/bin/busybox"
    cp scripts/lab/init "$work/root/init"
    for module in virtio_pci 9pnet_virtio 9p overlay; do
        modprobe -d "$kernel_directory" -S "$kernel_release" --show-depends "$module"
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$work/modules"
    while read -r module; do
        cp "$module" "$work/root/modules/"
        basename "$module"
    done <"$work/modules" >"$work/root/modules/order"
    (cd "$work/root" && find . | cpio -o -H newc -R 0:0 --quiet) | gzip -1 >"$work/initramfs"
    mv "$work/initramfs" "$initramfs"
    rm -rf "$work"
}
