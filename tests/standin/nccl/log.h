/*
 * log.h - NCCL's own log as evidence: which transport and which algorithm carried the data.
 */
#ifndef NCCL_LOG_H
#define NCCL_LOG_H

/* Has NCCL's log written to a new folder in $TMPDIR or /tmp, one file for each process; before NCCL is used. Its name
 * is printed; log_check removes it, so a failed test leaves it. */
void log_begin(void);

/* Fails unless every process's log shows that it uses the network `net`, and no connection over anything else, and the
 * logs together have lines that match each of the `npatterns` extended regular expressions. */
void log_check(const char *net, const char *const *patterns, int npatterns);

#endif
