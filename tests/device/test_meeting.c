/*
 * test_meeting.c - the kernel with which calls by copy engines meet (coll/meeting.h): what it publishes, and that it
 * publishes nothing once a kernel of the communicator has left.
 */
#include "executor.h"

enum { STEP = 7, SIGNATURE = 42, MINE = 0, PEER = 1 };

struct stage {
  struct shmi_control controls[2];
  struct shmi_meeting meeting;
  uint64_t status;
  uint32_t leave, moved;
};

static uint64_t word_of(struct stage *s, int rank) { return shmi_step_of(&s->meeting.launch.world, rank, STEP)->word; }

/* The peer has come. */
static struct stage *new_stage(enum shmi_engine engine) {
  struct stage *s = aligned_alloc(SHMI_LINE, (sizeof *s + SHMI_LINE - 1) / SHMI_LINE * SHMI_LINE);
  CHECK(s);
  memset(s, 0, sizeof *s);
  s->meeting = (struct shmi_meeting){.step = STEP};
  s->meeting.launch = (struct shmi_launch){.leave = &s->leave, .status = &s->status, .patience_ns = 50000000};
  s->meeting.launch.call.signature = SIGNATURE;
  s->meeting.launch.call.engine = (uint8_t)engine;
  s->meeting.launch.world = (struct shmi_world){.rank = MINE,
                                                .nranks = 2,
                                                .control = (uint8_t *)s->controls,
                                                .control_stride = sizeof s->controls[0],
                                                .step_offset = offsetof(struct shmi_control, engine)};
  shmi_step_of(&s->meeting.launch.world, PEER, STEP)->word = shmi_word(STEP, SIGNATURE);
  return s;
}

static int run(struct stage *s) {
  pthread_barrier_t barrier;
  struct executor_shared shared = {0};
  struct shmi_block block = {.nthreads = 1, .barrier = &barrier, .shared = &shared};
  pthread_barrier_init(&barrier, NULL, 1);
  const int error = executor_run_meeting(&block, &s->meeting);
  pthread_barrier_destroy(&barrier);
  return error;
}

static void meets(void) {
  struct stage *s = new_stage(SHMI_BY_ENGINES);
  CHECK(run(s) == 0 && s->status == 0);
  CHECK(word_of(s, MINE) == shmi_word(STEP, SIGNATURE));
  free(s);
}

static void publishes_nothing_once_left(void) {
  struct stage *s = new_stage(SHMI_BY_ENGINES);
  s->status = shmi_status(SHMI_DEVICE_LATE, PEER, 3);
  CHECK(run(s) == SHMI_DEVICE_LATE);
  CHECK(word_of(s, MINE) == 0);
  free(s);
}

static void tells_disagreement(void) {
  struct stage *s = new_stage(SHMI_BY_ENGINES);
  shmi_step_of(&s->meeting.launch.world, PEER, STEP)->word = shmi_word(STEP, SIGNATURE + 1);
  CHECK(run(s) == SHMI_DEVICE_MISMATCH);
  executor_expect(s->status, MINE, SHMI_DEVICE_MISMATCH, PEER);
  free(s);
}

/* With CPUs it only says that copies are over, and waits for its own rank's word too. */
static void leaves_publishing_to_cpus(void) {
  struct stage *s = new_stage(SHMI_BY_ENGINES_AND_CPUS);
  s->meeting.moved = &s->moved;
  CHECK(run(s) == SHMI_DEVICE_LATE);
  executor_expect(s->status, MINE, SHMI_DEVICE_LATE, MINE);
  CHECK(s->moved == STEP && word_of(s, MINE) == 0);
  s->status = 0;
  shmi_step_of(&s->meeting.launch.world, MINE, STEP)->word = shmi_word(STEP, SIGNATURE);
  CHECK(run(s) == 0);
  free(s);
}

int main(void) {
  meets();
  publishes_nothing_once_left();
  tells_disagreement();
  leaves_publishing_to_cpus();
  return 0;
}
