# Sourced, after packages.sh. need_rdma_headers: what the feature `ibv` is built with: headers of libibverbs and librdmacm, and a libclang that the generator of
# their bindings works with (5 to 15; later ones it does not understand). Sets rdma_features to what cargo is to be told, which is nothing if all is there.
#
#   need_rdma_headers               installs what is missing where it may, and says what to install where it may not
#   need_rdma_headers --optional    never installs: where something is missing programs are built without the provider for RDMA devices, and a line says so
#
# QUIESCE_WITHOUT_RDMA=1 builds without it, whatever there is.

rdma_features=()
rdma_packages=(libibverbs-dev librdmacm-dev pkg-config)

need_rdma_headers() {
    local missing=() package
    if [ "${QUIESCE_WITHOUT_RDMA:-}" = 1 ]; then
        rdma_features=(--no-default-features)
        return 0
    fi
    rdma_headers_are_there || missing+=("${rdma_packages[@]}")
    rdma_libclang >/dev/null || missing+=("$(rdma_libclang_package)" "$(rdma_libclang_package common)")
    if [ ${#missing[@]} -gt 0 ] && [ "${1:-}" = --optional ]; then
        echo "NOT BUILT: the provider for RDMA devices; missing: ${missing[*]}" >&2
        # For the scripts that this one calls.
        export QUIESCE_WITHOUT_RDMA=1
        rdma_features=(--no-default-features)
        return 0
    fi
    if [ ${#missing[@]} -gt 0 ]; then
        if ! may_be_root; then
            echo "missing packages: ${missing[*]}; or build without RDMA devices: QUIESCE_WITHOUT_RDMA=1 $0 (cargo: --no-default-features)" >&2
            exit 1
        fi
        install_packages "${missing[@]}"
    fi
    rdma_name_libclang
}

rdma_headers_are_there() {
    command -v pkg-config >/dev/null 2>&1 && pkg-config --exists 'libibverbs >= 1.8.28' 'librdmacm >= 1.2.28'
}

# rdma_libclang: the directory of the best libclang, with the compiler's own headers beside it.
rdma_libclang() {
    local version directory
    for version in 14 15 13 12 11 10 9 8 7 6.0; do
        directory=/usr/lib/llvm-$version/lib
        if compgen -G "$directory/libclang*.so*" >/dev/null && compgen -G "$directory/clang/*/include/stddef.h" >/dev/null; then
            echo "$directory"
            return 0
        fi
    done
    return 1
}

# The package that has one: Debian 12 and Ubuntu 22.04 and 24.04 have 14, Debian 13 has none before 16.
rdma_libclang_package() {
    local version
    for version in 14 15 13; do
        if apt-cache show "libclang1-$version" >/dev/null 2>&1; then
            break
        fi
    done
    case ${1:-} in
        common) echo "libclang-common-$version-dev" ;;
        *) echo "libclang1-$version" ;;
    esac
}

# Without a newer one beside it, cargo finds it by itself; and a variable that is set now and then would have the bindings built again each time.
rdma_name_libclang() {
    local directory version
    [ -z "${LIBCLANG_PATH:-}" ] || return 0
    directory=$(rdma_libclang) || return 0
    for version in /usr/lib/llvm-*/lib/libclang*.so*; do
        version=${version#/usr/lib/llvm-}
        version=${version%%[./]*}
        if [ "$version" -gt 15 ] 2>/dev/null; then
            export LIBCLANG_PATH=$directory
            return 0
        fi
    done
}
