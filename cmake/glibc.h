/* Included before everything. From glibc 2.38 on, <stdlib.h> and <stdio.h> turn strtol and scanf into C23's, which
 * older ones do not have: what is built here must run with glibc 2.35 (tests/install/check_files.sh). */
#include <features.h>

#ifdef __GLIBC_USE_C2X_STRTOL /* 2.38 */
#undef __GLIBC_USE_C2X_STRTOL
#define __GLIBC_USE_C2X_STRTOL 0
#endif
#ifdef __GLIBC_USE_C23_STRTOL /* 2.40 */
#undef __GLIBC_USE_C23_STRTOL
#define __GLIBC_USE_C23_STRTOL 0
#endif
