/* The xlsnap_ functions on a whole domain, each with every failure that it can have.
 *
 * Arguments: the root; "off" or "running"; the image of hda. The domain web has two disks, hda and xvdb, and no snapshot. */
#include "check.h"
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#define DOMAIN "web"

static int steps;

static void count(void *data, int number, int total, const char *what)
{
    CHECK(data == &steps && number >= 1 && number <= total && what && *what);
    steps++;
}

/* It failed as expected, the error says so in full, and is freed. */
static void failed_(int line, int got, int expected, xlsnap_error *error)
{
    size_t at = 0;
    if (got != expected || error == NULL || xlsnap_error_status(error) != expected) {
        fprintf(stderr, "line %d: gave %d and not %d: %s\n", line, got, expected, xlsnap_error_message(error));
        exit(1);
    }
    CHECK(xlsnap_error_message(error) && *xlsnap_error_message(error));
    CHECK(xlsnap_error_effect(error) == XLSNAP_EFFECT_NONE);
    while (xlsnap_error_cause(error, at))
        at++;
    CHECK(xlsnap_error_cause(error, at + 1) == NULL);
    xlsnap_error_free(error);
}
#define FAILS(call, status) do { xlsnap_error *error = NULL; int got = (call); failed_(__LINE__, got, status, error); } while (0)

static void worked_(int line, int got, xlsnap_error *error)
{
    if (got != XLSNAP_STATUS_DONE || error != NULL) {
        const char *cause = xlsnap_error_cause(error, 0);
        fprintf(stderr, "line %d: gave %d: %s: %s\n", line, got, xlsnap_error_message(error), cause ? cause : "");
        exit(1);
    }
}
#define WORKS(call) do { xlsnap_error *error = (xlsnap_error *)&steps; int got = (call); worked_(__LINE__, got, error); } while (0)

static void nothing_of_nothing(void)
{
    char *text = (char *)"x";
    xlsnap_listing *listing;
    xlsnap_findings *findings;
    libxl_domain_snapshot snapshot;

    xlsnap_host_close(NULL);
    xlsnap_cancel_free(NULL);
    xlsnap_cancel_request(NULL);
    xlsnap_error_free(NULL);
    xlsnap_listing_free(NULL);
    xlsnap_findings_free(NULL);
    CHECK(xlsnap_error_status(NULL) == 0 && xlsnap_error_effect(NULL) == XLSNAP_EFFECT_NONE);
    CHECK(!xlsnap_error_message(NULL) && !xlsnap_error_cause(NULL, 0) && !xlsnap_error_advice(NULL));
    CHECK(xlsnap_listing_count(NULL) == 0 && !xlsnap_listing_name(NULL, 0) && !xlsnap_listing_parent(NULL, 0));
    CHECK(xlsnap_listing_creation_time(NULL, 0) == 0 && !xlsnap_listing_is_current(NULL, 0));
    CHECK(xlsnap_findings_count(NULL) == 0 && !xlsnap_finding_code(NULL, 0) && !xlsnap_finding_what(NULL, 0));
    CHECK(!xlsnap_finding_advice(NULL, 0) && !xlsnap_finding_is_repaired(NULL, 0));
    CHECK(strlen(xlsnap_version()) >= 5);

    GIVES(xlsnap_host_open(NULL, NULL, NULL), XLSNAP_STATUS_INVALID);
    FAILS(xlsnap_host_open(NULL, NULL, &error), XLSNAP_STATUS_INVALID);
    FAILS(xlsnap_create(NULL, DOMAIN, NULL, NULL, &text, &error), XLSNAP_STATUS_INVALID);
    CHECK(text == NULL);
    FAILS(xlsnap_revert(NULL, DOMAIN, "a", NULL, NULL, &error), XLSNAP_STATUS_INVALID);
    FAILS(xlsnap_delete(NULL, DOMAIN, "a", NULL, NULL, &error), XLSNAP_STATUS_INVALID);
    FAILS(xlsnap_flatten(NULL, DOMAIN, NULL, NULL, &error), XLSNAP_STATUS_INVALID);
    FAILS(xlsnap_relocate(NULL, DOMAIN, NULL, NULL, 0, NULL, &error), XLSNAP_STATUS_INVALID);
    FAILS(xlsnap_list(NULL, DOMAIN, &listing, &error), XLSNAP_STATUS_INVALID);
    CHECK(listing == NULL);
    FAILS(xlsnap_check(NULL, DOMAIN, 0, &findings, &error), XLSNAP_STATUS_INVALID);
    CHECK(findings == NULL);
    FAILS(xlsnap_show(NULL, DOMAIN, "a", &snapshot, &error), XLSNAP_STATUS_INVALID);
    CHECK(snapshot.name == NULL);
    FAILS(xlsnap_recover(NULL, DOMAIN, NULL, &error), XLSNAP_STATUS_INVALID);
}

static xlsnap_host *opened(const char *root)
{
    struct { xlsnap_host_options known; char newer[8]; } grown;
    xlsnap_host_options options;
    xlsnap_host *host = NULL;

    memset(&options, 0, sizeof(options));
    FAILS(xlsnap_host_open(&options, &host, &error), XLSNAP_STATUS_INVALID);      /* no size */
    options.size = sizeof(options);
    options.root = "\xff";
    FAILS(xlsnap_host_open(&options, &host, &error), XLSNAP_STATUS_INVALID);
    options.root = "";
    FAILS(xlsnap_host_open(&options, &host, &error), XLSNAP_STATUS_INVALID);
    CHECK(host == NULL);
    options.root = root;

    /* A newer program may set nothing that this library does not know. */
    memset(&grown, 0, sizeof(grown));
    grown.known = options;
    grown.known.size = sizeof(grown);
    WORKS(xlsnap_host_open(&grown.known, &host, &error));
    xlsnap_host_close(host);
    grown.newer[3] = 1;
    FAILS(xlsnap_host_open(&grown.known, &host, &error), XLSNAP_STATUS_INVALID);

    /* An older one knows only the first fields. */
    options.size = offsetof(xlsnap_host_options, qemu_img);
    WORKS(xlsnap_host_open(&options, &host, &error));
    xlsnap_host_close(host);
    WORKS(xlsnap_host_open(NULL, &host, &error));
    xlsnap_host_close(host);

    options.size = sizeof(options);
    options.lock_wait_ms = 30000;
    options.progress = count;
    options.progress_data = &steps;
    WORKS(xlsnap_host_open(&options, &host, &error));
    return host;
}

static void refusals(const xlsnap_host *host)
{
    xlsnap_create_options create;
    xlsnap_revert_options revert;
    const char *disks[] = { "hda", "nodisk" };
    xlsnap_listing *listing = NULL;
    libxl_domain_snapshot snapshot;

    FAILS(xlsnap_create(host, NULL, NULL, NULL, NULL, &error), XLSNAP_STATUS_INVALID);
    FAILS(xlsnap_create(host, "", NULL, NULL, NULL, &error), XLSNAP_STATUS_INVALID);
    FAILS(xlsnap_create(host, "\xff", NULL, NULL, NULL, &error), XLSNAP_STATUS_INVALID);
    FAILS(xlsnap_create(host, "absent", NULL, NULL, NULL, &error), XLSNAP_STATUS_NOT_FOUND);
    memset(&create, 0, sizeof(create));
    FAILS(xlsnap_create(host, DOMAIN, &create, NULL, NULL, &error), XLSNAP_STATUS_INVALID);
    create.size = sizeof(create);
    create.name = "no/slash";
    FAILS(xlsnap_create(host, DOMAIN, &create, NULL, NULL, &error), XLSNAP_STATUS_INVALID);
    create.name = "\xff";
    FAILS(xlsnap_create(host, DOMAIN, &create, NULL, NULL, &error), XLSNAP_STATUS_INVALID);
    create.name = "s1";
    create.num_disks = 2;
    FAILS(xlsnap_create(host, DOMAIN, &create, NULL, NULL, &error), XLSNAP_STATUS_INVALID);
    create.disks = disks;
    CHECK(xlsnap_create(host, DOMAIN, &create, NULL, NULL, NULL) != XLSNAP_STATUS_DONE);
    create.description = "\xff";
    FAILS(xlsnap_create(host, DOMAIN, &create, NULL, NULL, &error), XLSNAP_STATUS_INVALID);
    disks[1] = NULL;
    create.description = NULL;
    FAILS(xlsnap_create(host, DOMAIN, &create, NULL, NULL, &error), XLSNAP_STATUS_INVALID);
    disks[1] = "";
    FAILS(xlsnap_create(host, DOMAIN, &create, NULL, NULL, &error), XLSNAP_STATUS_INVALID);
    disks[1] = "/dev/hda";
    FAILS(xlsnap_create(host, DOMAIN, &create, NULL, NULL, &error), XLSNAP_STATUS_INVALID);
    disks[1] = "hda";       /* twice */
    FAILS(xlsnap_create(host, DOMAIN, &create, NULL, NULL, &error), XLSNAP_STATUS_INVALID);
    /* Numbers that no array has: not a byte of it is read. */
    create.num_disks = (size_t)-1;
    FAILS(xlsnap_create(host, DOMAIN, &create, NULL, NULL, &error), XLSNAP_STATUS_INVALID);
    create.num_disks = 65537;
    FAILS(xlsnap_create(host, DOMAIN, &create, NULL, NULL, &error), XLSNAP_STATUS_INVALID);
    /* A size that is not a struct's ends within a field. */
    create.size = offsetof(xlsnap_create_options, name) + 4;
    FAILS(xlsnap_create(host, DOMAIN, &create, NULL, NULL, &error), XLSNAP_STATUS_INVALID);

    memset(&create, 0, sizeof(create));
    create.size = sizeof(create);
    create.memory = "relative";
    FAILS(xlsnap_create(host, DOMAIN, &create, NULL, NULL, &error), XLSNAP_STATUS_INVALID);
    create.memory = NULL;
    create.quiesce_ms = -1;
    FAILS(xlsnap_create(host, DOMAIN, &create, NULL, NULL, &error), XLSNAP_STATUS_INVALID);

    memset(&revert, 0, sizeof(revert));
    FAILS(xlsnap_revert(host, DOMAIN, NULL, NULL, NULL, &error), XLSNAP_STATUS_INVALID);
    FAILS(xlsnap_revert(host, DOMAIN, "none", &revert, NULL, &error), XLSNAP_STATUS_INVALID);
    revert.size = sizeof(revert);
    revert.safety = "";
    FAILS(xlsnap_revert(host, DOMAIN, "none", &revert, NULL, &error), XLSNAP_STATUS_INVALID);
    FAILS(xlsnap_revert(host, DOMAIN, "none", NULL, NULL, &error), XLSNAP_STATUS_NOT_FOUND);
    FAILS(xlsnap_delete(host, DOMAIN, NULL, NULL, NULL, &error), XLSNAP_STATUS_INVALID);
    FAILS(xlsnap_delete(host, DOMAIN, "none", NULL, NULL, &error), XLSNAP_STATUS_NOT_FOUND);
    FAILS(xlsnap_show(host, DOMAIN, "none", NULL, &error), XLSNAP_STATUS_INVALID);
    FAILS(xlsnap_show(host, DOMAIN, "none", &snapshot, &error), XLSNAP_STATUS_NOT_FOUND);
    FAILS(xlsnap_list(host, DOMAIN, NULL, &error), XLSNAP_STATUS_INVALID);
    FAILS(xlsnap_list(host, "absent", &listing, &error), XLSNAP_STATUS_NOT_FOUND);
    FAILS(xlsnap_check(host, DOMAIN, 0, NULL, &error), XLSNAP_STATUS_INVALID);
    FAILS(xlsnap_recover(host, "absent", NULL, &error), XLSNAP_STATUS_NOT_FOUND);
}

/* A file that a disk stands on goes by another name; then the disk stands on nothing, and the file is needed no more. */
static void moved(const xlsnap_host *host, const char *image)
{
    xlsnap_create_options create;
    xlsnap_flatten_options flatten;
    xlsnap_delete_options options;
    const char *was[] = { image };
    const char *relative[] = { "a.qcow2" };
    const char *disks[] = { "hda" };
    char elsewhere[4096];
    const char *now[] = { elsewhere };

    snprintf(elsewhere, sizeof(elsewhere), "%s.moved", image);
    memset(&create, 0, sizeof(create));
    create.size = sizeof(create);
    create.external = 1;
    create.keep_name = -1;
    create.name = "moving";
    WORKS(xlsnap_create(host, DOMAIN, &create, NULL, NULL, &error));
    CHECK(rename(image, elsewhere) == 0);
    FAILS(xlsnap_relocate(host, DOMAIN, was, now, 0, NULL, &error), XLSNAP_STATUS_INVALID);
    FAILS(xlsnap_relocate(host, DOMAIN, was, NULL, 1, NULL, &error), XLSNAP_STATUS_INVALID);
    FAILS(xlsnap_relocate(host, DOMAIN, relative, now, 1, NULL, &error), XLSNAP_STATUS_INVALID);
    FAILS(xlsnap_relocate(host, DOMAIN, now, was, 1, NULL, &error), XLSNAP_STATUS_NOT_FOUND);
    WORKS(xlsnap_relocate(host, DOMAIN, was, now, 1, NULL, &error));

    memset(&flatten, 0, sizeof(flatten));
    flatten.size = sizeof(flatten);
    flatten.disks = disks;
    flatten.num_disks = 1;
    flatten.rate = 1 << 30;
    flatten.num_into_base = 1;
    FAILS(xlsnap_flatten(host, DOMAIN, &flatten, NULL, &error), XLSNAP_STATUS_INVALID);    /* no files */
    flatten.into_base = was;
    FAILS(xlsnap_flatten(host, DOMAIN, &flatten, NULL, &error), XLSNAP_STATUS_NOT_FOUND);
    flatten.num_into_base = 0;
    WORKS(xlsnap_flatten(host, DOMAIN, &flatten, NULL, &error));
    memset(&options, 0, sizeof(options));
    options.size = sizeof(options);
    options.rate = 1 << 30;
    WORKS(xlsnap_delete(host, DOMAIN, "moving", &options, NULL, &error));
}

/* `moving` is the image of hda. */
static void life(const xlsnap_host *host, bool running, const char *moving)
{
    xlsnap_create_options create;
    xlsnap_revert_options revert;
    xlsnap_delete_options options;
    xlsnap_listing *listing = NULL;
    xlsnap_findings *findings = NULL;
    libxl_domain_snapshot snapshot;
    char *name = NULL;
    char *what = NULL;

    memset(&create, 0, sizeof(create));
    create.size = sizeof(create);
    create.name = "0s";      /* comes before any number, in the same second */
    create.description = "the \xc3\xbc first";
    steps = 0;
    WORKS(xlsnap_create(host, DOMAIN, &create, NULL, &name, &error));
    CHECK(same(name, "0s") && steps >= 2);
    free(name);
    FAILS(xlsnap_create(host, DOMAIN, &create, NULL, NULL, &error), XLSNAP_STATUS_REFUSED);
    WORKS(xlsnap_create(host, DOMAIN, NULL, NULL, &name, &error));

    WORKS(xlsnap_list(host, DOMAIN, &listing, &error));
    CHECK(xlsnap_listing_count(listing) == 2 && xlsnap_listing_name(listing, 2) == NULL);
    CHECK(same(xlsnap_listing_name(listing, 0), "0s") && same(xlsnap_listing_name(listing, 1), name));
    CHECK(xlsnap_listing_parent(listing, 0) == NULL && same(xlsnap_listing_parent(listing, 1), "0s"));
    CHECK(!xlsnap_listing_is_current(listing, 0) && xlsnap_listing_is_current(listing, 1));
    CHECK(xlsnap_listing_creation_time(listing, 0) > 1000000000);
    xlsnap_listing_free(listing);

    WORKS(xlsnap_show(host, DOMAIN, "0s", &snapshot, &error));
    CHECK(same(snapshot.description, "the \xc3\xbc first") && snapshot.num_disks == 2);
    libxl_domain_snapshot_dispose(&snapshot);
    WORKS(xlsnap_check(host, DOMAIN, 0, &findings, &error));
    CHECK(xlsnap_findings_count(findings) == 0 && xlsnap_finding_code(findings, 0) == NULL);
    xlsnap_findings_free(findings);
    WORKS(xlsnap_recover(host, DOMAIN, &what, &error));
    CHECK(what == NULL);

    memset(&revert, 0, sizeof(revert));
    revert.size = sizeof(revert);
    revert.safety = "safe";
    if (running) {
        /* Under its process; its guest is reset, and runs. */
        revert.safety = NULL;
        revert.run = 1;
        WORKS(xlsnap_revert(host, DOMAIN, "0s", &revert, NULL, &error));
        /* With its memory. Its file does not say how it is started, so that it could not be restored. */
        create.name = "whole";
        create.memory = "yes";
        WORKS(xlsnap_create(host, DOMAIN, &create, NULL, NULL, &error));
        WORKS(xlsnap_show(host, DOMAIN, "whole", &snapshot, &error));
        CHECK(snapshot.memory != NULL && snapshot.memory[0] == '/' && snapshot.running);
        libxl_domain_snapshot_dispose(&snapshot);
        FAILS(xlsnap_revert(host, DOMAIN, "whole", NULL, NULL, &error), XLSNAP_STATUS_REFUSED);
        WORKS(xlsnap_delete(host, DOMAIN, "whole", NULL, NULL, &error));
        create.memory = NULL;
    } else {
        WORKS(xlsnap_revert(host, DOMAIN, "0s", &revert, NULL, &error));
        WORKS(xlsnap_delete(host, DOMAIN, "safe", NULL, NULL, &error));
        /* External ones: files stay without a merge; an older header, which does not know that, has all of them merged. */
        memset(&options, 0, sizeof(options));
        options.size = sizeof(options);
        options.no_merge = 1;
        create.external = 1;
        create.name = "outside";
        WORKS(xlsnap_create(host, DOMAIN, &create, NULL, NULL, &error));
        WORKS(xlsnap_delete(host, DOMAIN, "outside", &options, NULL, &error));
        create.name = "again";
        WORKS(xlsnap_create(host, DOMAIN, &create, NULL, NULL, &error));
        options.size = offsetof(xlsnap_delete_options, no_merge);
        WORKS(xlsnap_delete(host, DOMAIN, "again", &options, NULL, &error));
        create.external = 0;
        moved(host, moving);
    }

    /* What only its images know is a finding. */
    memset(&options, 0, sizeof(options));
    options.size = sizeof(options);
    options.metadata_only = 1;
    WORKS(xlsnap_delete(host, DOMAIN, name, &options, NULL, &error));
    WORKS(xlsnap_check(host, DOMAIN, 0, &findings, &error));
    CHECK(xlsnap_findings_count(findings) > 0);
    CHECK(*xlsnap_finding_code(findings, 0) && *xlsnap_finding_what(findings, 0) && *xlsnap_finding_advice(findings, 0));
    CHECK(!xlsnap_finding_is_repaired(findings, 0));
    xlsnap_findings_free(findings);
    free(name);

    options.metadata_only = 0;
    options.children = 1;
    WORKS(xlsnap_delete(host, DOMAIN, "0s", &options, NULL, &error));
}

static void cancelled(const xlsnap_host *host)
{
    xlsnap_cancel *cancel = xlsnap_cancel_new();
    xlsnap_create_options create;
    xlsnap_listing *listing = NULL;

    memset(&create, 0, sizeof(create));
    create.size = sizeof(create);
    create.name = "never";
    xlsnap_cancel_request(cancel);
    FAILS(xlsnap_create(host, DOMAIN, &create, cancel, NULL, &error), XLSNAP_STATUS_CANCELLED);
    FAILS(xlsnap_revert(host, DOMAIN, "never", NULL, cancel, &error), XLSNAP_STATUS_CANCELLED);
    FAILS(xlsnap_delete(host, DOMAIN, "never", NULL, cancel, &error), XLSNAP_STATUS_CANCELLED);
    xlsnap_cancel_free(cancel);
    WORKS(xlsnap_list(host, DOMAIN, &listing, &error));
    CHECK(xlsnap_listing_count(listing) == 0);
    xlsnap_listing_free(listing);
}

static void *worker(void *argument);

static void cancel_now(void *data, int number, int total, const char *what)
{
    CHECK(number >= 1 && number <= total && what != NULL);
    xlsnap_cancel_request((const xlsnap_cancel *)data);
}

/* Cancelled from within: the call says whether it was done or undone, and the domain agrees. */
static void cancelled_midway(const char *root)
{
    xlsnap_cancel *cancel = xlsnap_cancel_new();
    xlsnap_host_options options;
    xlsnap_create_options create;
    xlsnap_host *host = NULL;
    xlsnap_listing *listing = NULL;
    xlsnap_findings *findings = NULL;
    xlsnap_error *error = NULL;
    bool made;
    int got;

    memset(&options, 0, sizeof(options));
    options.size = sizeof(options);
    options.root = root;
    options.progress = cancel_now;
    options.progress_data = cancel;
    WORKS(xlsnap_host_open(&options, &host, &error));
    memset(&create, 0, sizeof(create));
    create.size = sizeof(create);
    create.name = "midway";
    got = xlsnap_create(host, DOMAIN, &create, cancel, NULL, &error);
    CHECK(got == XLSNAP_STATUS_DONE || got == XLSNAP_STATUS_CANCELLED);
    CHECK(xlsnap_error_effect(error) != XLSNAP_EFFECT_UNKNOWN);
    made = got == XLSNAP_STATUS_DONE || xlsnap_error_effect(error) == XLSNAP_EFFECT_DONE;
    xlsnap_error_free(error);
    WORKS(xlsnap_list(host, DOMAIN, &listing, &error));
    CHECK(xlsnap_listing_count(listing) == (made ? 1u : 0u));
    xlsnap_listing_free(listing);
    if (made)
        WORKS(xlsnap_delete(host, DOMAIN, "midway", NULL, NULL, &error));
    WORKS(xlsnap_check(host, DOMAIN, 0, &findings, &error));
    CHECK(xlsnap_findings_count(findings) == 0);
    xlsnap_findings_free(findings);
    xlsnap_host_close(host);
    xlsnap_cancel_free(cancel);
}

/* What is called in a progress callback is refused, and the operation goes on. */
static void call_another(void *data, int number, int total, const char *what)
{
    xlsnap_host *host = *(xlsnap_host **)data;
    xlsnap_listing *listing = NULL;
    libxl_domain_snapshot snapshot;
    int num;

    CHECK(number >= 1 && number <= total && what != NULL);
    FAILS(xlsnap_list(host, DOMAIN, &listing, &error), XLSNAP_STATUS_FAILED);
    CHECK(listing == NULL);
    libxl_domain_snapshot_init(&snapshot);
    snapshot.name = strdup("within");
    GIVES(libxl_store_dom_snapshot_conf(NULL, 7, &snapshot), ERROR_FAIL);
    CHECK(strstr(xlsnap_last_error(), "in the middle of another call") != NULL);
    CHECK(libxl_list_dom_snapshot(NULL, 7, &num) == NULL && num == 0 && xlsnap_last_error() != NULL);
    libxl_domain_snapshot_dispose(&snapshot);
    steps++;
}

static void called_within(const char *root)
{
    xlsnap_host_options options;
    xlsnap_host *host = NULL;
    char *name = NULL;

    memset(&options, 0, sizeof(options));
    options.size = sizeof(options);
    options.root = root;
    options.progress = call_another;
    options.progress_data = &host;
    WORKS(xlsnap_host_open(&options, &host, &error));
    steps = 0;
    WORKS(xlsnap_create(host, DOMAIN, NULL, NULL, &name, &error));
    CHECK(steps > 0);
    WORKS(xlsnap_delete(host, DOMAIN, name, NULL, NULL, &error));
    free(name);
    xlsnap_host_close(host);
}

/* The child of a program with one thread may go on with a host that was opened before. */
static void forked(xlsnap_host *host)
{
    int status = -1;
    pid_t child;
    fflush(NULL);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        xlsnap_listing *listing = NULL;
        WORKS(xlsnap_list(host, DOMAIN, &listing, &error));
        xlsnap_listing_free(listing);
        worker(host);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void *worker(void *argument)
{
    const xlsnap_host *host = (const xlsnap_host *)argument;
    char *name = NULL;
    WORKS(xlsnap_create(host, DOMAIN, NULL, NULL, &name, &error));
    WORKS(xlsnap_delete(host, DOMAIN, name, NULL, NULL, &error));
    free(name);
    return NULL;
}

static void several_threads(xlsnap_host *host)
{
    pthread_t threads[3];
    size_t i;
    for (i = 0; i < 3; i++)
        GIVES(pthread_create(&threads[i], NULL, worker, host), 0);
    for (i = 0; i < 3; i++)
        GIVES(pthread_join(threads[i], NULL), 0);
}

static int threads_of_this_process(void)
{
    char line[256];
    int count = -1;
    FILE *status = fopen("/proc/self/status", "r");
    CHECK(status != NULL);
    while (fgets(line, sizeof(line), status))
        if (sscanf(line, "Threads: %d", &count) == 1)
            break;
    fclose(status);
    return count;
}

int main(int argc, char **argv)
{
    xlsnap_host *host;
    bool running;
    int before;

    CHECK(argc == 4);
    running = strcmp(argv[2], "running") == 0;
    before = threads_of_this_process();
    nothing_of_nothing();
    host = opened(argv[1]);
    refusals(host);
    cancelled(host);
    cancelled_midway(argv[1]);
    called_within(argv[1]);
    forked(host);
    life(host, running, argv[3]);
    if (!running)
        several_threads(host);
    GIVES(threads_of_this_process(), before);
    xlsnap_host_close(host);
    return 0;
}
