# What the scripts have in common that run inside a minimal Debian.
trap 'echo "$0: line $LINENO failed" >&2' ERR
trap took EXIT

# step NAME: begins a step, and tells how long the one before it took.
step() {
    took
    echo "== $1"
    began=$SECONDS
}

began=
took() { [ -z "$began" ] || echo "== took $((SECONDS - began)) s"; }
