/*
 * queue.c - queues of the stand-in: one thread each does the work in order.
 *
 * A position in a queue means "everything up to here"; queues are never freed but used again, and count on, so that a
 * position stays meaningful. Normally every stream has a queue of its own. With STANDIN_ONE_QUEUE all streams of a
 * device share one, in the order of the calls, as if the device had one hardware queue (CUDA_DEVICE_MAX_CONNECTIONS=1):
 * a kernel that waits for work queued later waits for ever.
 *
 * What a thread submits happens before the work; what the work does happens before a wait for its position returns.
 * Nothing else is ordered: those who submit and those who work share no lock, so that ThreadSanitizer sees a missing
 * event as the race that it is. With STANDIN_DELAY every piece of work first sleeps now and then.
 */
#include "internal.h"

#include <semaphore.h>
#include <time.h>

struct op {
  struct op *next; /* atomic */
  si_work_fn *run;
  int device;
  bool always;
  max_align_t arg[];
};

struct si_queue {
  struct si_queue *next;
  int device;
  bool taken;           /* under list_lock */
  pthread_mutex_t lock; /* of those who submit: newest, pushed */
  struct op *newest;
  uint64_t pushed;
  sem_t ready;
  struct op *oldest; /* the worker's: the one done last */
  uint64_t random;
  pthread_mutex_t done_lock;
  pthread_cond_t more_done;
  uint64_t done; /* atomic; changed under done_lock */
};

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct si_queue *queues;

/* ---- the worker -------------------------------------------------------------------------------------------------- */

static uint64_t random_bits(struct si_queue *q) { /* xorshift */
  q->random ^= q->random << 13;
  q->random ^= q->random >> 7;
  q->random ^= q->random << 17;
  return q->random >> 11;
}

static void delay(struct si_queue *q) {
  const unsigned most = si_options()->delay_us;
  if (!most || random_bits(q) % 2) return;
  const struct timespec t = {0, (long)(random_bits(q) % most) * 1000};
  nanosleep(&t, NULL);
}

static void run(struct op *op) {
  si_device = op->device;
  if (!op->always && standin_broken(op->device) != cudaSuccess) return;
  const cudaError_t error = op->run(op->arg);
  if (error == cudaSuccess) return;
  si_say(1, "device %d is broken: %s", op->device, cudaGetErrorName(error));
  standin_break(op->device, error);
}

static void *work(void *arg) {
  struct si_queue *q = arg;
  pthread_setname_np(pthread_self(), "standin-queue");
  for (;;) {
    while (sem_wait(&q->ready)) continue; /* interrupted */
    struct op *op = __atomic_load_n(&q->oldest->next, __ATOMIC_ACQUIRE);
    free(q->oldest);
    q->oldest = op;
    delay(q);
    run(op);
    pthread_mutex_lock(&q->done_lock);
    __atomic_store_n(&q->done, q->done + 1, __ATOMIC_RELEASE);
    pthread_cond_broadcast(&q->more_done);
    pthread_mutex_unlock(&q->done_lock);
  }
  return NULL;
}

/* Under list_lock. */
static struct si_queue *new_queue(int device) {
  static uint64_t nqueues;
  struct si_queue *q = si_alloc(sizeof *q);
  pthread_t thread;
  q->device = device;
  q->random = (si_options()->seed + ++nqueues) * 0x9e3779b97f4a7c15 | 1;
  q->oldest = q->newest = si_alloc(sizeof *q->newest);
  pthread_mutex_init(&q->lock, NULL);
  pthread_mutex_init(&q->done_lock, NULL);
  pthread_cond_init(&q->more_done, NULL);
  sem_init(&q->ready, 0, 0);
  if (pthread_create(&thread, NULL, work, q)) si_die("no thread for a queue");
  pthread_detach(thread);
  q->next = queues;
  queues = q;
  return q;
}

/* ---- for the others ---------------------------------------------------------------------------------------------- */

static bool idle(struct si_queue *q) {
  pthread_mutex_lock(&q->lock);
  const uint64_t pushed = q->pushed;
  pthread_mutex_unlock(&q->lock);
  return __atomic_load_n(&q->done, __ATOMIC_RELAXED) == pushed;
}

struct si_queue *si_queue_take(int device) {
  const bool shared = si_options()->one_queue;
  pthread_mutex_lock(&list_lock);
  struct si_queue *q = queues;
  while (q && (shared ? q->device != device : q->taken || !idle(q))) q = q->next;
  if (!q) q = new_queue(device);
  q->taken = true;
  pthread_mutex_unlock(&list_lock);
  return q;
}

void si_queue_give_back(struct si_queue *queue) {
  pthread_mutex_lock(&list_lock);
  queue->taken = false;
  pthread_mutex_unlock(&list_lock);
}

struct si_position si_queue_push(struct si_queue *queue, int device, si_work_fn *fn, const void *arg, size_t bytes,
                                 bool always) {
  struct op *op = si_alloc(sizeof *op + bytes);
  op->run = fn;
  op->device = device;
  op->always = always;
  if (bytes) memcpy(op->arg, arg, bytes);
  pthread_mutex_lock(&queue->lock);
  __atomic_store_n(&queue->newest->next, op, __ATOMIC_RELEASE);
  queue->newest = op;
  const struct si_position position = {queue, ++queue->pushed};
  sem_post(&queue->ready);
  pthread_mutex_unlock(&queue->lock);
  return position;
}

bool si_reached(struct si_position p) { return !p.queue || __atomic_load_n(&p.queue->done, __ATOMIC_ACQUIRE) >= p.at; }

void si_wait(struct si_position p) {
  if (si_reached(p)) return;
  pthread_mutex_lock(&p.queue->done_lock);
  while (p.queue->done < p.at) pthread_cond_wait(&p.queue->more_done, &p.queue->done_lock);
  pthread_mutex_unlock(&p.queue->done_lock);
}
