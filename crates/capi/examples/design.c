/* Snapshots by the functions of libxl's snapshot design: disks and configuration file, each by its own call.
 *
 *   design create DOMID SNAPSHOT DISK...
 *   design list DOMID
 *   design revert|delete DOMID SNAPSHOT
 *
 * To build it: cc -std=c99 design.c $(pkg-config --cflags --libs xlsnap) -o design
 */
/* strdup is POSIX's and in no C before C23, so that cc -std=c99 declares it only if asked. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include <libxl_snapshot.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Tells why the call that returned `rc` failed, if it did. It comes directly after the call: the next one has its own reason. */
static int tell(const char *what, int rc)
{
    const char *reason = xlsnap_last_error();

    if (rc != 0)
        fprintf(stderr, "%s: error %d: %s\n", what, rc, reason ? reason : "no reason is known");
    return rc;
}

static int create(int domid, const char *name, char **disks, int num)
{
    libxl_domain_snapshot snapshot;
    int rc;
    int i;

    libxl_domain_snapshot_init(&snapshot);
    snapshot.name = strdup(name);
    snapshot.description = strdup("");
    snapshot.memory = strdup("");
    snapshot.creation_time = (uint64_t)time(NULL);
    snapshot.disks = (libxl_disk_snapshot *)calloc((size_t)num, sizeof(*snapshot.disks));
    snapshot.num_disks = num;
    for (i = 0; i < num; i++) {
        libxl_disk_snapshot_init(&snapshot.disks[i]);
        snapshot.disks[i].device = strdup(disks[i]);
        snapshot.disks[i].name = strdup(name);
        snapshot.disks[i].file = strdup("");
        snapshot.disks[i].path = strdup("");
    }
    rc = tell("create", libxl_disk_snapshot_create(NULL, domid, snapshot.disks, num));
    if (rc == 0) {
        rc = tell("store", libxl_store_dom_snapshot_conf(NULL, (uint32_t)domid, &snapshot));
        if (rc != 0)    /* a snapshot without a record is of no use */
            tell("delete", libxl_disk_snapshot_delete(NULL, domid, snapshot.disks, num));
    }
    libxl_domain_snapshot_dispose(&snapshot);
    return rc;
}

static int list(int domid)
{
    int num;
    int i;
    int disk;
    libxl_domain_snapshot *snapshots = libxl_list_dom_snapshot(NULL, (uint32_t)domid, &num);

    /* NULL is no snapshot, or a failure, which has a reason. */
    if (snapshots == NULL && xlsnap_last_error() != NULL)
        return tell("list", ERROR_FAIL);
    for (i = 0; i < num; i++) {
        printf("%s:", snapshots[i].name);
        for (disk = 0; disk < snapshots[i].num_disks; disk++)
            printf(" %s", snapshots[i].disks[disk].device);
        printf("\n");
    }
    libxl_domain_snapshot_list_free(snapshots, num);
    return 0;
}

static int revert_or_delete(int domid, const char *name, bool revert)
{
    libxl_domain_snapshot snapshot;
    int rc;

    libxl_domain_snapshot_init(&snapshot);
    snapshot.name = strdup(name);
    rc = tell("load", libxl_load_dom_snapshot_conf(NULL, (uint32_t)domid, &snapshot));
    if (rc == 0 && revert)
        rc = tell("revert", libxl_disk_snapshot_revert(NULL, domid, snapshot.disks, snapshot.num_disks));
    else if (rc == 0)
        rc = tell("delete", libxl_disk_snapshot_delete(NULL, domid, snapshot.disks, snapshot.num_disks));
    if (rc == 0 && !revert)
        rc = tell("delete", libxl_delete_dom_snapshot_conf(NULL, (uint32_t)domid, &snapshot));
    libxl_domain_snapshot_dispose(&snapshot);
    return rc;
}

int main(int argc, char **argv)
{
    int domid = argc > 2 ? atoi(argv[2]) : -1;
    int rc = ERROR_INVAL;

    if (argc > 4 && strcmp(argv[1], "create") == 0)
        rc = create(domid, argv[3], argv + 4, argc - 4);
    else if (argc == 3 && strcmp(argv[1], "list") == 0)
        rc = list(domid);
    else if (argc == 4 && strcmp(argv[1], "revert") == 0)
        rc = revert_or_delete(domid, argv[3], true);
    else if (argc == 4 && strcmp(argv[1], "delete") == 0)
        rc = revert_or_delete(domid, argv[3], false);
    else
        fprintf(stderr, "usage: design create DOMID SNAPSHOT DISK... | list DOMID | revert|delete DOMID SNAPSHOT\n");
    return rc != 0;
}
