/* Snapshots by the functions of libxl's snapshot design: disks and configuration file, each by its own call.
 *
 *   design create DOMID SNAPSHOT DISK...
 *   design list DOMID
 *   design revert|delete DOMID SNAPSHOT
 *
 * To build it: cc design.c $(pkg-config --cflags --libs xlsnap) -o design
 */
#include <libxl_snapshot.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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
    rc = libxl_disk_snapshot_create(NULL, domid, snapshot.disks, num);
    if (rc == 0) {
        rc = libxl_store_dom_snapshot_conf(NULL, (uint32_t)domid, &snapshot);
        if (rc != 0)    /* a snapshot that nobody knows of is of no use */
            libxl_disk_snapshot_delete(NULL, domid, snapshot.disks, num);
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
    rc = libxl_load_dom_snapshot_conf(NULL, (uint32_t)domid, &snapshot);
    if (rc == 0 && revert)
        rc = libxl_disk_snapshot_revert(NULL, domid, snapshot.disks, snapshot.num_disks);
    else if (rc == 0)
        rc = libxl_disk_snapshot_delete(NULL, domid, snapshot.disks, snapshot.num_disks);
    if (rc == 0 && !revert)
        rc = libxl_delete_dom_snapshot_conf(NULL, (uint32_t)domid, &snapshot);
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
    if (rc != 0)
        fprintf(stderr, "failed: %d\n", rc);
    return rc != 0;
}
