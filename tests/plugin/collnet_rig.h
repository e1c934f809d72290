/*
 * collnet_rig.h - the built plugin's CollNet, loaded and called as NCCL does, any version alike.
 */
#ifndef COLLNET_RIG_H
#define COLLNET_RIG_H

#include <stdbool.h>

#include "harness.h"
#include "plugin/nccl_collnet.h"

enum { RIG_OLDEST = 8, RIG_NEWEST = 12, RIG_RANKS = 8, RIG_LINE = 512 };

/* The plugin's file, opened once per process. */
void *rig_symbol(const char *name);

/* A table of one version. The members that differ between versions are called through the functions below. */
struct rig {
  int version;
  const nccl_collnet_v8_t *old;   /* version 8 */
  const nccl_collnet_v9_t *plain; /* 9, 10 */
  const nccl_collnet_v12_t *late; /* 11, 12: only get_properties differs, which is not called */
  void *context;
  nccl_collnet_connect_v8 *connect;
  nccl_collnet_reduce_support_v8 *reduce_support;
  nccl_net_reg_mr_v8 *reg_mr;
  nccl_net_dereg_mr_v8 *dereg_mr;
  nccl_collnet_iflush_v8 *iflush;
  nccl_collnet_test_v8 *test;
  nccl_net_close_v8 *close_coll, *close_listen;
};

/* Loads that version, checks what all versions promise, and initialises it with rig_logger. */
struct rig rig_open(int version);
void rig_finalize(const struct rig *rig);
nccl_result_t rig_listen(const struct rig *rig, int device, void *handle, void **listen_comm);
nccl_result_t rig_iallreduce(const struct rig *rig, void *coll, void *sendbuf, void *recvbuf, size_t count,
                             nccl_datatype_t type, nccl_redop_t op, void *send_mhandle, void *recv_mhandle,
                             void **request);

/* NCCL's side of the log: counts warnings, keeps the last one. */
void rig_logger(nccl_log_level_t level, unsigned long subsystems, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* How many warnings there were in this process since the last call, and the last of them. */
int rig_warnings(char last[RIG_LINE]);

/* The call returns `wanted` and warns once, in a line that holds every one of `words`, separated by '|'. */
void rig_expect(nccl_result_t got, nccl_result_t wanted, const char *words, const char *file, int line,
                const char *call);
#define EXPECT(call, code, words) rig_expect((call), (code), (words), __FILE__, __LINE__, #call)
/* It returns `code` and warns nobody. */
#define EXPECT_QUIETLY(call, code) rig_expect((call), (code), NULL, __FILE__, __LINE__, #call)

/* Where ranks leave their handles for the others, in memory that they share; once per communicator. */
struct rig_exchange {
  uint32_t written[RIG_RANKS];
  char handles[RIG_RANKS][NCCL_NET_HANDLE_BYTES];
};
struct rig_exchange *rig_exchanges(int count); /* before the ranks start */

/* Listens, leaves the handle, waits for the others' handles; pointers to them in `handles`. */
void *rig_meet(const struct rig *rig, struct rig_exchange *exchange, int rank, int nranks, void *handles[RIG_RANKS]);
/* Waits until all ranks are here; one exchange serves one such meeting. */
void rig_barrier(struct rig_exchange *exchange, int rank, int nranks);
/* The whole set-up, which must succeed. */
void *rig_connect(const struct rig *rig, struct rig_exchange *exchange, int rank, int nranks);

/* test() until it is done or fails. */
nccl_result_t rig_wait(const struct rig *rig, void *request, int *bytes);

#endif
