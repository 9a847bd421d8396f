/* What a C compiler says of the structs, a number a line, in the order of tests/all/layout.rs. */
#include <libxl_snapshot.h>
#include <stdio.h>

#define P(n) printf("%u\n", (unsigned)(n))
#define DISK(f) P(offsetof(libxl_disk_snapshot, f))
#define DOMAIN(f) P(offsetof(libxl_domain_snapshot, f))

typedef struct { char c; libxl_disk_snapshot t; } disk_after_char;
typedef struct { char c; libxl_domain_snapshot t; } domain_after_char;

int main(void)
{
    P(sizeof(libxl_disk_snapshot)); P(offsetof(disk_after_char, t));
    DISK(device); DISK(name); DISK(file); DISK(format); DISK(path);
    P(sizeof(libxl_domain_snapshot)); P(offsetof(domain_after_char, t));
    DOMAIN(name); DOMAIN(description); DOMAIN(creation_time); DOMAIN(memory);
    DOMAIN(running); DOMAIN(blocked); DOMAIN(paused); DOMAIN(shutdown); DOMAIN(dying);
    DOMAIN(num_disks); DOMAIN(disks);
    return 0;
}
