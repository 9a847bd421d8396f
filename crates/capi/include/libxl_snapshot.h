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


// What is known of the effect of something that failed.
typedef enum xlsnap_effect {
  // Nothing was changed, or all of it was undone.
  XLSNAP_EFFECT_NONE = 0,
  // It was done.
  XLSNAP_EFFECT_DONE = 1,
  // It may have been done, or half of it.
  XLSNAP_EFFECT_UNKNOWN = 2,
} xlsnap_effect;

// How an `xlsnap_` function ended. The numbers are the exit codes of the command `xlsnap`.
typedef enum xlsnap_status {
  // It was done.
  XLSNAP_STATUS_DONE = 0,
  // It failed, and nothing was changed.
  XLSNAP_STATUS_FAILED = 1,
  // An argument is not valid.
  XLSNAP_STATUS_INVALID = 2,
  // The domain, snapshot or disk is not there.
  XLSNAP_STATUS_NOT_FOUND = 3,
  // Another process holds the domain, an image or the monitor.
  XLSNAP_STATUS_BUSY = 4,
  // A check refused it before any effect.
  XLSNAP_STATUS_REFUSED = 5,
  // It failed, and xlsnap_recover has to finish or undo it.
  XLSNAP_STATUS_RECOVERY_PENDING = 6,
  // It was cancelled; the error's effect says how it ended.
  XLSNAP_STATUS_CANCELLED = 8,
} xlsnap_status;

// A flag that ends an operation. One may be given to several calls; once set it stays set.
typedef struct xlsnap_cancel xlsnap_cancel;

// Why an `xlsnap_` function failed. Freed by xlsnap_error_free.
typedef struct xlsnap_error xlsnap_error;

// What a check found. Freed by xlsnap_findings_free.
typedef struct xlsnap_findings xlsnap_findings;

// A directory of records and domain files, and how its domains are reached. Any thread may use it, several at once.
typedef struct xlsnap_host xlsnap_host;

// The snapshots of a domain, by creation time. Freed by xlsnap_listing_free.
typedef struct xlsnap_listing xlsnap_listing;

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

// Called for each step of an operation as it begins: the `number`-th of `total`, and `what` it is. It is called in the thread that
// called the operation. It must not unwind, nor end the operation by longjmp. A call of this library that works on domains fails in
// it, for the thread is in the middle of one.
typedef void (*xlsnap_progress)(void *data, int number, int total, const char *what);

// Options of xlsnap_host_open. Zero is the default of each.
typedef struct xlsnap_host_options {
  // sizeof(xlsnap_host_options).
  size_t size;
  // The directory of records and domain files; by default that of the command `xlsnap`.
  const char *root;
  // The program qemu-img: a path, or a name to be found in PATH.
  const char *qemu_img;
  // How many milliseconds to wait for a domain that another process works on; 5000 by default, below 0 not at all.
  int64_t lock_wait_ms;
  // Called for each step.
  xlsnap_progress progress;
  // Its first argument.
  void *progress_data;
} xlsnap_host_options;

// Options of xlsnap_create. Zero is the default of each.
typedef struct xlsnap_create_options {
  // sizeof(xlsnap_create_options).
  size_t size;
  // The snapshot's name; by default the time.
  const char *name;
  // What its maker says about it.
  const char *description;
  // The disks to take, `num_disks` of them; by default every writable one.
  const char *const *disks;
  // How many `disks` there are.
  size_t num_disks;
  // Not 0: external ones, into new files beside the images.
  int external;
  // The guest's memory too: to this file, an absolute path; "yes": to a file beside the record; "internal": inside the images.
  // By default the disks alone.
  const char *memory;
  // Not 0: the memory file is packed by zstd.
  int compress;
  // Not 0: the guest's file systems are frozen meanwhile, and its agent has so many milliseconds for each answer.
  int64_t quiesce_ms;
  // Above 0: the new files of external ones take the names of the disks' images; below 0: they do not; 0: they do where the domain's
  // file does not say how it is started, and where they can.
  int keep_name;
} xlsnap_create_options;

// Options of xlsnap_revert. Zero is the default of each.
typedef struct xlsnap_revert_options {
  // sizeof(xlsnap_revert_options).
  size_t size;
  // Make a snapshot of now under this name first.
  const char *safety;
  // Above 0: the guest runs afterwards; below 0: it is paused; 0: as it was.
  int run;
  // Not 0: the process of a domain that runs is ended and started again.
  int offline;
  // Not 0: the disks come back alone, although the snapshot has the guest's memory.
  int without_memory;
  // Not 0: dirty bitmaps of the disks that go back are removed; the next backup that goes by them has to be a full one.
  int drop_bitmaps;
} xlsnap_revert_options;

// Options of xlsnap_delete. Zero is the default of each.
typedef struct xlsnap_delete_options {
  // sizeof(xlsnap_delete_options).
  size_t size;
  // Not 0: its descendants too, from the leaves on.
  int children;
  // Not 0: only the records; images and files stay as they are.
  int metadata_only;
  // Not 0: files that no snapshot needs any more are not merged now: that is what takes long, and a later deletion does it.
  int no_merge;
  // The most bytes that a merge moves in a second; 0: as many as can be.
  uint64_t rate;
  // Files below the disks' images, absolute, `num_into_base` of them, that are not the domain's and are written to all the same.
  const char *const *into_base;
  // How many `into_base` there are.
  size_t num_into_base;
} xlsnap_delete_options;

// Options of xlsnap_flatten. Zero is the default of each.
typedef struct xlsnap_flatten_options {
  // sizeof(xlsnap_flatten_options).
  size_t size;
  // The disks, `num_disks` of them; by default every writable one.
  const char *const *disks;
  // How many `disks` there are.
  size_t num_disks;
  // Not 0: of the snapshots that the domain descends from, all but the nearest `keep` are deleted first.
  int delete_older;
  // How many are kept then.
  size_t keep;
  // The most bytes that are copied in a second; 0: as many as can be.
  uint64_t rate;
  // Files below the disks' images, absolute, `num_into_base` of them, that are not the domain's: what stands on them goes down into them and is removed.
  const char *const *into_base;
  // How many `into_base` there are.
  size_t num_into_base;
} xlsnap_flatten_options;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// A new one, to be freed by xlsnap_cancel_free.
struct xlsnap_cancel *xlsnap_cancel_new(void);

// Asks the calls that have it to end: from any thread, and from a signal handler. NULL is nothing to ask.
//
// # Safety
// `cancel` is NULL or was given by xlsnap_cancel_new and not freed.
void xlsnap_cancel_request(const struct xlsnap_cancel *cancel);

// Frees one that no call has any more. NULL is nothing to free.
//
// # Safety
// `cancel` is NULL or was given by xlsnap_cancel_new and not freed.
void xlsnap_cancel_free(struct xlsnap_cancel *cancel);

// Fills `snapshot`, whose name says which, from the domain's configuration file of it.
//
// Its name stays the caller's string; whatever else it held is freed. Returns 0; ERROR_INVAL when `snapshot` or its name is
// NULL, or the name is not valid; ERROR_DOMAIN_NOTFOUND; ERROR_NOTFOUND when there is no such file; ERROR_FAIL when it is
// malformed. Then `snapshot` is as before.
//
// # Safety
// `snapshot` is NULL or points to a valid struct whose other pointers are NULL or from malloc.
int libxl_load_dom_snapshot_conf(libxl_ctx *ctx,
                                 uint32_t domid,
                                 struct libxl_domain_snapshot *snapshot);

// Stores `snapshot` as the domain's configuration file of its name, in the place of one that is there.
//
// What is stored is the whole struct or nothing of it. Returns 0; ERROR_INVAL when the struct is not valid, see below;
// ERROR_DOMAIN_NOTFOUND; ERROR_LOCK_FAIL when another process works on the domain; ERROR_FAIL.
//
// Not valid is: `snapshot` or its name is NULL; the name is empty, has over 200 bytes, a '/' or a control character, begins with
// '-', or is "." or ".."; a string is not UTF-8; a flag is neither true nor false; `num_disks` is below 0 or above 65536, or above 0
// while `disks` is NULL. Of a disk: `device` is NULL, empty, a path, or else no word of at most 64 letters, digits, '.', '_' and '-',
// or is that of another disk; `name` has over 255 bytes or a control character; `format` is none of libxl's, or, where `file` is
// not empty, UNKNOWN or EMPTY. A NULL `name` of a disk means that of the snapshot; another NULL string means an empty one.
//
// # Safety
// `snapshot` is NULL or points to a valid struct; `disks` is NULL or points to `num_disks` of them.
int libxl_store_dom_snapshot_conf(libxl_ctx *ctx,
                                  uint32_t domid,
                                  struct libxl_domain_snapshot *snapshot);

// Deletes the domain's configuration file of the snapshot that has the name in `snapshot`. No disk is touched.
//
// Returns 0; ERROR_INVAL when `snapshot` or its name is NULL, or the name is not valid; ERROR_DOMAIN_NOTFOUND; ERROR_NOTFOUND
// when there is no such file; ERROR_LOCK_FAIL; ERROR_FAIL.
//
// # Safety
// `snapshot` is NULL or points to a valid struct. Only its name is looked at.
int libxl_delete_dom_snapshot_conf(libxl_ctx *ctx,
                                   uint32_t domid,
                                   struct libxl_domain_snapshot *snapshot);

// All snapshots of the domain whose configuration file can be read, by creation time; `*num` says how many.
//
// To be freed by libxl_domain_snapshot_list_free. NULL, and `*num` 0, when there are none, and on a failure;
// xlsnap_last_error tells these apart: it is NULL when there are none.
//
// # Safety
// `num` is NULL or points to an int.
struct libxl_domain_snapshot *libxl_list_dom_snapshot(libxl_ctx *ctx,
                                                      uint32_t domid,
                                                      int *num);

// Takes a snapshot of each disk of the array, of all at one instant, and of all or none.
//
// `device` says which disk; `name` is the snapshot's name in its image; a `file` that is not empty makes it external, into that
// new file of that format: LIBXL_DISK_FORMAT_QCOW2 or _QED; UNKNOWN becomes QCOW2, in the caller's struct too. Of no disks it does
// nothing. Returns 0; ERROR_INVAL when the array is not valid, see below; ERROR_DOMAIN_NOTFOUND; ERROR_NOTFOUND when the domain has
// no such disk; ERROR_FAIL when a disk cannot take it or the name is there; ERROR_LOCK_FAIL when another process has the domain or
// an image; ERROR_BADFAIL when it failed and could not be undone.
//
// Not valid is: `num` below 0 or above 65536, or above 0 while `snapshot` is NULL; a string that is not UTF-8; a `device` that is
// NULL, empty, a path, or else no word of at most 64 letters, digits, '.', '_' and '-', or that of another struct; a `format` that
// is none of libxl's; in an internal one a `name` that libxl_store_dom_snapshot_conf would not take for a snapshot's; in an
// external one a `file` that is no absolute path or that of another struct, or a format of no overlay.
//
// # Safety
// `snapshot` is NULL or points to `num` valid structs.
int libxl_disk_snapshot_create(libxl_ctx *ctx,
                               int domid,
                               struct libxl_disk_snapshot *snapshot,
                               int num);

// Deletes the internal snapshot `name` of each disk of the array, one after the other, until the first that fails.
//
// Returns 0; ERROR_NOTFOUND when a disk has no such snapshot; else as libxl_disk_snapshot_create.
//
// # Safety
// `snapshot` is NULL or points to `num` valid structs.
int libxl_disk_snapshot_delete(libxl_ctx *ctx,
                               int domid,
                               struct libxl_disk_snapshot *snapshot,
                               int num);

// Brings each disk of the array back to its internal snapshot `name`. The domain must be off.
//
// All disks are looked at before the first is changed. Returns 0; ERROR_FAIL while the domain runs; ERROR_BADFAIL when some
// disks went back and others did not (do it again); else as libxl_disk_snapshot_delete.
//
// # Safety
// `snapshot` is NULL or points to `num` valid structs.
int libxl_disk_snapshot_revert(libxl_ctx *ctx,
                               int domid,
                               struct libxl_disk_snapshot *snapshot,
                               int num);

// Why the last call of one of the design's functions in this thread failed; NULL when that call succeeded.
//
// The functions are the design's seven (libxl_*_dom_snapshot_conf, libxl_list_dom_snapshot, libxl_disk_snapshot_create, _delete
// and _revert) and the _to_json and _from_json of both structs. No other function sets or clears it: not _init, _copy, _dispose
// and _free, so that a struct can be disposed of first, and not those of xlsnap_, which fill an xlsnap_error.
//
// The text has one line for what failed, then, indented, a line "because: ..." for each cause down to the first one, "now: ..."
// if something was or may have been changed, and "try: ..." if a remedy is known. Lines of a cause that has several are indented
// further. It ends without a line feed, and it is for people: a program decides by the code.
//
// Each thread has its own. The string belongs to the library, and lives until the thread calls one of those functions again or
// ends; copy it to keep it, or to give it to another thread.
const char *xlsnap_last_error(void);

// What the call that failed returned; 0 for NULL.
//
// # Safety
// `error` is NULL or was given by an `xlsnap_` function and not freed.
int xlsnap_error_status(const struct xlsnap_error *error);

// What is known of its effect: XLSNAP_EFFECT_NONE for NULL.
//
// # Safety
// `error` is NULL or was given by an `xlsnap_` function and not freed.
enum xlsnap_effect xlsnap_error_effect(const struct xlsnap_error *error);

// What failed, on which domain, disk or file; NULL for NULL. It lives as long as `error`.
//
// # Safety
// `error` is NULL or was given by an `xlsnap_` function and not freed.
const char *xlsnap_error_message(const struct xlsnap_error *error);

// Why: the cause `at` of the chain, from 0 on; NULL behind the last one. It lives as long as `error`.
//
// # Safety
// `error` is NULL or was given by an `xlsnap_` function and not freed.
const char *xlsnap_error_cause(const struct xlsnap_error *error,
                               size_t at);

// What to do about it; NULL when nothing is known to help. It lives as long as `error`.
//
// # Safety
// `error` is NULL or was given by an `xlsnap_` function and not freed.
const char *xlsnap_error_advice(const struct xlsnap_error *error);

// Frees an error. NULL is nothing to free.
//
// # Safety
// `error` is NULL or was given by an `xlsnap_` function and not freed.
void xlsnap_error_free(struct xlsnap_error *error);

// Compares a domain's records, images and journal. With `repair` not 0, does the repairs that can lose nothing.
//
// What it finds is no error: XLSNAP_STATUS_DONE says that it looked.
//
// # Safety
// `host` is open; `domain` is NULL or NUL-terminated; `findings` points to room for a pointer; `error` is NULL or does so too.
int xlsnap_check(const struct xlsnap_host *host,
                 const char *domain,
                 int repair,
                 struct xlsnap_findings **findings,
                 struct xlsnap_error **error);

// How many there are; 0 for NULL.
//
// # Safety
// `findings` is NULL or was given by xlsnap_check and not freed.
size_t xlsnap_findings_count(const struct xlsnap_findings *findings);

// The code of finding `at`, from 0 on: a word that stays the same from version to version. NULL behind the last.
//
// # Safety
// `findings` is NULL or was given by xlsnap_check and not freed.
const char *xlsnap_finding_code(const struct xlsnap_findings *findings,
                                size_t at);

// What was found, and what is at risk. NULL behind the last.
//
// # Safety
// `findings` is NULL or was given by xlsnap_check and not freed.
const char *xlsnap_finding_what(const struct xlsnap_findings *findings, size_t at);

// What to do, or what the repair did. NULL behind the last.
//
// # Safety
// `findings` is NULL or was given by xlsnap_check and not freed.
const char *xlsnap_finding_advice(const struct xlsnap_findings *findings, size_t at);

// Whether it was repaired: 1 or 0.
//
// # Safety
// `findings` is NULL or was given by xlsnap_check and not freed.
int xlsnap_finding_is_repaired(const struct xlsnap_findings *findings, size_t at);

// Frees the findings. NULL is nothing to free.
//
// # Safety
// `findings` is NULL or was given by xlsnap_check and not freed.
void xlsnap_findings_free(struct xlsnap_findings *findings);

// The version of the library: "0.1.0".
const char *xlsnap_version(void);

// Opens a host; nothing is read or made yet. `*host` is to be closed by xlsnap_host_close. `options` may be NULL.
//
// Returns XLSNAP_STATUS_DONE; XLSNAP_STATUS_INVALID; XLSNAP_STATUS_FAILED when nothing tells where the root is.
//
// # Safety
// `options` is NULL or as its `size` says, with strings that are NULL or NUL-terminated; `host` points to room for a pointer; `error`
// is NULL or does so too. The progress callback can be called as long as the host is open.
int xlsnap_host_open(const struct xlsnap_host_options *options,
                     struct xlsnap_host **host,
                     struct xlsnap_error **error);

// Closes a host that no thread uses any more. NULL is nothing to close.
//
// # Safety
// `host` is NULL or was given by xlsnap_host_open and not closed.
void xlsnap_host_close(struct xlsnap_host *host);

// Lists the snapshots of a domain. A record that cannot be read is not in it; xlsnap_check tells of it.
//
// # Safety
// `host` is open; `domain` is NULL or NUL-terminated; `listing` points to room for a pointer; `error` is NULL or does so too.
int xlsnap_list(const struct xlsnap_host *host,
                const char *domain,
                struct xlsnap_listing **listing,
                struct xlsnap_error **error);

// How many there are; 0 for NULL.
//
// # Safety
// `listing` is NULL or was given by xlsnap_list and not freed.
size_t xlsnap_listing_count(const struct xlsnap_listing *listing);

// The name of number `at`, from 0 on; NULL behind the last. It lives as long as the listing.
//
// # Safety
// `listing` is NULL or was given by xlsnap_list and not freed.
const char *xlsnap_listing_name(const struct xlsnap_listing *listing, size_t at);

// The name of the snapshot before it; NULL where none is known. It lives as long as the listing.
//
// # Safety
// `listing` is NULL or was given by xlsnap_list and not freed.
const char *xlsnap_listing_parent(const struct xlsnap_listing *listing, size_t at);

// When it was made, in seconds since 1970-01-01 UTC.
//
// # Safety
// `listing` is NULL or was given by xlsnap_list and not freed.
uint64_t xlsnap_listing_creation_time(const struct xlsnap_listing *listing, size_t at);

// Whether it was made or reverted to last: 1 or 0.
//
// # Safety
// `listing` is NULL or was given by xlsnap_list and not freed.
int xlsnap_listing_is_current(const struct xlsnap_listing *listing, size_t at);

// Frees a listing. NULL is nothing to free.
//
// # Safety
// `listing` is NULL or was given by xlsnap_list and not freed.
void xlsnap_listing_free(struct xlsnap_listing *listing);

// Makes a snapshot of a domain: all chosen disks at one instant, or nothing.
//
// `domain` is a name or a uuid. `*name`, if wanted, is the snapshot's name, to be freed by free(). `options`, `cancel`, `name` and
// `error` may be NULL. Cancelled, it is brought to an end: either made, or undone; the error's effect says which.
//
// # Safety
// `host` is open; strings are NULL or NUL-terminated; `options` is as its `size` says; `cancel` is not freed meanwhile; `name` and
// `error` are NULL or point to room for a pointer.
int xlsnap_create(const struct xlsnap_host *host,
                  const char *domain,
                  const struct xlsnap_create_options *options,
                  const struct xlsnap_cancel *cancel,
                  char **name,
                  struct xlsnap_error **error);

// Brings a domain back to a snapshot: its disks, and its guest's memory where that is part of it. A domain that is off stays off
// when its disks alone come back; the guest of one that runs is reset, or goes on where it was.
//
// Cancelled before its first effect it has none; later it is finished, as after a crash. See xlsnap_create for the arguments.
//
// # Safety
// As xlsnap_create.
int xlsnap_revert(const struct xlsnap_host *host,
                  const char *domain,
                  const char *name,
                  const struct xlsnap_revert_options *options,
                  const struct xlsnap_cancel *cancel,
                  struct xlsnap_error **error);

// Deletes a snapshot: its data in every image, then its record.
//
// Cancelled after its first effect it is finished. See xlsnap_create for the arguments.
//
// # Safety
// As xlsnap_create.
int xlsnap_delete(const struct xlsnap_host *host,
                  const char *domain,
                  const char *name,
                  const struct xlsnap_delete_options *options,
                  const struct xlsnap_cancel *cancel,
                  struct xlsnap_error **error);

// Makes disks stand on nothing: what is read from the files below their images is copied into these, while a guest that runs goes on.
// No snapshot is deleted, but those that the options mean.
//
// Cancelled, a disk stands on what it stood on, and another call goes on from what was copied. See xlsnap_create for the arguments.
//
// # Safety
// As xlsnap_create.
int xlsnap_flatten(const struct xlsnap_host *host,
                   const char *domain,
                   const struct xlsnap_flatten_options *options,
                   const struct xlsnap_cancel *cancel,
                   struct xlsnap_error **error);

// Fills `snapshot` with all that libxl's struct can hold of a snapshot. It is overwritten, not disposed of.
//
// # Safety
// `snapshot` points to room for the struct; else as xlsnap_create.
int xlsnap_show(const struct xlsnap_host *host,
                const char *domain,
                const char *name,
                struct libxl_domain_snapshot *snapshot,
                struct xlsnap_error **error);

// Finishes or undoes what a crash left, as every operation that changes something does first.
//
// `*what`, if wanted, says what was done, to be freed by free(); NULL when nothing was left.
//
// # Safety
// `what` is NULL or points to room for a pointer; else as xlsnap_create.
int xlsnap_recover(const struct xlsnap_host *host,
                   const char *domain,
                   char **what,
                   struct xlsnap_error **error);

// Makes everything that names files of a domain follow them, after they were moved or renamed: headers, records and the domain's file. No
// file is moved, and no data written.
//
// `from` are `count` names that files had, or directories with such files, absolute; `to` are as many, the names that they have now.
//
// Cancelled after its first effect it is finished. See xlsnap_create for the other arguments.
//
// # Safety
// `from` and `to` point to `count` strings each; else as xlsnap_create.
int xlsnap_relocate(const struct xlsnap_host *host,
                    const char *domain,
                    const char *const *from,
                    const char *const *to,
                    size_t count,
                    const struct xlsnap_cancel *cancel,
                    struct xlsnap_error **error);

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

// The struct as libxl-json, to be freed by the caller; NULL when `p` is NULL or a string in it is not UTF-8; xlsnap_last_error says which.
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
// Of a struct whose `disks` do not fit its `num_disks` the copy has the same number and no disks, so that every function that
// refuses the one refuses the other.
//
// # Safety
// Both are NULL or point to valid structs; what `dst` points to is not freed.
void libxl_domain_snapshot_copy(libxl_ctx *ctx,
                                struct libxl_domain_snapshot *dst,
                                const struct libxl_domain_snapshot *src);

// The struct as libxl-json, to be freed by the caller. NULL when `p` is NULL; a string in it is not UTF-8; `num_disks` is below 0 or
// above 65536, or above 0 while `disks` is NULL; or a flag is neither true nor false. xlsnap_last_error says which.
//
// # Safety
// `p` is NULL or points to a valid struct; `disks` is NULL or points to `num_disks` of them.
char *libxl_domain_snapshot_to_json(libxl_ctx *ctx,
                                    struct libxl_domain_snapshot *p);

// Fills `p`, which is as after init, from libxl-json, read as libxl reads it.
//
// Returns 0, or ERROR_FAIL when `s` is no JSON, a value is out of range or more than 65536 disks are listed; ERROR_INVAL when a
// pointer is NULL. Then `p`, unless it is NULL, is as after init.
//
// # Safety
// `p` is NULL or points to room for a struct; `s` is NULL or NUL-terminated.
int libxl_domain_snapshot_from_json(libxl_ctx *ctx,
                                    struct libxl_domain_snapshot *p,
                                    const char *s);

// Frees an array that `libxl_list_dom_snapshot` gave, with all that it points to.
//
// # Safety
// `list` is NULL or such an array of `num` structs, none of which is disposed of elsewhere.
void libxl_domain_snapshot_list_free(struct libxl_domain_snapshot *list, int num);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* LIBXL_SNAPSHOT_H */
