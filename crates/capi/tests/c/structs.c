/* The two structs: init, dispose, copy and JSON, with every pointer that may be NULL being NULL once. */
#include "check.h"

static void nothing_of_nothing(void)
{
    libxl_disk_snapshot disk;
    libxl_domain_snapshot snapshot;
    memset(&disk, 0xff, sizeof(disk));
    memset(&snapshot, 0xff, sizeof(snapshot));

    libxl_disk_snapshot_init(NULL);
    libxl_domain_snapshot_init(NULL);
    libxl_disk_snapshot_dispose(NULL);
    libxl_domain_snapshot_dispose(NULL);
    libxl_disk_snapshot_copy(NULL, NULL, NULL);
    libxl_domain_snapshot_copy(NULL, NULL, NULL);
    libxl_domain_snapshot_list_free(NULL, 0);
    libxl_domain_snapshot_list_free(NULL, 7);
    CHECK(libxl_disk_snapshot_to_json(NULL, NULL) == NULL);
    CHECK(libxl_domain_snapshot_to_json(NULL, NULL) == NULL);
    GIVES(libxl_disk_snapshot_from_json(NULL, NULL, "{}"), ERROR_INVAL);
    GIVES(libxl_domain_snapshot_from_json(NULL, NULL, "{}"), ERROR_INVAL);

    libxl_disk_snapshot_init(&disk);
    CHECK(!disk.device && !disk.name && !disk.file && !disk.path && disk.format == LIBXL_DISK_FORMAT_UNKNOWN);
    libxl_domain_snapshot_init(&snapshot);
    CHECK(!snapshot.name && !snapshot.description && !snapshot.memory && snapshot.creation_time == 0);
    CHECK(!snapshot.running && !snapshot.blocked && !snapshot.paused && !snapshot.shutdown && !snapshot.dying);
    CHECK(snapshot.num_disks == 0 && snapshot.disks == NULL);
    GIVES(libxl_disk_snapshot_from_json(NULL, &disk, NULL), ERROR_INVAL);
    GIVES(libxl_domain_snapshot_from_json(NULL, &snapshot, NULL), ERROR_INVAL);
    /* Twice is as once. */
    libxl_disk_snapshot_dispose(&disk);
    libxl_disk_snapshot_dispose(&disk);
    libxl_domain_snapshot_dispose(&snapshot);
    libxl_domain_snapshot_dispose(&snapshot);
}

static void null_and_empty_are_two_things(void)
{
    libxl_domain_snapshot a;
    libxl_domain_snapshot b;
    char *json;
    char *again;

    libxl_domain_snapshot_init(&a);
    libxl_domain_snapshot_init(&b);
    a.name = strdup("before \"upgrade\" \xc3\xbc\x01");
    a.description = strdup("");
    a.creation_time = UINT64_MAX;
    a.paused = true;
    a.num_disks = 2;
    a.disks = (libxl_disk_snapshot *)calloc(2, sizeof(*a.disks));
    a.disks[0].device = strdup("hda");
    a.disks[0].file = strdup("");
    a.disks[1].device = strdup("xvdb");
    a.disks[1].file = strdup("/srv/b.qcow2");
    a.disks[1].format = LIBXL_DISK_FORMAT_QCOW2;

    json = libxl_domain_snapshot_to_json(NULL, &a);
    CHECK(same(json,
        "{\n"
        "    \"name\": \"before \\\"upgrade\\\" \xc3\xbc\\u0001\",\n"
        "    \"description\": \"\",\n"
        "    \"creation_time\": 18446744073709551615,\n"
        "    \"paused\": true,\n"
        "    \"disks\": [\n"
        "        {\n"
        "            \"device\": \"hda\",\n"
        "            \"file\": \"\"\n"
        "        },\n"
        "        {\n"
        "            \"device\": \"xvdb\",\n"
        "            \"file\": \"/srv/b.qcow2\",\n"
        "            \"format\": \"qcow2\"\n"
        "        }\n"
        "    ]\n"
        "}\n"));

    libxl_domain_snapshot_copy(NULL, &b, &a);
    CHECK(same(b.name, a.name) && b.name != a.name);
    CHECK(same(b.description, "") && b.memory == NULL);
    CHECK(b.num_disks == 2 && b.disks != a.disks && same(b.disks[1].file, "/srv/b.qcow2"));
    CHECK(same(b.disks[0].file, "") && b.disks[0].name == NULL);
    libxl_domain_snapshot_copy(NULL, &b, &b);
    libxl_domain_snapshot_copy(NULL, &b, NULL);
    libxl_domain_snapshot_copy(NULL, NULL, &a);
    again = libxl_domain_snapshot_to_json(NULL, &b);
    CHECK(same(json, again));
    free(again);
    free(json);

    json = libxl_disk_snapshot_to_json(NULL, &a.disks[1]);
    CHECK(same(json, "{\n    \"device\": \"xvdb\",\n    \"file\": \"/srv/b.qcow2\",\n    \"format\": \"qcow2\"\n}\n"));
    free(json);
    libxl_domain_snapshot_dispose(&a);
    CHECK(a.name == NULL && a.num_disks == 0 && a.disks == NULL);
    libxl_domain_snapshot_dispose(&b);
}

static void reads_as_libxl_reads(void)
{
    libxl_domain_snapshot s;
    libxl_disk_snapshot d;

    libxl_domain_snapshot_init(&s);
    GIVES(libxl_domain_snapshot_from_json(NULL, &s,
        "{\"name\":\"s\",\"description\":null,\"memory\":\"\",\"running\":true,\"unknown\":[1],"
        "\"disks\":[{\"device\":\"hda\",\"format\":\"QCOW2\"},7]}"), 0);
    CHECK(same(s.name, "s") && s.description == NULL && same(s.memory, "") && s.running);
    CHECK(s.num_disks == 2 && same(s.disks[0].device, "hda"));
    CHECK(s.disks[0].format == LIBXL_DISK_FORMAT_QCOW2 && s.disks[1].device == NULL);
    libxl_domain_snapshot_dispose(&s);

    GIVES(libxl_domain_snapshot_from_json(NULL, &s, "{\"disks\":[]}"), 0);
    CHECK(s.num_disks == 0 && s.disks == NULL);
    GIVES(libxl_domain_snapshot_from_json(NULL, &s, ""), ERROR_FAIL);
    GIVES(libxl_domain_snapshot_from_json(NULL, &s, "{"), ERROR_FAIL);
    GIVES(libxl_domain_snapshot_from_json(NULL, &s, "{\"creation_time\": -1}"), ERROR_FAIL);
    GIVES(libxl_domain_snapshot_from_json(NULL, &s, "{\"name\": \"a\", \"disks\": [{\"format\": \"tar\"}]}"), ERROR_FAIL);
    CHECK(s.name == NULL && s.num_disks == 0 && s.disks == NULL);
    libxl_domain_snapshot_dispose(&s);

    libxl_disk_snapshot_init(&d);
    GIVES(libxl_disk_snapshot_from_json(NULL, &d, "{\"device\":\"hda\",\"path\":\"/p\"}"), 0);
    CHECK(same(d.device, "hda") && same(d.path, "/p") && d.file == NULL);
    libxl_disk_snapshot_dispose(&d);
    GIVES(libxl_disk_snapshot_from_json(NULL, &d, "{\"format\":\"\"}"), ERROR_FAIL);
    libxl_disk_snapshot_dispose(&d);
}

static void not_utf8_is_an_error(void)
{
    libxl_disk_snapshot d;
    libxl_disk_snapshot copy;
    libxl_domain_snapshot s;

    libxl_disk_snapshot_init(&d);
    libxl_disk_snapshot_init(&copy);
    d.device = strdup("hd\xff");
    CHECK(libxl_disk_snapshot_to_json(NULL, &d) == NULL);
    /* Copying needs no meaning. */
    libxl_disk_snapshot_copy(NULL, &copy, &d);
    CHECK(same(copy.device, "hd\xff"));
    libxl_disk_snapshot_dispose(&copy);
    libxl_disk_snapshot_dispose(&d);

    libxl_domain_snapshot_init(&s);
    s.name = strdup("\xc3");
    CHECK(libxl_domain_snapshot_to_json(NULL, &s) == NULL);
    libxl_domain_snapshot_dispose(&s);
}

int main(void)
{
    nothing_of_nothing();
    null_and_empty_are_two_things();
    reads_as_libxl_reads();
    not_utf8_is_an_error();
    return 0;
}
