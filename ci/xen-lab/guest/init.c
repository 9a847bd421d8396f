// The Linux guest of the lab: the kernel's only program. It counts, writes each count to both disks, remembers what it
// wrote, and looks again and again whether disks and memory agree. After a revert they do only if all of them came back to
// the same instant.
//
// What it says on the console, a line each:
//
//   found a=N b=M        at the start: the last count on each disk, 0 for none
//   tick N token T       count N is on both disks; T is random, and only in memory and in what is written
//   DISAGREE ...         disks and memory, or the two disks, are not of one instant
//   FAILED ...           a disk does not work
//
// With `load` on the kernel's command line it writes to its memory all the time, instead of now and then.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { DISKS = 2, RECORDS = 64, PAGES = 4096, PAGE_WORDS = 512 };

struct record {
    char magic[8];
    uint32_t token;
    uint32_t unused;
    uint64_t count;
    char rest[488];
};

static const char MAGIC[8] = "xen-lab";
static const off_t AT = 1 << 20;

static int disks[DISKS];
// What is on each disk, at AT: the last RECORDS records, each at its count modulo RECORDS.
static struct record written[RECORDS] __attribute__((aligned(4096)));
static struct record seen[RECORDS] __attribute__((aligned(4096)));
// Pages that are full of their number and their age.
static uint64_t memory[PAGES][PAGE_WORDS] __attribute__((aligned(4096)));
static uint64_t ages[PAGES];

static void rest(long milliseconds)
{
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static void load_driver(void)
{
    int file = open("/xen-blkfront.ko", O_RDONLY | O_CLOEXEC);
    if (syscall(SYS_finit_module, file, "", 0) != 0)
        printf("FAILED xen-blkfront: %s\n", strerror(errno));
    close(file);
}

static int open_disk(const char *name)
{
    for (;;) {
        // Past the page cache, so that what is read is what the disk holds.
        int file = open(name, O_RDWR | O_DIRECT | O_DSYNC | O_CLOEXEC);
        if (file >= 0)
            return file;
        rest(100);
    }
}

static int read_disk(int disk)
{
    if (pread(disks[disk], seen, sizeof seen, AT) == sizeof seen)
        return 1;
    printf("FAILED to read disk %c: %s\n", 'a' + disk, strerror(errno));
    return 0;
}

// Until it is written: a full disk in dom0 is an error here, and may pass.
static void write_disk(int disk, const void *data, size_t size, off_t at)
{
    while (pwrite(disks[disk], data, size, AT + at) != (ssize_t)size) {
        printf("FAILED to write disk %c: %s\n", 'a' + disk, strerror(errno));
        rest(500);
    }
}

// The last record of what was read, or NULL.
static const struct record *last_seen(void)
{
    const struct record *last = NULL;
    for (int i = 0; i < RECORDS; i++)
        if (memcmp(seen[i].magic, MAGIC, sizeof MAGIC) == 0 && (!last || seen[i].count > last->count))
            last = &seen[i];
    return last;
}

// Disk a is always written first: disks of one instant have the same count, or a is one ahead.
static void find(void)
{
    struct record last[DISKS] = {0};
    for (int disk = 0; disk < DISKS; disk++)
        if (read_disk(disk) && last_seen())
            last[disk] = *last_seen();
    uint64_t a = last[0].count, b = last[1].count;
    printf("found a=%lu b=%lu\n", a, b);
    if ((a != b && a != b + 1) || (b && last[0].token != last[1].token))
        printf("DISAGREE at the start: a=%lu of %08x, b=%lu of %08x\n", a, last[0].token, b, last[1].token);
}

static void compare_disks(uint64_t count)
{
    for (int disk = 0; disk < DISKS; disk++)
        if (read_disk(disk) && memcmp(seen, written, sizeof seen) != 0) {
            const struct record *last = last_seen();
            printf("DISAGREE disk %c: memory has %lu, and it %lu\n", 'a' + disk, count, last ? last->count : 0);
        }
}

static void write_record(uint32_t token, uint64_t count)
{
    struct record *record = &written[count % RECORDS];
    memcpy(record->magic, MAGIC, sizeof MAGIC);
    record->token = token;
    record->count = count;
    for (int disk = 0; disk < DISKS; disk++)
        write_disk(disk, record, sizeof *record, (char *)record - (char *)written);
}

// Compares some pages of memory with what was last written to them, and writes something else.
static void use_memory(uint64_t count, int pages)
{
    static int page;
    for (int i = 0; i < pages; i++, page = (page + 1) % PAGES) {
        for (int word = 0; word < PAGE_WORDS; word++)
            if (memory[page][word] != (ages[page] ? ages[page] * PAGES + page : 0)) {
                printf("DISAGREE memory: page %d at %lu\n", page, count);
                break;
            }
        ages[page] = count;
        for (int word = 0; word < PAGE_WORDS; word++)
            memory[page][word] = count * PAGES + page;
    }
}

static int told(const char *word)
{
    char line[1024] = "";
    mkdir("/proc", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    int file = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
    if (read(file, line, sizeof line - 1) < 0)
        printf("FAILED to read the command line: %s\n", strerror(errno));
    close(file);
    return strstr(line, word) != NULL;
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    int load = told(" load");
    load_driver();
    disks[0] = open_disk("/dev/xvda");
    disks[1] = open_disk("/dev/xvdb");
    find();

    uint32_t token;
    if (getrandom(&token, sizeof token, 0) != sizeof token)
        printf("FAILED to get a token: %s\n", strerror(errno));
    for (int disk = 0; disk < DISKS; disk++)
        write_disk(disk, written, sizeof written, 0);
    for (uint64_t count = 1;; count++) {
        compare_disks(count - 1);
        write_record(token, count);
        use_memory(count, load ? PAGES / 4 : 16);
        printf("tick %lu token %08x\n", count, token);
        if (!load)
            rest(200);
    }
}
