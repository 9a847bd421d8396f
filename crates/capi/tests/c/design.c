/* The design's seven functions, each with every failure that it can have, on two real images of a domain that is off.
 *
 * Argument: the directory of the images. Domid 7 has the disks hda and xvdb; both are
 * writable. Domid 8 has a raw disk. No other domain is there. */
#include "check.h"
#include <signal.h>

#define WEB 7
#define RAW 8
#define NO_DOMAIN 99

static void disk_of(libxl_disk_snapshot *disk, const char *device, const char *name)
{
    libxl_disk_snapshot_init(disk);
    disk->device = device ? strdup(device) : NULL;
    disk->name = name ? strdup(name) : NULL;
}

static void configuration(void)
{
    libxl_domain_snapshot s;
    libxl_domain_snapshot *list;
    char name[] = "s1";
    int num;

    /* Nothing is there yet. */
    num = 7;
    CHECK(libxl_list_dom_snapshot(NULL, WEB, &num) == NULL && num == 0);
    num = 7;
    CHECK(libxl_list_dom_snapshot(NULL, NO_DOMAIN, &num) == NULL && num == 0);
    CHECK(libxl_list_dom_snapshot(NULL, WEB, NULL) == NULL);
    libxl_domain_snapshot_init(&s);
    GIVES(libxl_load_dom_snapshot_conf(NULL, WEB, NULL), ERROR_INVAL);
    GIVES(libxl_store_dom_snapshot_conf(NULL, WEB, NULL), ERROR_INVAL);
    GIVES(libxl_delete_dom_snapshot_conf(NULL, WEB, NULL), ERROR_INVAL);
    GIVES(libxl_load_dom_snapshot_conf(NULL, WEB, &s), ERROR_INVAL);
    GIVES(libxl_store_dom_snapshot_conf(NULL, WEB, &s), ERROR_INVAL);
    GIVES(libxl_delete_dom_snapshot_conf(NULL, WEB, &s), ERROR_INVAL);
    s.name = strdup("");
    GIVES(libxl_store_dom_snapshot_conf(NULL, WEB, &s), ERROR_INVAL);
    GIVES(libxl_load_dom_snapshot_conf(NULL, WEB, &s), ERROR_INVAL);
    free(s.name);
    s.name = strdup("../escape");
    GIVES(libxl_store_dom_snapshot_conf(NULL, WEB, &s), ERROR_INVAL);
    GIVES(libxl_delete_dom_snapshot_conf(NULL, WEB, &s), ERROR_INVAL);
    free(s.name);
    s.name = strdup("\xff");
    GIVES(libxl_store_dom_snapshot_conf(NULL, WEB, &s), ERROR_INVAL);
    GIVES(libxl_load_dom_snapshot_conf(NULL, WEB, &s), ERROR_INVAL);
    free(s.name);
    s.name = strdup("s1");
    GIVES(libxl_load_dom_snapshot_conf(NULL, WEB, &s), ERROR_NOTFOUND);
    GIVES(libxl_delete_dom_snapshot_conf(NULL, WEB, &s), ERROR_NOTFOUND);
    GIVES(libxl_load_dom_snapshot_conf(NULL, NO_DOMAIN, &s), ERROR_DOMAIN_NOTFOUND);
    GIVES(libxl_store_dom_snapshot_conf(NULL, NO_DOMAIN, &s), ERROR_DOMAIN_NOTFOUND);
    GIVES(libxl_delete_dom_snapshot_conf(NULL, NO_DOMAIN, &s), ERROR_DOMAIN_NOTFOUND);

    /* Stored, replaced, loaded. */
    s.description = strdup("first");
    s.memory = strdup("");
    s.creation_time = 2;
    s.running = true;
    s.num_disks = 1;
    s.disks = (libxl_disk_snapshot *)calloc(1, sizeof(*s.disks));
    disk_of(&s.disks[0], "hda", "s1");
    s.disks[0].path = strdup("/somewhere");
    GIVES(libxl_store_dom_snapshot_conf(NULL, WEB, &s), 0);
    free(s.description);
    s.description = strdup("second");
    GIVES(libxl_store_dom_snapshot_conf(NULL, WEB, &s), 0);
    libxl_domain_snapshot_dispose(&s);

    s.name = name;
    GIVES(libxl_load_dom_snapshot_conf(NULL, WEB, &s), 0);
    CHECK(s.name == name && same(s.description, "second") && same(s.memory, "") && s.creation_time == 2);
    CHECK(s.running && !s.paused && s.num_disks == 1 && same(s.disks[0].device, "hda"));
    CHECK(same(s.disks[0].path, ""));
    /* Loaded over itself: nothing is lost, nothing leaks. */
    GIVES(libxl_load_dom_snapshot_conf(NULL, WEB, &s), 0);
    CHECK(same(s.description, "second") && s.num_disks == 1);
    s.name = strdup("s0");
    s.creation_time = 1;
    GIVES(libxl_store_dom_snapshot_conf(NULL, WEB, &s), 0);

    list = libxl_list_dom_snapshot(NULL, WEB, &num);
    CHECK(list && num == 2 && same(list[0].name, "s0") && same(list[1].name, "s1"));
    CHECK(same(list[1].disks[0].name, "s1"));
    libxl_domain_snapshot_list_free(list, num);
    GIVES(libxl_delete_dom_snapshot_conf(NULL, WEB, &s), 0);
    GIVES(libxl_delete_dom_snapshot_conf(NULL, WEB, &s), ERROR_NOTFOUND);
    libxl_domain_snapshot_dispose(&s);

    /* A malformed file is there: see the caller. It hides no other. */
    s.name = strdup("broken");
    CHECK(libxl_load_dom_snapshot_conf(NULL, WEB, &s) < 0);
    CHECK(same(s.name, "broken") && s.description == NULL);
    list = libxl_list_dom_snapshot(NULL, WEB, &num);
    CHECK(list && num == 1 && same(list[0].name, "s1"));
    GIVES(libxl_delete_dom_snapshot_conf(NULL, WEB, &list[0]), 0);
    libxl_domain_snapshot_list_free(list, num);
    GIVES(libxl_delete_dom_snapshot_conf(NULL, WEB, &s), 0);
    CHECK(libxl_list_dom_snapshot(NULL, WEB, &num) == NULL && num == 0);
    libxl_domain_snapshot_dispose(&s);
}

static void bad_arguments(void)
{
    libxl_disk_snapshot two[2];
    int (*functions[])(libxl_ctx *, int, libxl_disk_snapshot *, int) = {
        libxl_disk_snapshot_create, libxl_disk_snapshot_delete, libxl_disk_snapshot_revert,
    };
    size_t i;

    for (i = 0; i < sizeof(functions) / sizeof(*functions); i++) {
        GIVES(functions[i](NULL, WEB, NULL, 1), ERROR_INVAL);
        GIVES(functions[i](NULL, WEB, NULL, -1), ERROR_INVAL);
        GIVES(functions[i](NULL, WEB, NULL, 0), 0);
        GIVES(functions[i](NULL, NO_DOMAIN, NULL, 0), ERROR_DOMAIN_NOTFOUND);
        disk_of(&two[0], "hda", "a");
        disk_of(&two[1], "hda", "a");
        GIVES(functions[i](NULL, WEB, two, -1), ERROR_INVAL);
        GIVES(functions[i](NULL, -1, two, 1), ERROR_DOMAIN_NOTFOUND);
        GIVES(functions[i](NULL, NO_DOMAIN, two, 1), ERROR_DOMAIN_NOTFOUND);
        GIVES(functions[i](NULL, WEB, two, 2), ERROR_INVAL);            /* one disk twice */
        two[1].format = (libxl_disk_format)77;
        GIVES(functions[i](NULL, WEB, &two[1], 1), ERROR_INVAL);
        libxl_disk_snapshot_dispose(&two[1]);
        disk_of(&two[1], "xvdz", "a");
        GIVES(functions[i](NULL, WEB, &two[1], 1), ERROR_NOTFOUND);
        libxl_disk_snapshot_dispose(&two[1]);
        disk_of(&two[1], NULL, "a");
        GIVES(functions[i](NULL, WEB, &two[1], 1), ERROR_INVAL);
        libxl_disk_snapshot_dispose(&two[1]);
        disk_of(&two[1], "hd\xff", "a");
        GIVES(functions[i](NULL, WEB, &two[1], 1), ERROR_INVAL);
        libxl_disk_snapshot_dispose(&two[1]);
        disk_of(&two[1], "hda", NULL);
        GIVES(functions[i](NULL, WEB, &two[1], 1), ERROR_INVAL);
        two[1].file = strdup("relative.qcow2");
        GIVES(functions[i](NULL, WEB, &two[1], 1), ERROR_INVAL);
        libxl_disk_snapshot_dispose(&two[1]);
        libxl_disk_snapshot_dispose(&two[0]);
    }
}

static void disks(const char *directory)
{
    libxl_disk_snapshot two[2];
    libxl_disk_snapshot one;
    char file[512];

    disk_of(&two[0], "hda", "t1");
    disk_of(&two[1], "xvdb", "t1");
    GIVES(libxl_disk_snapshot_revert(NULL, WEB, two, 2), ERROR_NOTFOUND);
    GIVES(libxl_disk_snapshot_delete(NULL, WEB, two, 2), ERROR_NOTFOUND);
    GIVES(libxl_disk_snapshot_create(NULL, WEB, two, 2), 0);
    GIVES(libxl_disk_snapshot_create(NULL, WEB, two, 2), ERROR_FAIL);    /* the name is there */
    GIVES(libxl_disk_snapshot_revert(NULL, WEB, two, 2), 0);

    /* Of all or of none: xvdb has t2 already, so hda must not get it. */
    disk_of(&one, "xvdb", "t2");
    GIVES(libxl_disk_snapshot_create(NULL, WEB, &one, 1), 0);
    libxl_disk_snapshot_dispose(&one);
    free(two[0].name);
    free(two[1].name);
    two[0].name = strdup("t2");
    two[1].name = strdup("t2");
    GIVES(libxl_disk_snapshot_create(NULL, WEB, two, 2), ERROR_FAIL);
    GIVES(libxl_disk_snapshot_revert(NULL, WEB, two, 2), ERROR_NOTFOUND);
    /* It stops at the first failure: hda has none, so xvdb keeps its own. */
    GIVES(libxl_disk_snapshot_delete(NULL, WEB, two, 2), ERROR_NOTFOUND);
    GIVES(libxl_disk_snapshot_delete(NULL, WEB, &two[1], 1), 0);
    GIVES(libxl_disk_snapshot_delete(NULL, WEB, &two[1], 1), ERROR_NOTFOUND);
    free(two[0].name);
    free(two[1].name);
    two[0].name = strdup("t1");
    two[1].name = strdup("t1");
    GIVES(libxl_disk_snapshot_delete(NULL, WEB, two, 2), 0);

    /* A raw disk can take none inside. */
    disk_of(&one, "hda", "t1");
    GIVES(libxl_disk_snapshot_create(NULL, RAW, &one, 1), ERROR_FAIL);
    libxl_disk_snapshot_dispose(&one);

    /* External and internal at once. */
    snprintf(file, sizeof(file), "%s/overlay.qcow2", directory);
    two[1].file = strdup(file);
    two[1].format = LIBXL_DISK_FORMAT_RAW;
    GIVES(libxl_disk_snapshot_create(NULL, WEB, two, 2), ERROR_INVAL);
    two[1].format = LIBXL_DISK_FORMAT_QCOW2;
    GIVES(libxl_disk_snapshot_create(NULL, WEB, two, 2), 0);
    GIVES(libxl_disk_snapshot_create(NULL, WEB, &two[1], 1), ERROR_FAIL);    /* the file is there */
    GIVES(libxl_disk_snapshot_delete(NULL, WEB, &two[1], 1), ERROR_INVAL);   /* external */
    GIVES(libxl_disk_snapshot_revert(NULL, WEB, &two[1], 1), ERROR_INVAL);
    GIVES(libxl_disk_snapshot_delete(NULL, WEB, &two[0], 1), 0);
    /* A file that cannot be made leaves nothing behind on the other disk. */
    free(two[1].file);
    two[1].file = strdup("/no/such/directory/overlay.qcow2");
    CHECK(libxl_disk_snapshot_create(NULL, WEB, two, 2) < 0);
    GIVES(libxl_disk_snapshot_delete(NULL, WEB, &two[0], 1), ERROR_NOTFOUND);
    libxl_disk_snapshot_dispose(&two[0]);
    libxl_disk_snapshot_dispose(&two[1]);
}

int main(int argc, char **argv)
{
    struct sigaction before[65];
    struct sigaction after;
    int i;

    CHECK(argc == 2);
    memset(before, 0, sizeof(before));
    for (i = 1; i < 65; i++)
        sigaction(i, NULL, &before[i]);
    configuration();
    bad_arguments();
    disks(argv[1]);
    /* No signal handler was installed, not even for the children that were run. Valgrind knows no pidfd_open(2), and without
     * that there is no other way than SIGCHLD's to wait for them. */
    for (i = 1; i < 32; i++) {
        if (i == SIGCHLD && getenv("UNDER_VALGRIND"))
            continue;
        memset(&after, 0, sizeof(after));
        sigaction(i, NULL, &after);
        if (after.sa_handler != before[i].sa_handler) {
            fprintf(stderr, "signal %d has another handler than before\n", i);
            return 1;
        }
    }
    return 0;
}
