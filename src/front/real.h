/*
 * real.h - the real NCCL behind the front: where it is, its functions, and forwarding to them.
 *
 * It is looked for at the first call, once: the file that SHMCCL_NCCL_LIB names; else what comes next in the program's
 * own search order (LD_PRELOAD); else a libnccl.so.2 that is loaded already; else the wheel that PyTorch depends on;
 * else the system's search. Whatever is this library, or a copy of it, is passed over.
 */
#ifndef SHMI_REAL_H
#define SHMI_REAL_H

#include "base/log.h"
#include "front/nccl_api.h"

/* One loaded NCCL. A function that it lacks is NULL. */
struct shmi_nccl {
  const void *base; /* where its file is mapped: tells its own calls from others' */
  int version;
#define SYMBOL(name, parameters, arguments)                 nccl_result_t(*name) parameters;
#define OTHER(result, name, parameters, arguments, lacking) result(*name) parameters;
#include "front/symbols.def"
};

enum { NCCL_OLDEST = 22000 }; /* what the front was made for; older ones get everything, and nothing is diverted */

/* The real NCCL; NULL if there is none, which is logged once, and kept for ncclGetLastError(). */
const struct shmi_nccl *shmi_nccl_real(void);

/* The NCCL that a caller means: its own, if the caller is code of an NCCL. Parts of NCCL call others by name and find
 * this library first; with two NCCLs in a process they must get back to where they came from. NULL as above. */
const struct shmi_nccl *shmi_nccl_for(const void *caller);
/* Whether the caller is code of an NCCL. */
int shmi_nccl_calls(const void *caller);

/* What a call gets for which there is no function, in no NCCL or in the one found; kept for ncclGetLastError(). */
nccl_result_t shmi_nccl_lacks(const struct shmi_nccl *nccl, const char *name);

/* Calls a function of `nccl` (may be NULL, may lack it); keeps in mind whose error was the last. */
#define SHMI_NCCL_CALL(nccl, name, arguments)                                                                          \
  ((nccl) && (nccl)->name ? shmi_front_theirs((nccl)->name arguments) : shmi_nccl_lacks((nccl), "nccl" #name))

#define SHMI_CALLER() __builtin_return_address(0)

/* ---- error.c: the last error, whoever had it --------------------------------------------------------------------- */

/* An error of the front or its engine: text is what ncclGetLastError() says now. The value is `result`. */
nccl_result_t shmi_front_error(nccl_result_t result, const char *text);
/* The real NCCL's result: an error makes its text the last one again. The value is `result`. */
nccl_result_t shmi_front_theirs(nccl_result_t result);
/* The engine's, with the line that it logged. */
nccl_result_t shmi_front_engine(shmccl_result_t result);

#endif
