/*
 * libxl_snapshot.h: snapshots of virtual machines, by the functions of libxl's snapshot design.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 * Made by cbindgen from crates/capi; do not edit.
 */

#ifndef LIBXL_SNAPSHOT_H
#define LIBXL_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* libxl's own types where libxl's header is there, equal ones where it is not. A program that has the header and
 * does not want it defines XLSNAP_NO_LIBXL_H, and then must not include it later either. */
#if !defined(XLSNAP_NO_LIBXL_H) && !defined(LIBXL_H)
# if defined(__has_include)
#  if __has_include(<libxl.h>)
#   ifdef __cplusplus
/* libxl's header does not say by itself that its functions are C's. */
extern "C" {
#   endif
#   include <libxl.h>
#   ifdef __cplusplus
}
#   endif
#  endif
# endif
#endif
#ifndef LIBXL_H
typedef struct libxl__ctx libxl_ctx;

typedef enum libxl_disk_format {
    LIBXL_DISK_FORMAT_UNKNOWN = 0,
    LIBXL_DISK_FORMAT_QCOW = 1,
    LIBXL_DISK_FORMAT_QCOW2 = 2,
    LIBXL_DISK_FORMAT_VHD = 3,
    LIBXL_DISK_FORMAT_RAW = 4,
    LIBXL_DISK_FORMAT_EMPTY = 5,
    LIBXL_DISK_FORMAT_QED = 6
} libxl_disk_format;

typedef enum libxl_error {
    ERROR_NONSPECIFIC = -1,
    ERROR_VERSION = -2,
    ERROR_FAIL = -3,
    ERROR_NI = -4,
    ERROR_NOMEM = -5,
    ERROR_INVAL = -6,
    ERROR_BADFAIL = -7,
    ERROR_GUEST_TIMEDOUT = -8,
    ERROR_TIMEDOUT = -9,
    ERROR_NOPARAVIRT = -10,
    ERROR_NOT_READY = -11,
    ERROR_OSEVENT_REG_FAIL = -12,
    ERROR_BUFFERFULL = -13,
    ERROR_UNKNOWN_CHILD = -14,
    ERROR_LOCK_FAIL = -15,
    ERROR_JSON_CONFIG_EMPTY = -16,
    ERROR_DEVICE_EXISTS = -17,
    ERROR_CHECKPOINT_DEVOPS_DOES_NOT_MATCH = -18,
    ERROR_CHECKPOINT_DEVICE_NOT_SUPPORTED = -19,
    ERROR_VNUMA_CONFIG_INVALID = -20,
    ERROR_DOMAIN_NOTFOUND = -21,
    ERROR_ABORTED = -22,
    ERROR_NOTFOUND = -23,
    ERROR_DOMAIN_DESTROYED = -24,
    ERROR_FEATURE_REMOVED = -25,
    ERROR_PROTOCOL_ERROR_QMP = -26,
    ERROR_UNKNOWN_QMP_ERROR = -27,
    ERROR_QMP_GENERIC_ERROR = -28,
    ERROR_QMP_COMMAND_NOT_FOUND = -29,
    ERROR_QMP_DEVICE_NOT_ACTIVE = -30,
    ERROR_QMP_DEVICE_NOT_FOUND = -31,
    ERROR_QEMU_API = -32
} libxl_error;
#endif


// A disk's part in a snapshot.
typedef struct libxl_disk_snapshot {
  // The disk's name: hda, xvdb.
  char *device;
  // The snapshot's name in the disk, usually that of the domain's snapshot.
  char *name;
  // The file of an external snapshot; empty in an internal one.
  char *file;
  // The format of an external snapshot's file; LIBXL_DISK_FORMAT_UNKNOWN in an internal one.
  libxl_disk_format format;
  // The disk's image. Forced empty when stored.
  char *path;
} libxl_disk_snapshot;

// A snapshot of a domain.
typedef struct libxl_domain_snapshot {
  // Its name.
  char *name;
  // What its maker wrote about it.
  char *description;
  // Seconds since 1970-01-01 UTC.
  uint64_t creation_time;
  // The file with the domain's memory; empty for a disk-only snapshot.
  char *memory;
  // The domain's state before the snapshot, as libxl_dominfo has it.
  bool running;
  // All its virtual CPUs were blocked.
  bool blocked;
  // It was paused.
  bool paused;
  // It had shut down.
  bool shutdown;
  // It was dying.
  bool dying;
  // How many disks there are.
  int num_disks;
  // The disks; NULL when there are none.
  struct libxl_disk_snapshot *disks;
} libxl_domain_snapshot;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Fills `p` with the defaults: NULL, 0, false.
//
// # Safety
// `p` is NULL or points to room for the struct.
void libxl_disk_snapshot_init(struct libxl_disk_snapshot *p);

// Frees what `p` points to, but not `p`, and leaves it as after init.
//
// # Safety
// `p` is NULL or points to a struct whose pointers are NULL or from malloc.
void libxl_disk_snapshot_dispose(struct libxl_disk_snapshot *p);

// Copies `src` deeply to `dst`, which is as after init. `dst == src` changes nothing.
//
// # Safety
// Both are NULL or point to valid structs; what `dst` points to is not freed.
void libxl_disk_snapshot_copy(libxl_ctx *ctx,
                              struct libxl_disk_snapshot *dst,
                              const struct libxl_disk_snapshot *src);

// The struct as libxl-json, to be freed by the caller; NULL when `p` is NULL or a string in it is not UTF-8.
//
// # Safety
// `p` is NULL or points to a valid struct.
char *libxl_disk_snapshot_to_json(libxl_ctx *ctx,
                                  struct libxl_disk_snapshot *p);

// Fills `p`, which is as after init, from libxl-json, read as libxl reads it.
//
// Returns 0, or ERROR_FAIL when `s` is no JSON or a value is out of range; ERROR_INVAL when a pointer is NULL. Then `p`
// is as after init.
//
// # Safety
// `p` is NULL or points to room for a struct; `s` is NULL or NUL-terminated.
int libxl_disk_snapshot_from_json(libxl_ctx *ctx,
                                  struct libxl_disk_snapshot *p,
                                  const char *s);

// Fills `p` with the defaults: NULL, 0, false.
//
// # Safety
// `p` is NULL or points to room for the struct.
void libxl_domain_snapshot_init(struct libxl_domain_snapshot *p);

// Frees what `p` points to, disks included, but not `p`, and leaves it as after init.
//
// # Safety
// `p` is NULL or points to a struct whose pointers are NULL or from malloc.
void libxl_domain_snapshot_dispose(struct libxl_domain_snapshot *p);

// Copies `src` deeply to `dst`, which is as after init. `dst == src` changes nothing.
//
// # Safety
// Both are NULL or point to valid structs; what `dst` points to is not freed.
void libxl_domain_snapshot_copy(libxl_ctx *ctx,
                                struct libxl_domain_snapshot *dst,
                                const struct libxl_domain_snapshot *src);

// The struct as libxl-json, to be freed by the caller; NULL when `p` is NULL or a string in it is not UTF-8.
//
// # Safety
// `p` is NULL or points to a valid struct.
char *libxl_domain_snapshot_to_json(libxl_ctx *ctx,
                                    struct libxl_domain_snapshot *p);

// Fills `p`, which is as after init, from libxl-json, read as libxl reads it.
//
// Returns 0, or ERROR_FAIL when `s` is no JSON or a value is out of range; ERROR_INVAL when a pointer is NULL. Then `p`
// is as after init.
//
// # Safety
// `p` is NULL or points to room for a struct; `s` is NULL or NUL-terminated.
int libxl_domain_snapshot_from_json(libxl_ctx *ctx,
                                    struct libxl_domain_snapshot *p,
                                    const char *s);

// Frees an array that `libxl_list_dom_snapshot` gave, with all that it points to.
//
// # Safety
// `list` is NULL or such an array of `num` structs, each disposed of by nobody else.
void libxl_domain_snapshot_list_free(struct libxl_domain_snapshot *list, int num);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* LIBXL_SNAPSHOT_H */
