# The memory of a guest is saved while it runs, so that it stands still for a part of the time that xl takes to save it.
if boots_pvh; then
    guest pvh load
else
    guest hvm
fi

# gap SECONDS COMMAND...: the longest silence of the guest while a command runs.
gap() {
    local seconds=$1 watcher
    shift
    python3 "$here/lib/gap.py" "$(console)" "$seconds" > "$RUN/gap" &
    watcher=$!
    sleep 2
    try "$@" >&2
    wait $watcher
    cat "$RUN/gap"
}

xlsnap create g planned --memory -n | tee "$RUN/plan" >&2
assert 'it is saved while it runs' grep -q 'xl migrate' "$RUN/plan"
between=$(python3 "$here/lib/gap.py" "$(console)" 5)
of_xl=$(gap 10 xl save -c g "$RUN/save")
rm "$RUN/save"
LOW=$(count) TOKEN=$(token)
of_xlsnap=$(gap 15 xlsnap create g one --memory)
say "silent for $between s when nothing happens, $of_xl s for xl save -c, $of_xlsnap s for xlsnap, which takes the disks too"
HIGH=$(count)
goes_on
is_sound

# It is killed in the middle: xl lets the guest go on by itself.
xlsnap create g two --memory >&2 &
killed=$!
wait_until 'xl sends' pgrep -f 'xl migrate -s'
kill -KILL $killed
wait $killed || true
goes_on
recovered
has_snapshots one
is_sound

reverted g one
