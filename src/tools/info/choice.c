/* choice.c - asks shmi_select() what it would do, size by size, and puts together what is alike. */
#include <sys/mman.h>

#include "tools/info/info.h"

enum { ELEMENT = 4 }; /* float32 */
static const uint64_t COUNT_MOST = 1ull << 28;

/* A communicator as far as selection looks at it. */
static bool make_comm(const struct info *info, shmccl_comm_t *comm) {
  void *nothing = mmap(NULL, info->plan.total_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (nothing == MAP_FAILED) return false;
  *comm = (shmccl_comm_t){.nranks = info->nranks, .options = info->options, .oversubscribed = info->oversubscribed};
  comm->world = shmi_layout_world(&info->plan, nothing, 0);
  return true;
}

static struct shmi_call ask(const shmccl_comm_t *comm, uint32_t collective, uint64_t count) {
  struct shmi_call c = {.id = {.collective = collective, .datatype = SHMCCL_FLOAT32, .count = count},
                        .element = ELEMENT};
  shmi_select(comm, &c);
  return c;
}

/* Bytes of the larger of sendbuf and recvbuf, as shmccl-perf counts them. */
static uint64_t size_of(const shmccl_comm_t *comm, const struct shmi_call *c) {
  const bool blocks = shmi_has_blocks(c) || c->id.collective == SHMI_ALLGATHER || c->id.collective == SHMI_GATHER;
  return c->id.count * ELEMENT * (blocks ? (uint64_t)comm->nranks : 1);
}

static uint64_t staged_bytes(const shmccl_comm_t *comm, const struct shmi_call *c) {
  return c->chunk * ELEMENT * (shmi_has_blocks(c) ? (uint64_t)comm->nranks : 1);
}

static bool alike(const struct shmi_call *a, const struct shmi_call *b) {
  return a->two_shot == b->two_shot && a->inline_data == b->inline_data && (a->nchunks == 1) == (b->nchunks == 1);
}

/* The largest count that is treated as `first` is: gallops, then halves. */
static uint64_t last_alike(const shmccl_comm_t *comm, const struct shmi_call *first) {
  uint64_t same = first->id.count, other = COUNT_MOST + 1;
  for (uint64_t count = same; count <= COUNT_MOST; count *= 2) {
    const struct shmi_call c = ask(comm, first->id.collective, count);
    if (!alike(first, &c)) {
      other = count;
      break;
    }
    same = count;
  }
  while (other - same > 1) {
    const uint64_t middle = same + (other - same) / 2;
    const struct shmi_call c = ask(comm, first->id.collective, middle);
    *(alike(first, &c) ? &same : &other) = middle;
  }
  return same;
}

static const char *algorithm_of(const struct shmi_call *c) {
  const bool has_choice = c->id.collective == SHMI_ALLREDUCE || c->id.collective == SHMI_REDUCE;
  return !has_choice ? "direct" : c->two_shot ? "two-shot" : "one-shot";
}

static uint64_t choose_row(struct info *info, const shmccl_comm_t *comm, uint32_t collective, uint64_t count) {
  const struct shmi_call first = ask(comm, collective, count);
  const struct shmi_call last = ask(comm, collective, last_alike(comm, &first));
  info->choices[info->nchoices++] = (struct choice){.collective = shmi_collective_names[collective],
                                                    .algorithm = algorithm_of(&first),
                                                    .first_bytes = size_of(comm, &first),
                                                    .last_bytes = size_of(comm, &last),
                                                    .is_last = last.id.count == COUNT_MOST,
                                                    .beside_flag = first.inline_data,
                                                    .one_step = first.nchunks == 1,
                                                    .chunk_least = staged_bytes(comm, &first),
                                                    .chunk_most = staged_bytes(comm, &last)};
  return last.id.count;
}

void info_choose(struct info *info) {
  shmccl_comm_t comm;
  if (!make_comm(info, &comm)) return;
  for (uint32_t collective = 0; collective < SHMI_BARRIER; collective++)
    for (uint64_t count = 1; count <= COUNT_MOST && info->nchoices < CHOICES_MOST; count++)
      count = choose_row(info, &comm, collective, count);
  munmap(comm.world.control - info->plan.control_offset, info->plan.total_bytes);
}
