/* messages.c - content of messages, and its comparison. */
#include "messages.h"

#include <string.h>

size_t message_bytes(const struct message *m) { return m->count * shmccl_datatype_size(m->type); }

struct message message_random(struct harness_random *r, int nranks, size_t most) {
  struct message m = {.from = (int)harness_below(r, (size_t)nranks), .to = (int)harness_below(r, (size_t)nranks)};
  m.type = (shmccl_datatype_t)harness_below(r, SHMCCL_DATATYPE_COUNT);
  const size_t limit = (size_t)1 << harness_below(r, 22);
  m.count = harness_below(r, 8) ? harness_below(r, limit < most ? limit : most) / shmccl_datatype_size(m.type) : 0;
  m.seed = harness_bits(r);
  return m;
}

static void write_content(const struct message *m, uint8_t *to) {
  struct harness_random r = harness_random(m->seed);
  for (size_t i = 0; i < message_bytes(m); i += 8) {
    const uint64_t bits = harness_bits(&r);
    memcpy(to + i, &bits, message_bytes(m) - i < 8 ? message_bytes(m) - i : 8);
  }
}

static void check_content(const struct message *m, const struct harness_buffer *b, const char *name) {
  struct harness_random r = harness_random(m->seed);
  harness_check_guards(b, name);
  for (size_t i = 0; i < message_bytes(m); i += 8) {
    const uint64_t bits = harness_bits(&r);
    CHECK_TEXT(!memcmp(b->data + i, &bits, message_bytes(m) - i < 8 ? message_bytes(m) - i : 8),
               "%s: byte %zu of %zu from rank %d to %d is wrong", name, i, message_bytes(m), m->from, m->to);
  }
}

void message_open(struct message *m, int rank, struct harness_random *own) {
  m->send = m->recv = (struct harness_buffer){0};
  if (m->from == rank) write_content(m, harness_take(&m->send, message_bytes(m), harness_below(own, 4)));
  if (m->to == rank) harness_take(&m->recv, message_bytes(m), harness_below(own, 4));
}

void message_refill(struct message *m, int rank) {
  if (m->from == rank) write_content(m, m->send.data);
  if (m->to == rank) memset(m->recv.data, HARNESS_POISON, message_bytes(m));
}

void message_check(const struct message *m, int rank) {
  if (m->from == rank) check_content(m, &m->send, "sent");
  if (m->to == rank) check_content(m, &m->recv, "received");
}

void message_release(struct message *m) {
  harness_release(&m->send);
  harness_release(&m->recv);
}

void message_close(struct message *m, int rank) {
  message_check(m, rank);
  message_release(m);
}
