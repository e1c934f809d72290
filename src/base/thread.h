/* thread.h - threads of the library inside the program's process. */
#ifndef SHMI_THREAD_H
#define SHMI_THREAD_H

#include <pthread.h>

/* As pthread_create(), with all signals blocked: they are the program's, whose handlers must not run here. */
int shmi_thread_start(pthread_t *thread, void *(*run)(void *), void *context);

#endif
