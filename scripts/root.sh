#!/bin/sh
# Says at once that root is missing, and how to give it. Usage: scripts/root.sh TARGET
if [ "$(id -u)" -ne 0 ]; then
    cat >&2 <<EOF
make $1 needs root: it makes network namespaces, which nobody else may.
Nothing outside of them is touched, and they are deleted at the end. Run:

    sudo -E env "PATH=\$PATH" make $1
EOF
    exit 1
fi
if ! ip=$(command -v ip) || [ -z "$ip" ]; then
    exit 0 # make deps comes next
fi
name=vipd-root-check-$$
if ! "$ip" netns add "$name" 2>/dev/null; then
    echo "make $1: root, but not allowed to make network namespaces; in a container," >&2
    echo "give it --privileged." >&2
    exit 1
fi
"$ip" netns del "$name"
