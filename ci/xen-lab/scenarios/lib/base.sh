# What every scenario uses: saying, asserting, waiting, and cleaning up. Sourced by `run`.

# The guests' configurations, disks, and what belongs to them.
RUN=/lab/run
# Where xlsnap keeps its records on a Xen host.
RECORDS=/var/lib/xen/snapshots

# How many seconds anything may take that takes ten where nothing else runs.
PATIENCE=200

# On standard error, so that no function's answer has it.
say() { printf '[%6.1f] %s\n' "$(($(date +%s%N) / 100000000 - START))e-1" "$*" >&2; }
START=$(($(date +%s%N) / 100000000))

fail() {
    say "$*"
    exit 1
}

# try COMMAND...: runs it, seen and timed, and ended when it hangs.
try() {
    say "\$ $*"
    local status=0
    timeout --kill-after=5 $PATIENCE "$@" </dev/null || status=$?
    [ $status = 0 ] || say "status $status"
    return $status
}

# assert WHAT COMMAND...
assert() {
    local what=$1
    shift
    "$@" || fail "not so: $what ($*)"
}

# wait_until WHAT COMMAND...: until the command succeeds.
wait_until() {
    local what=$1 end=$((SECONDS + PATIENCE))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || fail "waited in vain for: $what"
        sleep 0.2
    done
    say "seen: $what"
}

# The domains but dom0, by id.
domids() { xl list | awk 'NR > 1 && $2 != 0 {print $2}'; }

# Takes everything away that a scenario made, as it may have left it.
clean() {
    local id directory
    for id in $(domids); do
        timeout 60 xl destroy "$id" >/dev/null 2>&1
    done
    [ -z "${HELD:-}" ] || kill $HELD 2>/dev/null
    for directory in "$RECORDS" "$RUN"; do
        ! mountpoint -q "$directory" || umount "$directory"
    done
    rm -rf "$RUN" "$RECORDS"
    rm -f /var/log/xen/console/guest-*.log
}

# For the person who looks into a failure.
show_all() {
    say 'this is left:'
    xl list
    df -h / "$RECORDS" 2>/dev/null
    ls -lAR "$RECORDS" "$RUN" 2>/dev/null
    local file
    for file in "$RECORDS"/*/journal.json /var/log/xen/console/guest-*.log "$RUN/console"; do
        [ ! -s "$file" ] || { echo "== $file"; tail -n 15 "$file"; }
    done
    for file in $(ls -t /var/log/xen/qemu-dm-*.log 2>/dev/null | head -n 2); do
        [ ! -s "$file" ] || { echo "== $file"; tail -n 8 "$file"; }
    done
}
