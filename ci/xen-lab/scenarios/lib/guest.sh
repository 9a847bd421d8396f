# Guests, and what they say of themselves. Each has two qcow2 disks, a and b, and a program that compares them with its
# memory; see ../guest.

# guest KIND NAME [load] [raw]: makes a guest of KIND pv or hvm with empty disks and starts it. With `load` it writes to its
# memory all the time; with `raw` it has a raw disk besides.
guest() {
    local kind=$1 name=$2 letters=(xvda xvdb xvdc) extra= disk disks=
    shift 2
    [ "$kind" = pv ] || letters=(hda hdb hdd)
    [[ " $* " != *' load '* ]] || extra=load
    echo "$kind" > "$RUN/$name.kind"
    for disk in a b; do
        rm -f "$(image "$name" $disk)"
        qemu-img create -q -f qcow2 "$(image "$name" $disk)" 16M
    done
    if [ "$kind" = hvm ]; then
        cp /lab/boot-sector "$RUN/boot"
        truncate -s 16M "$RUN/boot"
        qemu-img convert -f raw -O qcow2 "$RUN/boot" "$(image "$name" a)"
    fi
    disks="'format=qcow2,vdev=${letters[0]},access=rw,backendtype=qdisk,target=$(image "$name" a)'"
    disks+=", 'format=qcow2,vdev=${letters[1]},access=rw,backendtype=qdisk,target=$(image "$name" b)'"
    if [[ " $* " == *' raw '* ]]; then
        truncate -s 16M "$RUN/$name-c.raw"
        disks+=", 'format=raw,vdev=${letters[2]},access=rw,backendtype=qdisk,target=$RUN/$name-c.raw'"
    fi
    {
        printf '%s = "%s"\n' name "$name" type "$kind" on_crash destroy uuid "$(cat /proc/sys/kernel/random/uuid)"
        printf 'vcpus = 1\ndisk = [%s]\n' "$disks"
        if [ "$kind" = pv ]; then
            printf '%s = "%s"\n' kernel /lab/vmlinuz ramdisk /lab/initramfs \
                extra "console=hvc0 quiet mitigations=off $extra"
            echo 'memory = 96'
        else
            printf 'memory = 32\nboot = "c"\nvnc = 0\nnographic = 1\ndevice_model_args_hvm = [%s]\n' \
                "'-chardev', 'file,id=lab,path=$(console "$name"),append=on', '-serial', 'chardev:lab'"
        fi
    } > "$RUN/$name.cfg"
    : > "$(console "$name")"
    start "$name"
}

# start NAME: starts it once more, with the disks that it has.
start() {
    mark "$1"
    try xl create -q "$RUN/$1.cfg"
    wait_until "$1 counts" 60 has_ticked "$1"
}

image() { echo "$RUN/$1-$2.qcow2"; }
config_uuid() { sed -n 's/^uuid = "\(.*\)"/\1/p' "$RUN/$1.cfg"; }
kind() { cat "$RUN/$1.kind"; }
runs() { xl domid "$1" >/dev/null 2>&1; }
is_off() { ! runs "$1"; }
# As xl list shows it: `--p---` when paused.
flags() { xl list "$1" | awk 'NR == 2 {print $5}'; }
is_paused() { [[ $(flags "$1") == --p* ]]; }

console() {
    if [ "$(kind "$1")" = pv ]; then
        echo "/var/log/xen/console/guest-$1.log"
    else
        echo "$RUN/$1.console"
    fi
}

# mark NAME: what the guest says from now on is what `said` prints.
mark() { stat -c %s "$(console "$1")" > "$RUN/$1.mark" 2>/dev/null || echo 0 > "$RUN/$1.mark"; }
said() { tail -c "+$(($(cat "$RUN/$1.mark") + 1))" "$(console "$1")" 2>/dev/null | tr -d '\r'; }

# The counts since the mark, a line each, all in decimal.
counts() {
    local tick
    said "$1" | sed -nE 's/^(.*[^a-z])?tick ([0-9a-fx]+) token [0-9a-f]{8}$/\2/p' | while read -r tick; do
        echo $((tick))
    done
}
has_ticked() { [ -n "$(counts "$1" | tail -n 1)" ]; }
# The last count, and what is only in the guest's memory. A line that is being written does not count.
last_word() { tail -n 200 "$(console "$1")" | tr -d '\r' | sed -nE "s/^.*tick ([0-9a-fx]+) token ([0-9a-f]{8})\$/\\$2/p" | tail -n 1; }
count() { echo $(($(last_word "$1" 1))); }
token() { last_word "$1" 2; }

agrees() { ! grep -aE 'DISAGREE|FAILED|panic|Oops' "$(console "$1")"; }
is_past() { [ "$(count "$1")" -gt "$2" ]; }

# goes_on NAME: it counts on by itself, and its disks are what it wrote.
goes_on() {
    local from
    from=$(count "$1")
    wait_until "$1 goes on" 60 is_past "$1" $((from + 12))
    assert "$1 agrees with its disks" agrees "$1"
}

# went_back NAME LOW HIGH TOKEN: since the mark it goes on from a count between LOW and HIGH, with the memory of that time.
went_back() {
    local name=$1 low=$2 high=$3 token=$4 first
    wait_until "$name counts from $low to $high on" 60 first_after "$name" "$high"
    first=$(first_after "$name" "$high")
    [ "$first" -gt "$low" ] || fail "$name went on with $first, and the snapshot is later than $low"
    [ "$(token "$name")" = "$token" ] || fail "$name has another memory: $(token "$name") for $token"
    [[ $(said "$name") != *found* ]] || fail "$name was started anew"
    goes_on "$name"
}

# The first count since the mark that is not of before the revert. A line may have been cut by the save.
first_after() {
    local first
    first=$(counts "$1" | awk -v high="$2" '$1 <= high + 2 {print; exit}')
    [ -n "$first" ] && echo "$first"
}
