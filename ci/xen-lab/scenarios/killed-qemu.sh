# The guest's QEMU dies, before a snapshot and in the middle of one; an earlier snapshot brings the guest back.
guest pv
taken one --memory

kill -KILL "$(qemu_pid)"
snap_ends '1 3 4 5' create g two
[ "$(names)" = one ]
reverted g one
has_snapshots one
is_sound

kill_while_saving() {
    local pid
    pid=$(qemu_pid)
    until [ -n "$(find "$RECORDS" -type f -size +1M ! -name one.save)" ]; do sleep 0.02; done
    kill -KILL "$pid"
}
kill_while_saving &
snap_ends '1 4 6' create g two --memory
wait
recovered
[ "$(names)" = one ]
reverted g one
has_snapshots one
is_sound
