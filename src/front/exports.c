/* exports.c - the functions that only pass on what they got. */
#include "front/real.h"

#define SYMBOL(name, parameters, arguments)                                                                            \
  nccl_result_t nccl##name parameters {                                                                                \
    const struct shmi_nccl *nccl = shmi_nccl_for(SHMI_CALLER());                                                       \
    return SHMI_NCCL_CALL(nccl, name, arguments);                                                                      \
  }                                                                                                                    \
  SHMI_SECOND_NAME(name)
#define OTHER(result, name, parameters, arguments, lacking)                                                            \
  result nccl##name parameters {                                                                                       \
    const struct shmi_nccl *nccl = shmi_nccl_for(SHMI_CALLER());                                                       \
    if (nccl && nccl->name) return nccl->name arguments;                                                               \
    shmi_nccl_lacks(nccl, "nccl" #name);                                                                               \
    return lacking;                                                                                                    \
  }                                                                                                                    \
  SHMI_SECOND_NAME(name)
#define OWN(name, parameters, arguments)
#define OWN_OTHER(result, name, parameters, arguments, lacking)
#include "front/symbols.def"
