/* Snapshots of a whole domain, by the xlsnap_ functions.
 *
 *   domain list DOMAIN
 *   domain create|revert|delete DOMAIN SNAPSHOT
 *
 * The exit status is that of the command xlsnap. To build it:
 *   cc domain.c $(pkg-config --cflags --libs xlsnap) -o domain
 */
#include <libxl_snapshot.h>
#include <stdio.h>
#include <string.h>

static void show_step(void *data, int number, int total, const char *what)
{
    (void)data;
    fprintf(stderr, "[%d/%d] %s\n", number, total, what);
}

static int tell(int status, xlsnap_error *error)
{
    const char *text;
    size_t at;

    if (status == XLSNAP_STATUS_DONE)
        return status;
    fprintf(stderr, "error: %s\n", xlsnap_error_message(error));
    for (at = 0; (text = xlsnap_error_cause(error, at)) != NULL; at++)
        fprintf(stderr, "  because: %s\n", text);
    if ((text = xlsnap_error_advice(error)) != NULL)
        fprintf(stderr, "  advice: %s\n", text);
    if (xlsnap_error_effect(error) != XLSNAP_EFFECT_NONE)
        fprintf(stderr, "  something was changed\n");
    xlsnap_error_free(error);
    return status;
}

static int list(const xlsnap_host *host, const char *domain)
{
    xlsnap_listing *listing = NULL;
    xlsnap_error *error = NULL;
    size_t at;
    int status = xlsnap_list(host, domain, &listing, &error);

    for (at = 0; at < xlsnap_listing_count(listing); at++)
        printf("%s %s\n", xlsnap_listing_is_current(listing, at) ? "*" : " ", xlsnap_listing_name(listing, at));
    xlsnap_listing_free(listing);
    return tell(status, error);
}

int main(int argc, char **argv)
{
    xlsnap_host_options options;
    xlsnap_create_options create;
    xlsnap_host *host = NULL;
    xlsnap_error *error = NULL;
    int status;

    memset(&options, 0, sizeof(options));
    options.size = sizeof(options);
    options.progress = show_step;
    status = xlsnap_host_open(&options, &host, &error);
    if (status != XLSNAP_STATUS_DONE)
        return tell(status, error);

    status = XLSNAP_STATUS_INVALID;
    if (argc == 3 && strcmp(argv[1], "list") == 0) {
        status = list(host, argv[2]);
    } else if (argc == 4 && strcmp(argv[1], "create") == 0) {
        memset(&create, 0, sizeof(create));
        create.size = sizeof(create);
        create.name = argv[3];
        status = xlsnap_create(host, argv[2], &create, NULL, NULL, &error);
        tell(status, error);
    } else if (argc == 4 && strcmp(argv[1], "revert") == 0) {
        status = xlsnap_revert(host, argv[2], argv[3], NULL, NULL, &error);
        tell(status, error);
    } else if (argc == 4 && strcmp(argv[1], "delete") == 0) {
        status = xlsnap_delete(host, argv[2], argv[3], NULL, NULL, &error);
        tell(status, error);
    } else {
        fprintf(stderr, "usage: domain list DOMAIN | create|revert|delete DOMAIN SNAPSHOT\n");
    }
    xlsnap_host_close(host);
    return status;
}
