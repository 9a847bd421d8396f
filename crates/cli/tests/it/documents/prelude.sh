# What the lines of the documents that a reader does not see may call. HOST is the directory of the sandbox.

# ends CODE COMMAND...: the command ends with that code.
ends() {
    local want=$1 got=0
    shift
    "$@" || got=$?
    [ "$got" = "$want" ] || { echo "exit code $got, not $want: $*"; return 99; }
}

# until_so COMMAND...: waits until the command succeeds; the sandbox has a limit on that.
until_so() {
    set +x
    until "$@" 2>/dev/null; do sleep 0.1; done
    set -x
}

state_is() { [ "$(xlsnap domain status "$1" --json | jq -r .state)" = "$2" ]; }

# booted: waits until the guest of web counts, so that it hears of a power button; tells what it said when it does not.
booted() {
    local log=$HOST/var/log/web.serial size
    size=$(stat -c %s "$log")
    count_is_beyond() { tail -c +"$((size + 1))" "$log" | grep '^tick 1' >/dev/null; }
    set +x
    for ((tenths = 0; tenths < 2000; tenths++)); do
        if count_is_beyond; then
            set -x
            return 0
        fi
        sleep 0.1
    done
    echo "the guest of web does not count; its console since its start is:"
    tail -c +"$((size + 1))" "$log"
    xlsnap domain status web
    return 99
}

# A directory of records: records DOMAIN.
records() { echo "$HOST/var/lib/xlsnap/$(xlsnap domain show "$1" --json | jq -r .domain.uuid)"; }
