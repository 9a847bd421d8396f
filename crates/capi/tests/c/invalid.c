/* Structs and arrays that are not valid, each refused by every function that would otherwise lose a part of it, with a reason;
 * and the reason's own life. Domid 7 has the disks hda and xvdb and no snapshot, before and after. */
#include "check.h"
#include <limits.h>
#include <pthread.h>

#define WEB 7
#define UNKNOWN 99
#define LONG_64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define LONG_256 LONG_64 LONG_64 LONG_64 LONG_64

static void set(char **string, const char *text)
{
    free(*string);
    *string = text ? strdup(text) : NULL;
}

/* A valid snapshot of both disks, the second external. */
static void good(libxl_domain_snapshot *s)
{
    libxl_domain_snapshot_init(s);
    s->name = strdup("s1");
    s->description = strdup("");
    s->memory = strdup("");
    s->creation_time = 1;
    s->num_disks = 2;
    s->disks = (libxl_disk_snapshot *)calloc(2, sizeof(*s->disks));
    s->disks[0].device = strdup("hda");
    s->disks[0].name = strdup("s1");
    s->disks[1].device = strdup("xvdb");
    s->disks[1].name = strdup("s1");
    s->disks[1].file = strdup("/srv/overlay.qcow2");
    s->disks[1].format = LIBXL_DISK_FORMAT_QCOW2;
}

/* What is wrong with a struct, by a letter of `field` and a value. */
enum fault {
    NUM_DISKS, NO_DISKS, NAME, DESCRIPTION, MEMORY, FLAG,
    DEVICE, TAG, SECOND_FILE, SECOND_PATH, SECOND_DEVICE, FORMAT, SECOND_FORMAT
};

struct row {
    enum fault fault;
    int number;
    const char *text;
    bool json_too;          /* _to_json cannot write it either */
    const char *reason;     /* a part of it */
};

static const struct row rows[] = {
    { NUM_DISKS, -1, NULL, true, "num_disks is -1" },
    { NUM_DISKS, INT_MIN, NULL, true, "num_disks is -2147483648" },
    { NUM_DISKS, INT_MAX, NULL, true, "num_disks is 2147483647; at most 65536" },
    { NUM_DISKS, 65537, NULL, true, "num_disks is 65537; at most 65536" },
    { NO_DISKS, 1, NULL, true, "num_disks is 1, and disks is NULL" },
    { NO_DISKS, 2, NULL, true, "num_disks is 2, and disks is NULL" },
    { NO_DISKS, -7, NULL, true, "num_disks is -7" },
    { NO_DISKS, INT_MAX, NULL, true, "num_disks is 2147483647" },
    { NAME, 0, NULL, false, "because: the snapshot's name is not valid\n  because: the snapshot name is empty" },
    { NAME, 0, "", false, "the snapshot name is empty" },
    { NAME, 0, ".", false, "directory" },
    { NAME, 0, "..", false, "directory" },
    { NAME, 0, "../s1", false, "contains '/'" },
    { NAME, 0, "/s1", false, "contains '/'" },
    { NAME, 0, "-s1", false, "option" },
    { NAME, 0, "s\n1", false, "control character" },
    { NAME, 0, LONG_256, false, "has 256 bytes" },
    { NAME, 0, "s\xff", true, "name is not UTF-8" },
    { NAME, 0, "s\xed\xa0\x80", true, "name is not UTF-8" },
    { DESCRIPTION, 0, "\xc3", true, "description is not UTF-8" },
    { MEMORY, 0, "/srv/\xe4", true, "memory is not UTF-8" },
    { FLAG, 2, NULL, true, "running is neither true nor false but 2" },
    { FLAG, 255, NULL, true, "running is neither true nor false but 255" },
    { DEVICE, 0, NULL, false, "the device of disk 0 is not valid\n  because: the disk name is empty" },
    { DEVICE, 0, "", false, "the disk name is empty" },
    { DEVICE, 0, "/dev/hda", false, "contains '/'" },
    { DEVICE, 0, "../hda", false, "contains '/'" },
    { DEVICE, 0, "..", false, "directory" },
    { DEVICE, 0, "hda b", false, "is not one word" },
    { DEVICE, 0, "hda\n", false, "control character" },
    { DEVICE, 0, "-hda", false, "option" },
    { DEVICE, 0, "h\xc3\xa4", false, "is not one word" },
    { DEVICE, 0, LONG_64 "a", false, "has 65 bytes" },
    { DEVICE, 0, "hd\xff", true, "disks[0].device is not UTF-8" },
    { DEVICE, 0, "xvdb", false, "the disk xvdb is listed twice" },
    { SECOND_DEVICE, 0, "hda", false, "the disk hda is listed twice" },
    { SECOND_DEVICE, 0, "", false, "the device of disk 1 is not valid" },
    { SECOND_DEVICE, 0, "\x80", true, "disks[1].device is not UTF-8" },
    { TAG, 0, LONG_256, false, "more than 255 bytes" },
    { TAG, 0, "s\t1", false, "control character" },
    { TAG, 0, "\xff", true, "disks[0].name is not UTF-8" },
    { SECOND_FILE, 0, "/srv/\xff", true, "disks[1].file is not UTF-8" },
    { SECOND_PATH, 0, "\xff", true, "disks[1].path is not UTF-8" },
    { FORMAT, 77, NULL, false, "disks[0].format is 77" },
    { FORMAT, -1, NULL, false, "disks[0].format is -1" },
    { SECOND_FORMAT, 7, NULL, false, "disks[1].format is 7" },
    { SECOND_FORMAT, LIBXL_DISK_FORMAT_UNKNOWN, NULL, false, "has the format unknown" },
    { SECOND_FORMAT, LIBXL_DISK_FORMAT_EMPTY, NULL, false, "has the format empty" },
};

static void spoil(libxl_domain_snapshot *s, const struct row *row)
{
    switch (row->fault) {
    case NUM_DISKS: s->num_disks = row->number; break;
    case NO_DISKS:
        libxl_disk_snapshot_dispose(&s->disks[0]);
        libxl_disk_snapshot_dispose(&s->disks[1]);
        free(s->disks);
        s->disks = NULL;
        s->num_disks = row->number;
        break;
    case NAME: set(&s->name, row->text); break;
    case DESCRIPTION: set(&s->description, row->text); break;
    case MEMORY: set(&s->memory, row->text); break;
    case FLAG: memset(&s->running, row->number, sizeof(s->running)); break;
    case DEVICE: set(&s->disks[0].device, row->text); break;
    case TAG: set(&s->disks[0].name, row->text); break;
    case SECOND_FILE: set(&s->disks[1].file, row->text); break;
    case SECOND_PATH: set(&s->disks[1].path, row->text); break;
    case SECOND_DEVICE: set(&s->disks[1].device, row->text); break;
    /* No such enumerator exists, and UBSan would tell. */
    case FORMAT: memcpy(&s->disks[0].format, &row->number, sizeof(int)); break;
    case SECOND_FORMAT: memcpy(&s->disks[1].format, &row->number, sizeof(int)); break;
    }
}

/* Checks that there is a reason and that it holds `part`. */
static void reason_holds(const char *part, const char *file, int line)
{
    const char *reason = xlsnap_last_error();

    if (reason == NULL || strstr(reason, part) == NULL) {
        fprintf(stderr, "%s:%d: the reason is %s and not %s\n", file, line, reason ? reason : "NULL", part);
        exit(1);
    }
}
#define BECAUSE(part) reason_holds(part, __FILE__, __LINE__)

static void nothing_is_stored(void)
{
    int num = 7;

    CHECK(libxl_list_dom_snapshot(NULL, WEB, &num) == NULL && num == 0);
    CHECK(xlsnap_last_error() == NULL);     /* none: that is no failure */
}

static void structs_of_a_domain(void)
{
    libxl_domain_snapshot s;
    libxl_domain_snapshot copy;
    char *json;
    size_t i;

    good(&s);
    GIVES(libxl_store_dom_snapshot_conf(NULL, WEB, &s), 0);
    CHECK(xlsnap_last_error() == NULL);
    GIVES(libxl_delete_dom_snapshot_conf(NULL, WEB, &s), 0);
    libxl_domain_snapshot_dispose(&s);
    for (i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        good(&s);
        spoil(&s, &rows[i]);
        GIVES(libxl_store_dom_snapshot_conf(NULL, WEB, &s), ERROR_INVAL);
        BECAUSE(rows[i].reason);
        /* The struct is looked at first. */
        GIVES(libxl_store_dom_snapshot_conf(NULL, UNKNOWN, &s), ERROR_INVAL);
        json = libxl_domain_snapshot_to_json(NULL, &s);
        CHECK((json == NULL) == rows[i].json_too);
        if (json == NULL)
            BECAUSE(rows[i].reason);
        else
            CHECK(xlsnap_last_error() == NULL);
        free(json);
        /* A copy is as bad: it must not become a valid struct with fewer disks. */
        libxl_domain_snapshot_copy(NULL, &copy, &s);
        GIVES(libxl_store_dom_snapshot_conf(NULL, WEB, &copy), ERROR_INVAL);
        BECAUSE(rows[i].fault == NUM_DISKS ? "num_disks is" : rows[i].reason);
        libxl_domain_snapshot_dispose(&copy);
        if (rows[i].fault == NUM_DISKS)
            s.num_disks = 2;
        libxl_domain_snapshot_dispose(&s);
        /* What was disposed of is empty, again and again, and has no name. */
        libxl_domain_snapshot_dispose(&s);
        GIVES(libxl_store_dom_snapshot_conf(NULL, WEB, &s), ERROR_INVAL);
        GIVES(libxl_load_dom_snapshot_conf(NULL, WEB, &s), ERROR_INVAL);
        BECAUSE("name is NULL");
        GIVES(libxl_delete_dom_snapshot_conf(NULL, WEB, &s), ERROR_INVAL);
        BECAUSE("name is NULL");
    }
    nothing_is_stored();

    /* More than a record may have. */
    good(&s);
    free(s.description);
    s.description = (char *)malloc((4 << 20) + 1);
    memset(s.description, 'x', 4 << 20);
    s.description[4 << 20] = 0;
    GIVES(libxl_store_dom_snapshot_conf(NULL, WEB, &s), ERROR_INVAL);
    BECAUSE("at most 4194304 can be stored");
    /* Numbers that are no domain's. */
    set(&s.description, "");
    GIVES(libxl_store_dom_snapshot_conf(NULL, UINT32_MAX, &s), ERROR_DOMAIN_NOTFOUND);
    GIVES(libxl_load_dom_snapshot_conf(NULL, (uint32_t)INT_MIN, &s), ERROR_DOMAIN_NOTFOUND);
    GIVES(libxl_disk_snapshot_create(NULL, INT_MIN, s.disks, 1), ERROR_DOMAIN_NOTFOUND);
    BECAUSE("-2147483648");
    libxl_domain_snapshot_dispose(&s);
    nothing_is_stored();

    /* A NULL string is an empty one, a disk's snapshot without a name has the domain's, and calloc(0) need not be NULL. */
    good(&s);
    set(&s.description, NULL);
    set(&s.memory, NULL);
    set(&s.disks[0].name, NULL);
    GIVES(libxl_store_dom_snapshot_conf(NULL, WEB, &s), 0);
    libxl_domain_snapshot_dispose(&s);
    libxl_domain_snapshot_init(&s);
    s.name = strdup("s1");
    s.disks = (libxl_disk_snapshot *)calloc((size_t)s.num_disks, sizeof(*s.disks));
    GIVES(libxl_store_dom_snapshot_conf(NULL, WEB, &s), 0);
    GIVES(libxl_delete_dom_snapshot_conf(NULL, WEB, &s), 0);
    libxl_domain_snapshot_dispose(&s);
    nothing_is_stored();
}

/* Of the rows above those on a disk, as an array of the same two. */
static void arrays_of_disks(void)
{
    int (*functions[])(libxl_ctx *, int, libxl_disk_snapshot *, int) = {
        libxl_disk_snapshot_create, libxl_disk_snapshot_delete, libxl_disk_snapshot_revert,
    };
    static const int counts[] = { -1, INT_MIN, INT_MAX, 65537 };
    libxl_domain_snapshot s;
    size_t f;
    size_t i;

    for (f = 0; f < sizeof(functions) / sizeof(*functions); f++) {
        for (i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
            good(&s);
            GIVES(functions[f](NULL, WEB, s.disks, counts[i]), ERROR_INVAL);
            BECAUSE("num is ");
            GIVES(functions[f](NULL, WEB, NULL, counts[i]), ERROR_INVAL);
            BECAUSE("num is ");
            libxl_domain_snapshot_dispose(&s);
        }
        GIVES(functions[f](NULL, WEB, NULL, 1), ERROR_INVAL);
        BECAUSE("num is 1, and snapshot is NULL\n  try: ");
        for (i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
            if (rows[i].fault < DEVICE || rows[i].fault == TAG)
                continue;
            good(&s);
            spoil(&s, &rows[i]);
            /* An external one may have no format yet, and is of no use for the two others. */
            if (rows[i].fault == SECOND_FORMAT && rows[i].number == LIBXL_DISK_FORMAT_UNKNOWN) {
                libxl_domain_snapshot_dispose(&s);
                continue;
            }
            GIVES(functions[f](NULL, WEB, s.disks, 2), ERROR_INVAL);
            CHECK(xlsnap_last_error() != NULL);
            GIVES(functions[f](NULL, UNKNOWN, s.disks, 2), ERROR_INVAL);
            libxl_domain_snapshot_dispose(&s);
        }
        /* Internal ones need a name of their own: no domain's snapshot gives them one. */
        for (i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
            if (rows[i].fault != NAME)
                continue;
            good(&s);
            set(&s.disks[0].name, rows[i].text);
            GIVES(functions[f](NULL, WEB, s.disks, 1), ERROR_INVAL);
            BECAUSE(rows[i].json_too ? "snapshot[0].name is not UTF-8" : "disk hda: the name of its snapshot is not valid");
            libxl_domain_snapshot_dispose(&s);
        }
        /* Two external ones into one file. */
        good(&s);
        set(&s.disks[0].file, "/srv/overlay.qcow2");
        GIVES(functions[f](NULL, WEB, s.disks, 2), ERROR_INVAL);
        BECAUSE("disk xvdb: the file /srv/overlay.qcow2 is named twice");
        /* What was disposed of names no disk. */
        libxl_disk_snapshot_dispose(&s.disks[0]);
        libxl_disk_snapshot_dispose(&s.disks[0]);
        GIVES(functions[f](NULL, WEB, s.disks, 1), ERROR_INVAL);
        BECAUSE("the device of struct 0 is no disk's name\n  because: the disk name is empty");
        libxl_domain_snapshot_dispose(&s);
    }
}

/* An external one of no format becomes qcow2, also in the caller's struct: what was created can be stored. */
static void created_then_stored(const char *directory)
{
    libxl_domain_snapshot s;
    char file[512];

    snprintf(file, sizeof(file), "%s/of-no-format.qcow2", directory);
    good(&s);
    set(&s.disks[1].file, file);
    s.disks[1].format = LIBXL_DISK_FORMAT_UNKNOWN;
    GIVES(libxl_disk_snapshot_create(NULL, WEB, s.disks, 2), 0);
    CHECK(s.disks[0].format == LIBXL_DISK_FORMAT_UNKNOWN && s.disks[1].format == LIBXL_DISK_FORMAT_QCOW2);
    GIVES(libxl_store_dom_snapshot_conf(NULL, WEB, &s), 0);
    GIVES(libxl_delete_dom_snapshot_conf(NULL, WEB, &s), 0);
    GIVES(libxl_disk_snapshot_delete(NULL, WEB, s.disks, 1), 0);
    libxl_domain_snapshot_dispose(&s);
}

static void texts(void)
{
    libxl_domain_snapshot s;
    libxl_disk_snapshot d;
    size_t size = 20 + 3 * 70000;
    char *text = (char *)malloc(size);
    size_t i;

    GIVES(libxl_domain_snapshot_from_json(NULL, NULL, "{}"), ERROR_INVAL);
    BECAUSE("there is no struct");
    GIVES(libxl_domain_snapshot_from_json(NULL, &s, NULL), ERROR_INVAL);
    BECAUSE("there is no text");
    GIVES(libxl_disk_snapshot_from_json(NULL, &d, "{\"format\": 7"), ERROR_FAIL);
    BECAUSE("the text is not read as libxl-json\n  because: line 1, column 13: ");
    GIVES(libxl_disk_snapshot_from_json(NULL, &d, "{\"device\": \"hda\"}"), 0);
    CHECK(xlsnap_last_error() == NULL);
    libxl_disk_snapshot_dispose(&d);
    /* As many disks as no record has. */
    strcpy(text, "{\"disks\":[{}");
    for (i = strlen(text); i + 6 < size; i += 3)
        strcpy(text + i, ",{}");
    strcat(text, "]}");
    GIVES(libxl_domain_snapshot_from_json(NULL, &s, text), ERROR_FAIL);
    BECAUSE("at most 65536");
    CHECK(s.num_disks == 0 && s.disks == NULL);
    free(text);
    CHECK(libxl_domain_snapshot_to_json(NULL, NULL) == NULL);
    BECAUSE("there is no struct");
}

static void *in_another_thread(void *of_the_first)
{
    CHECK(xlsnap_last_error() == NULL);
    GIVES(libxl_store_dom_snapshot_conf(NULL, WEB, NULL), ERROR_INVAL);
    CHECK(xlsnap_last_error() != NULL && xlsnap_last_error() != of_the_first);
    return NULL;
}

static void the_life_of_a_reason(void)
{
    libxl_domain_snapshot s;
    pthread_t thread;
    const char *reason;
    char *json;
    int num;

    /* A chain: what, on which domain; why. */
    libxl_domain_snapshot_init(&s);
    s.name = strdup("none");
    GIVES(libxl_load_dom_snapshot_conf(NULL, WEB, &s), ERROR_NOTFOUND);
    BECAUSE("domain web: snapshot none cannot be loaded\n  because: ");
    reason = xlsnap_last_error();
    CHECK(reason[strlen(reason) - 1] != '\n');
    /* Reading it and emptying structs changes nothing. */
    libxl_domain_snapshot_dispose(&s);
    libxl_domain_snapshot_init(&s);
    libxl_domain_snapshot_copy(NULL, &s, &s);
    libxl_domain_snapshot_list_free(NULL, 0);
    CHECK(xlsnap_last_error() == reason);
    BECAUSE("domain web: snapshot none cannot be loaded");
    CHECK(pthread_create(&thread, NULL, in_another_thread, (void *)reason) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(xlsnap_last_error() == reason);
    BECAUSE("domain web: snapshot none cannot be loaded");
    /* The xlsnap_ functions have an error object of their own. */
    CHECK(xlsnap_host_open(NULL, NULL, NULL) != XLSNAP_STATUS_DONE);
    CHECK(xlsnap_last_error() == reason);
    /* It may be an argument of the next call, which ends it. */
    GIVES(libxl_domain_snapshot_from_json(NULL, &s, reason), ERROR_FAIL);
    BECAUSE("the text is not read as libxl-json");
    CHECK(libxl_list_dom_snapshot(NULL, UNKNOWN, &num) == NULL);
    BECAUSE("99");
    CHECK(libxl_list_dom_snapshot(NULL, WEB, NULL) == NULL);
    BECAUSE("a NULL pointer");
    json = libxl_domain_snapshot_to_json(NULL, &s);
    CHECK(json != NULL && xlsnap_last_error() == NULL);
    free(json);
    /* What a terminal would obey does not come through. */
    s.name = strdup("\x1b[2J/");
    GIVES(libxl_load_dom_snapshot_conf(NULL, WEB, &s), ERROR_INVAL);
    CHECK(strchr(xlsnap_last_error(), '\x1b') == NULL);
    libxl_domain_snapshot_dispose(&s);
    nothing_is_stored();
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    CHECK(xlsnap_last_error() == NULL);
    structs_of_a_domain();
    arrays_of_disks();
    created_then_stored(argv[1]);
    texts();
    the_life_of_a_reason();
    return 0;
}
