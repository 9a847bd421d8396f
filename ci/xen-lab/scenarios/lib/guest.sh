# The guest `g`, and what it says of itself. It has two qcow2 disks, a and b, and a program that compares them with its
# memory; see ../../guest.

# A guest of each kind that has just started: starting one takes ten seconds and more, restoring it two.
TEMPLATES=/lab/templates

# guest KIND [load] [raw]: KIND is pv, pvh or hvm. With `load` it writes to its memory all the time; with `raw` it has a raw
# disk besides.
guest() {
    local words="$*"
    local template=$TEMPLATES/${words// /-}
    if [ ! -d "$template" ]; then
        new_guest "$@"
        mkdir -p "$TEMPLATES"
        try xl save -p g "$template.save"
        try xl destroy g
        mkdir "$template"
        cp "$RUN"/* "$template"
    fi
    cp "$template"/* "$RUN"
    : > "$(console)"
    mark
    try xl restore "$template.save"
    wait_until 'g counts' has_ticked
}

# The same, started from its configuration, with empty disks.
new_guest() {
    local vdevs=(xvda xvdb xvdc) extra='console=hvc0 quiet mitigations=off' disks disk
    echo "$1" > "$RUN/kind"
    [ "$1" != hvm ] || vdevs=(hda hdb hdd)
    [[ " $* " != *' load '* ]] || extra+=' load'
    for disk in a b; do
        rm -f "$(image $disk)"
        qemu-img create -q -f qcow2 "$(image $disk)" 16M
    done
    if [ "$1" = hvm ]; then
        cp /lab/boot-sector "$RUN/boot"
        truncate -s 16M "$RUN/boot"
        qemu-img convert -f raw -O qcow2 "$RUN/boot" "$(image a)"
    fi
    disks="'format=qcow2,vdev=${vdevs[0]},access=rw,backendtype=qdisk,target=$(image a)'"
    disks+=", 'format=qcow2,vdev=${vdevs[1]},access=rw,backendtype=qdisk,target=$(image b)'"
    if [[ " $* " == *' raw '* ]]; then
        truncate -s 16M "$RUN/c.raw"
        disks+=", 'format=raw,vdev=${vdevs[2]},access=rw,backendtype=qdisk,target=$RUN/c.raw'"
    fi
    {
        printf '%s = "%s"\n' name g type "$1" on_crash destroy uuid "$(cat /proc/sys/kernel/random/uuid)"
        printf 'vcpus = 1\ndisk = [%s]\n' "$disks"
        if [ "$1" != hvm ]; then
            printf '%s = "%s"\n' kernel /lab/vmlinuz ramdisk /lab/initramfs extra "$extra"
            echo 'memory = 96'
            # TCG's SVM reports RDTSCP as RDTSC, at which Xen ends the guest.
            [ "$1" = pv ] || printf '%s = "%s"\n' tsc_mode native cpuid host,rdtscp=0
        else
            # What it says is appended, because a restored guest has another QEMU.
            printf 'memory = 32\nboot = "c"\nvnc = 0\nnographic = 1\ndevice_model_args_hvm = [%s]\n' \
                "'-chardev', 'file,id=lab,path=$(console),append=on', '-serial', 'chardev:lab'"
        fi
    } > "$RUN/cfg"
    : > "$(console)"
    start
}

# Starts it once more, with the disks that it has.
start() {
    mark
    try xl create -q "$RUN/cfg"
    wait_until 'g counts' has_ticked
}

# Whether Xen boots a PVH guest on TCG. That of 4.17 ends at once, without a word.
boots_pvh() {
    local version
    version=$(xl info | sed -n 's/^xen_version *: *\([0-9]*\.[0-9]*\).*/\1/p')
    [ "$(printf '%s\n' 4.20 "$version" | sort -V | head -n 1)" = 4.20 ]
}

# ---- What it is -------------------------------------------------------------

image() { echo "$RUN/$1.qcow2"; }
kind() { cat "$RUN/kind"; }
uuid() { sed -n 's/^uuid = "\(.*\)"/\1/p' "$RUN/cfg"; }
is_on() { xl domid g >/dev/null 2>&1; }
is_off() { ! is_on; }
# As xl list shows them: `--p---` when it is paused.
is_paused() { [[ $(xl list g | awk 'NR == 2 {print $5}') == --p* ]]; }
qemu_pid() { xenstore-read "/local/domain/$(xl domid g)/image/device-model-pid"; }
monitor() { echo "/run/xen/qmp-${1:-libxl}-$(xl domid g)"; }

# ---- What it says -----------------------------------------------------------

console() {
    if [ "$(kind)" != hvm ]; then
        echo /var/log/xen/console/guest-g.log
    else
        echo "$RUN/console"
    fi
}

# mark: what it says from now on is what `said` prints.
mark() { stat -c %s "$(console)" > "$RUN/mark"; }
said() { tail -c "+$(($(cat "$RUN/mark") + 1))" "$(console)" | tr -d '\r'; }

TICK='^.*tick ([0-9a-fx]+) token ([0-9a-f]{8})$'
# The counts since the mark, a line each, in decimal. A line that is being written does not count.
counts() {
    local tick
    said | sed -nE "s/$TICK/\\1/p" | while read -r tick; do echo $((tick)); done
}
last_tick() { tail -n 50 "$(console)" | tr -d '\r' | sed -nE "s/$TICK/\\$1/p" | tail -n 1; }
# The last count, and what else only its memory knows.
count() { echo $(($(last_tick 1))); }
token() { last_tick 2; }

has_ticked() { [ -n "$(counts | tail -n 1)" ]; }
is_past() { [ "$(count)" -gt "$1" ]; }
# What it must not say. A scenario that takes its disk's space away lets it fail.
WRONG='DISAGREE|FAILED|panic|Oops'
agrees() { ! grep -a -m 4 -E "$WRONG" "$(console)"; }

# It counts on by itself, and its disks are what it wrote.
goes_on() {
    local from
    from=$(count)
    wait_until 'g goes on' is_past $((from + 10))
    assert 'g agrees with its disks' agrees
}

# went_back LOW HIGH TOKEN: since the mark it went on from a count between LOW and HIGH, with the memory of that time.
went_back() {
    local low=$1 high=$2 token=$3 first
    wait_until "g counts from $low to $high on" first_of_then "$high"
    first=$(first_of_then "$high")
    [ "$first" -gt "$low" ] || fail "g went on with $first, and the snapshot is later than $low"
    [ "$(token)" = "$token" ] || fail "g has another memory: $(token) for $token"
    [[ $(said) != *found* ]] || fail 'g was started anew'
    goes_on
}

# The first count since the mark that is not from before the revert. A line may have been cut in two by it.
first_of_then() {
    local first
    first=$(counts | awk -v high="$1" '$1 <= high + 2 {print; exit}')
    [ -n "$first" ] && echo "$first"
}

# found LOW HIGH: since the mark it was started, and found counts from LOW to HIGH on its disks.
found() {
    wait_until 'g is started' has_found
    local disk count
    for disk in a b; do
        count=$(said | sed -nE "s/^.*found.* $disk=([0-9a-fx]+).*/\\1/p" | tail -n 1)
        [ $((count)) -ge "$1" ] && [ $((count)) -le "$2" ] ||
            fail "g found the count $((count)) on disk $disk, and it is of $1 to $2"
    done
    wait_until 'g counts' has_ticked
    goes_on
}
has_found() { said | grep found; }
