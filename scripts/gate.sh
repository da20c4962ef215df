#!/bin/sh
# Makes src/gate/gate.bpf.o of src/gate/gate.bpf.c, with clang.
# --check makes it again elsewhere and fails unless it is the object in the tree: what is loaded
# into the kernel is then known to be what the source says. Compared is what reaches the kernel,
# instructions, relocations, maps, licence and symbols, not the bytes of the file around them.
set -eu
cd "$(dirname "$0")/.."

SOURCE=src/gate/gate.bpf.c
OBJECT=src/gate/gate.bpf.o

# Version 14 is that of Debian 12; another makes other instructions of the same source.
tool() {
    for name in "$1-14" "$1" /usr/lib/llvm-*/bin/"$1"; do
        if command -v "$name" >/dev/null 2>&1; then
            echo "$name"
            return
        fi
    done
    echo "$1 is missing; it is in the Debian packages clang and llvm: sudo make deps" >&2
    exit 1
}

CLANG=$(tool clang)

# build OUTPUT. Every kernel understands the instructions of -mcpu=v1.
build() {
    "$CLANG" -target bpf -mcpu=v1 -O2 -std=gnu11 -Wall -Wextra -Werror -fno-ident \
        -fno-addrsig -g0 -c "$SOURCE" -o "$1"
}

# content OBJECT. The header that names the file is left out.
content() {
    "$(tool llvm-objdump)" --no-show-raw-insn --full-contents --reloc --syms \
        --section classifier/in --section classifier/out --section classifier/clock \
        --section maps --section license "$1" | grep -v 'file format'
}

case "${1:-}" in
'')
    build "$OBJECT"
    ;;
--check)
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    build "$scratch/gate.bpf.o"
    if cmp -s "$OBJECT" "$scratch/gate.bpf.o"; then
        exit 0
    fi
    content "$OBJECT" >"$scratch/tree"
    content "$scratch/gate.bpf.o" >"$scratch/source"
    if ! diff -u "$scratch/tree" "$scratch/source" >"$scratch/differences"; then
        head -n 20 "$scratch/differences" >&2
        echo "$OBJECT is not what $SOURCE says ($("$CLANG" --version | head -n 1)): run $0" >&2
        exit 1
    fi
    ;;
*)
    echo "usage: $0 [--check]" >&2
    exit 2
    ;;
esac
