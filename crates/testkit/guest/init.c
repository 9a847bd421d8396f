/*
 * The whole of the test guest's user space: /init of its initramfs, run by Debian's kernel.
 *
 * It counts. Every tick it first compares what its disks and its buffer hold with what its memory says that it wrote there;
 * then it counts one further, changes some pages of the buffer, writes the new count to every disk, in the disks' order, and
 * says `tick N`. Whatever went back or forward without the rest is thus noticed at the next tick:
 *
 *     DISAGREE ...   disk and memory are not of one instant, or disks are not (at boot); it counts no further
 *     BROKEN ...     something else is wrong, which no snapshot should bring about
 *
 * Each is said again and again. At boot it says what each disk holds of an earlier boot (`FOUND vda boot 1 count 20`), or `FOUND
 * vda nothing`. The first disk is written first, so that after a power cut it is as far as the second or one count further;
 * anything else is a DISAGREE.
 *
 * Beside that, and so that file systems can be frozen, it counts in a file, and runs the agent of QEMU, if it is asked to. When
 * it says `file N`, the count N is in the file for good.
 *
 * The kernel hands on `key=value` words of its command line as our environment:
 *
 *     token=HEX   which guest this is; in every record (0)
 *     disks=N     how many disks it counts on: vda, vdb, ... (2)
 *     tick=MS     the pause between two ticks (20)
 *     fill=MIB    the size of the buffer (4)
 *     dirty=N     how many of its pages, of 4 KiB, change each tick (16)
 *     fs=DISK     which disk has an ext4 file system to count in: vdc (none)
 *     agent=1     whether the agent runs
 *
 * The power button ends it.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_DISKS = 8,
    PAGE = 4096,
    /* Places for records, one to a cluster of qcow2, so that an image goes on growing and copying for a while. */
    SLOTS = 16,
    SLOT_SIZE = 64 << 10,
    /* Pages of the buffer that are compared each tick. */
    COMPARED = 1024,
};

/* Each needs those before it. */
static const char *const MODULES[] = {
    "virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_blk",
    "virtio_console", "evdev", "button", NULL,
};

static const char MAGIC[8] = "XLSGUEST";

/* What a slot of a disk holds. `fill` depends on the rest, so that half a record is noticed. */
struct record {
    char magic[8];
    uint64_t token, boot, count, disk, check;
    uint64_t fill[PAGE / 8 - 6];
};

struct disk {
    char name[4];
    int fd;
};

static struct disk disks[MAX_DISKS];
static unsigned disk_count;
static uint64_t token, boot, count;
static int button;
static uint64_t *buffer;
static uint64_t pages, dirty, touched, compared;
static struct record block __attribute__((aligned(PAGE)));

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void cry(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

static void pause_ms(uint64_t ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static void put(const char *format, va_list values)
{
    char line[512];
    int length = vsnprintf(line, sizeof line - 1, format, values);
    if (length > (int)sizeof line - 2)
        length = sizeof line - 2;
    line[length++] = '\n';
    /* There is no place to report a console that does not work. */
    if (write(STDOUT_FILENO, line, length) < 0)
        return;
}

static void say(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    put(format, values);
    va_end(values);
}

/* Says it until the machine is ended. */
static void cry(const char *format, ...)
{
    for (;;) {
        va_list values;
        va_start(values, format);
        put(format, values);
        va_end(values);
        pause_ms(100);
    }
}

/* ---- Boot ---------------------------------------------------------------- */

static uint64_t number(const char *key, int base, uint64_t otherwise)
{
    const char *text = getenv(key);
    return text ? strtoull(text, NULL, base) : otherwise;
}

static void load_modules(void)
{
    for (unsigned at = 0; MODULES[at]; at++) {
        char path[64];
        snprintf(path, sizeof path, "/modules/%s.ko", MODULES[at]);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        /* One that this kernel has inside is not there. */
        if (fd < 0)
            continue;
        if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST)
            cry("BROKEN %s: %s", path, strerror(errno));
        close(fd);
    }
}

static void open_disks(void)
{
    for (unsigned at = 0; at < disk_count; at++) {
        char path[80];
        snprintf(disks[at].name, sizeof disks[at].name, "vd%c", 'a' + at);
        snprintf(path, sizeof path, "/dev/%s", disks[at].name);
        for (int tries = 0;; tries++) {
            disks[at].fd = open(path, O_RDWR | O_DIRECT | O_SYNC | O_CLOEXEC);
            if (disks[at].fd >= 0)
                break;
            if (tries == 500)
                cry("BROKEN %s: %s", path, strerror(errno));
            pause_ms(10);
        }
    }
}

/* ---- Disks --------------------------------------------------------------- */

/* splitmix64: any other would do. */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

static uint64_t seed(const struct record *record)
{
    return mix(mix(mix(record->token) ^ record->boot) ^ record->count) ^ record->disk;
}

static void make_record(struct record *record, uint64_t of_count, unsigned disk)
{
    memcpy(record->magic, MAGIC, sizeof record->magic);
    record->token = token;
    record->boot = boot;
    record->count = of_count;
    record->disk = disk;
    record->check = seed(record);
    for (unsigned at = 0; at < sizeof record->fill / 8; at++)
        record->fill[at] = record->check + at;
}

static int is_record(const struct record *record)
{
    return memcmp(record->magic, MAGIC, sizeof record->magic) == 0;
}

static int is_whole(const struct record *record)
{
    if (record->check != seed(record))
        return 0;
    for (unsigned at = 0; at < sizeof record->fill / 8; at++)
        if (record->fill[at] != record->check + at)
            return 0;
    return 1;
}

static off_t place(uint64_t of_count)
{
    return of_count % SLOTS * SLOT_SIZE;
}

static void read_slot(const struct disk *disk, off_t at)
{
    if (pread(disk->fd, &block, sizeof block, at) != sizeof block)
        cry("BROKEN %s cannot be read: %s", disk->name, strerror(errno));
}

/* Whether the disk holds the record of `expected`, a count of this boot; 0 is that nothing was written yet. */
static void compare_slot(unsigned at, uint64_t expected)
{
    const struct disk *disk = &disks[at];
    read_slot(disk, place(expected));
    if (expected == 0) {
        if (is_record(&block) && block.boot >= boot)
            cry("DISAGREE %s holds boot %ju count %ju, memory says that nothing was written in boot %ju", disk->name,
                (uintmax_t)block.boot, (uintmax_t)block.count, (uintmax_t)boot);
        return;
    }
    if (!is_record(&block))
        cry("DISAGREE %s holds nothing, memory says boot %ju count %ju", disk->name, (uintmax_t)boot,
            (uintmax_t)expected);
    if (block.token != token || block.boot != boot || block.count != expected || block.disk != at)
        cry("DISAGREE %s holds token %jx boot %ju count %ju disk %ju, memory says token %jx boot %ju count %ju disk %u",
            disk->name, (uintmax_t)block.token, (uintmax_t)block.boot, (uintmax_t)block.count,
            (uintmax_t)block.disk, (uintmax_t)token, (uintmax_t)boot, (uintmax_t)expected, at);
    if (!is_whole(&block))
        cry("DISAGREE %s holds half of the record of boot %ju count %ju", disk->name, (uintmax_t)boot,
            (uintmax_t)expected);
}

/* The last record that each disk should have, the place where the next one goes, and one of the others in turn. */
static void compare_disks(void)
{
    for (unsigned at = 0; at < disk_count; at++) {
        compare_slot(at, count);
        uint64_t back = 1 + count % (SLOTS - 1);
        if (count > back)
            compare_slot(at, count - back);
        /* A disk that is ahead has a newer record there than the one that goes now. */
        read_slot(&disks[at], place(count + 1));
        if (is_record(&block) && block.boot >= boot && block.count > count)
            cry("DISAGREE %s holds boot %ju count %ju, memory says boot %ju count %ju", disks[at].name,
                (uintmax_t)block.boot, (uintmax_t)block.count, (uintmax_t)boot, (uintmax_t)count);
    }
}

static void write_disks(void)
{
    for (unsigned at = 0; at < disk_count; at++) {
        make_record(&block, count, at);
        if (pwrite(disks[at].fd, &block, sizeof block, place(count)) != sizeof block)
            cry("BROKEN %s cannot be written: %s", disks[at].name, strerror(errno));
    }
}

/* What is on the disks of an earlier boot, and whether they are of one instant, as after a power cut. */
static void look_at_boot(void)
{
    struct { uint64_t token, boot, count; } last[MAX_DISKS] = {0};
    for (unsigned at = 0; at < disk_count; at++) {
        for (unsigned slot = 0; slot < SLOTS; slot++) {
            read_slot(&disks[at], (off_t)slot * SLOT_SIZE);
            if (!is_record(&block))
                continue;
            /* The one that goes on when the power is cut may be half there; QEMU does not tear a write when it is killed. */
            if (!is_whole(&block) || block.disk != at)
                cry("DISAGREE %s holds half of a record, or another disk's", disks[at].name);
            if (block.boot > last[at].boot || (block.boot == last[at].boot && block.count > last[at].count)) {
                last[at].token = block.token;
                last[at].boot = block.boot;
                last[at].count = block.count;
            }
        }
        if (last[at].boot == 0)
            say("FOUND %s nothing", disks[at].name);
        else
            say("FOUND %s boot %ju count %ju", disks[at].name, (uintmax_t)last[at].boot, (uintmax_t)last[at].count);
        if (last[at].boot > boot)
            boot = last[at].boot;
    }
    /* Disks are written in their order, so that from some disk on all are one count behind. */
    for (unsigned at = 1; at < disk_count; at++) {
        int same = last[at].boot == last[0].boot && last[at].count == last[0].count && last[at].token == last[0].token;
        int behind = last[0].count == 1 ? last[at].boot < last[0].boot
                                        : last[at].boot == last[0].boot && last[at].count + 1 == last[0].count;
        int before_is_behind = last[at - 1].boot != last[0].boot || last[at - 1].count != last[0].count;
        if (same ? before_is_behind : !behind)
            cry("DISAGREE %s holds boot %ju count %ju, vda boot %ju count %ju", disks[at].name, (uintmax_t)last[at].boot,
                (uintmax_t)last[at].count, (uintmax_t)last[0].boot, (uintmax_t)last[0].count);
    }
    boot++;
}

/* ---- The buffer ---------------------------------------------------------- */

/* How often the page was changed, as the number of all changes tells: they go round and round. */
static uint64_t changes(uint64_t page)
{
    return touched / pages + (page < touched % pages);
}

static uint64_t first_word(uint64_t page, uint64_t times)
{
    return mix(mix(token ^ page) ^ times);
}

/* The first and the last word of a page tell how often it was changed; those between never change. */
static void change_page(uint64_t page, uint64_t times)
{
    uint64_t *words = buffer + page * (PAGE / 8);
    words[0] = words[PAGE / 8 - 1] = first_word(page, times);
}

static void fill_buffer(void)
{
    buffer = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buffer == MAP_FAILED)
        cry("BROKEN no memory for fill: %s", strerror(errno));
    for (uint64_t page = 0; page < pages; page++) {
        uint64_t start = mix(~token ^ page);
        for (unsigned at = 1; at < PAGE / 8 - 1; at++)
            buffer[page * (PAGE / 8) + at] = start + at * start;
        change_page(page, 0);
    }
}

static void compare_page(uint64_t page)
{
    const uint64_t *words = buffer + page * (PAGE / 8);
    uint64_t start = mix(~token ^ page), edge = first_word(page, changes(page));
    int same = words[0] == edge && words[PAGE / 8 - 1] == edge;
    for (unsigned at = 1; at < PAGE / 8 - 1; at++)
        same &= words[at] == start + at * start;
    if (!same)
        cry("DISAGREE page %ju of the buffer is not what memory says after %ju changes", (uintmax_t)page,
            (uintmax_t)touched);
}

static void compare_buffer(void)
{
    for (uint64_t step = 0; step < COMPARED && step < pages; step++)
        compare_page(compared++ % pages);
}

static void dirty_buffer(void)
{
    for (uint64_t step = 0; step < dirty; step++) {
        uint64_t page = touched % pages;
        change_page(page, touched / pages + 1);
        touched++;
    }
}

/* ---- The power button ---------------------------------------------------- */

static void open_button(void)
{
    for (int at = 0; at < 8; at++) {
        char path[32], name[32] = "";
        snprintf(path, sizeof path, "/dev/input/event%d", at);
        button = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (button < 0)
            continue;
        /* A keyboard has such a key too. */
        ioctl(button, EVIOCGNAME(sizeof name - 1), name);
        if (strcmp(name, "Power Button") == 0)
            return;
        close(button);
    }
    cry("BROKEN there is no power button");
}

static void obey_button(void)
{
    struct input_event event;
    while (read(button, &event, sizeof event) == sizeof event)
        if (event.type == EV_KEY && event.code == KEY_POWER && event.value) {
            say("OFF");
            sync();
            reboot(RB_POWER_OFF);
        }
}

/* ---- The file ------------------------------------------------------------ */

/* Counts in a file, in a process of its own: while the file system is frozen it waits, and the rest goes on. */
static void count_in_file(uint64_t tick)
{
    const char *disk = getenv("fs");
    if (!disk)
        return;
    char device[64];
    snprintf(device, sizeof device, "/dev/%s", disk);
    mkdir("/file-system", 0755);
    if (mount(device, "/file-system", "ext4", 0, NULL) != 0)
        cry("BROKEN the file system on %s: %s", disk, strerror(errno));
    int fd = open("/file-system/count", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    uint64_t in_file = 0;
    if (fd < 0 || pread(fd, &in_file, sizeof in_file, 0) < 0)
        cry("BROKEN the file on %s: %s", disk, strerror(errno));
    say("FOUND file count %ju", (uintmax_t)in_file);
    pid_t counter = fork();
    if (counter < 0)
        cry("BROKEN fork: %s", strerror(errno));
    while (counter == 0) {
        in_file++;
        if (pwrite(fd, &in_file, sizeof in_file, 0) != sizeof in_file || fsync(fd) != 0)
            cry("BROKEN the file on %s: %s", disk, strerror(errno));
        say("file %ju", (uintmax_t)in_file);
        pause_ms(tick);
    }
    close(fd);
}

/* ---- The agent ----------------------------------------------------------- */

static const char AGENT_PORT[] = "org.qemu.guest_agent.0";

/* The device of the agent's port, once the host has told of it. */
static void find_port(char device[64])
{
    for (int tries = 0; tries < 500; tries++) {
        DIR *ports = opendir("/sys/class/virtio-ports");
        for (struct dirent *port; ports && (port = readdir(ports));) {
            char path[320], name[64] = "";
            snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", port->d_name);
            int fd = open(path, O_RDONLY | O_CLOEXEC);
            ssize_t length = fd < 0 ? -1 : read(fd, name, sizeof name - 1);
            close(fd);
            if (length > 0 && strncmp(name, AGENT_PORT, sizeof AGENT_PORT - 1) == 0) {
                snprintf(device, 64, "/dev/%.32s", port->d_name);
                closedir(ports);
                return;
            }
        }
        if (ports)
            closedir(ports);
        pause_ms(10);
    }
    cry("BROKEN there is no port %s", AGENT_PORT);
}

static void start_agent(void)
{
    if (!number("agent", 10, 0))
        return;
    mkdir("/proc", 0755);
    mkdir("/sys", 0755);
    mkdir("/run", 0755);
    if (mount("proc", "/proc", "proc", 0, NULL) != 0 || mount("sysfs", "/sys", "sysfs", 0, NULL) != 0)
        cry("BROKEN /proc and /sys: %s", strerror(errno));
    char device[64];
    find_port(device);
    pid_t agent = fork();
    if (agent < 0)
        cry("BROKEN fork: %s", strerror(errno));
    if (agent == 0) {
        execl("/agent/qemu-ga", "qemu-ga", "-m", "virtio-serial", "-p", device, "-t", "/run", NULL);
        cry("BROKEN the agent cannot be run: %s", strerror(errno));
    }
}

/* Both run for ever. */
static void watch_children(void)
{
    int status;
    if (waitpid(-1, &status, WNOHANG) > 0)
        cry("BROKEN a process of the guest ended: %#x", status);
}

/* ---- The whole ----------------------------------------------------------- */

int main(void)
{
    /* The kernel opened /dev/console for us before /dev was mounted, if its initramfs has the node; if not, there is no
     * output until then. */
    mkdir("/dev", 0755);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    int console = open("/dev/console", O_RDWR);
    for (int fd = 0; console >= 0 && fd <= 2; fd++)
        dup2(console, fd);
    token = number("token", 16, 0);
    disk_count = number("disks", 10, 2);
    if (disk_count > MAX_DISKS)
        cry("BROKEN more disks than %d", MAX_DISKS);
    pages = number("fill", 10, 4) << 8;
    dirty = pages ? number("dirty", 10, 16) : 0;
    uint64_t tick = number("tick", 10, 20);
    load_modules();
    open_disks();
    open_button();
    look_at_boot();
    fill_buffer();
    count_in_file(tick);
    start_agent();
    say("BOOT %ju", (uintmax_t)boot);
    for (;;) {
        obey_button();
        watch_children();
        compare_disks();
        compare_buffer();
        count++;
        dirty_buffer();
        write_disks();
        say("tick %ju", (uintmax_t)count);
        pause_ms(tick);
    }
}
