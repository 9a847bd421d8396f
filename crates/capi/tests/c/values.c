/* Prints every value that the header shares with libxl's, and calls both libraries where both are there. */
#if defined(LIBXL_FIRST)
# ifdef __cplusplus
extern "C" {
# endif
# include <libxl.h>
# include <libxl_utils.h>
# ifdef __cplusplus
}
# endif
#endif
#include <libxl_snapshot.h>
#if defined(LIBXL_LAST)
# ifdef __cplusplus
extern "C" {
# endif
# include <libxl.h>
# include <libxl_utils.h>
# ifdef __cplusplus
}
# endif
#endif
#include <stdio.h>
#include <string.h>

#define P(name) printf(#name " %d\n", (int)(name))

int main(void)
{
    libxl_disk_snapshot disk;
    libxl_disk_format format = LIBXL_DISK_FORMAT_QED;
    libxl_error error = ERROR_FAIL;
    libxl_ctx *ctx = NULL;

#if defined(LIBXL_FIRST) || defined(LIBXL_LAST)
    libxl_device_disk theirs;
    libxl_device_disk_init(&theirs);
    theirs.format = format;
    if (strcmp(libxl_disk_format_to_string(theirs.format), "qed") != 0)
        return 1;
    libxl_device_disk_dispose(&theirs);
#endif
    libxl_disk_snapshot_init(&disk);
    disk.format = format;
    if (libxl_disk_snapshot_from_json(ctx, &disk, "{\"format\": \"no such\"}") != error)
        return 2;
    libxl_disk_snapshot_dispose(&disk);
    P(LIBXL_DISK_FORMAT_UNKNOWN);
    P(LIBXL_DISK_FORMAT_QCOW);
    P(LIBXL_DISK_FORMAT_QCOW2);
    P(LIBXL_DISK_FORMAT_VHD);
    P(LIBXL_DISK_FORMAT_RAW);
    P(LIBXL_DISK_FORMAT_EMPTY);
    P(LIBXL_DISK_FORMAT_QED);
    P(ERROR_NONSPECIFIC);
    P(ERROR_VERSION);
    P(ERROR_FAIL);
    P(ERROR_NI);
    P(ERROR_NOMEM);
    P(ERROR_INVAL);
    P(ERROR_BADFAIL);
    P(ERROR_GUEST_TIMEDOUT);
    P(ERROR_TIMEDOUT);
    P(ERROR_NOPARAVIRT);
    P(ERROR_NOT_READY);
    P(ERROR_OSEVENT_REG_FAIL);
    P(ERROR_BUFFERFULL);
    P(ERROR_UNKNOWN_CHILD);
    P(ERROR_LOCK_FAIL);
    P(ERROR_JSON_CONFIG_EMPTY);
    P(ERROR_DEVICE_EXISTS);
    P(ERROR_CHECKPOINT_DEVOPS_DOES_NOT_MATCH);
    P(ERROR_CHECKPOINT_DEVICE_NOT_SUPPORTED);
    P(ERROR_VNUMA_CONFIG_INVALID);
    P(ERROR_DOMAIN_NOTFOUND);
    P(ERROR_ABORTED);
    P(ERROR_NOTFOUND);
    P(ERROR_DOMAIN_DESTROYED);
    P(ERROR_FEATURE_REMOVED);
    P(ERROR_PROTOCOL_ERROR_QMP);
    P(ERROR_UNKNOWN_QMP_ERROR);
    P(ERROR_QMP_GENERIC_ERROR);
    P(ERROR_QMP_COMMAND_NOT_FOUND);
    P(ERROR_QMP_DEVICE_NOT_ACTIVE);
    P(ERROR_QMP_DEVICE_NOT_FOUND);
    P(ERROR_QEMU_API);
    return 0;
}
