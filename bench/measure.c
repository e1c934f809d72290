/*
 * Rounds.
 */
#include "measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A round lasts as long as the slowest party needs for ROUND_SECONDS of work, but the fastest (often thousands of calls
 * a second) gets FASTEST_SECONDS unless the slowest would then need more than SLOWEST_SECONDS. */
enum { GRAPH_ITERS = 20 }; /* of a graph at most, unless -n says otherwise */
static const double ROUND_SECONDS = 0.03, FASTEST_SECONDS = 0.005, SLOWEST_SECONDS = 0.3;

static enum party_result note(struct meter *meter, int party, enum party_result result) {
  if (result == PARTY_FAILED) meter->failed = meter->parties[party];
  return result;
}

static enum party_result tell(struct meter *meter, int party, const struct command *command, struct outcome *outcome) {
  return note(meter, party, party_do(meter->parties[party], command, outcome));
}

/* One run on known data; also finds out whether the party has such a call. */
static enum party_result check(struct meter *meter, int party, const struct point *point, struct measured *m) {
  struct command command = {.kind = COMMAND_CHECK, .point = *point, .graphs = (uint64_t)meter->options->graphs};
  struct outcome outcome;
  if (!meter->options->check) command.kind = COMMAND_TIME, command.iters = 1, command.graphs = 0;
  enum party_result result = tell(meter, party, &command, &outcome);
  if (result != PARTY_OK) return result;
  m->done = outcome.supported;
  m->wrong = outcome.wrong;
  memcpy(m->text, outcome.text, sizeof m->text);
  return PARTY_OK;
}

/* Seconds of one call: of a first one, and if that is short, of as many as take some milliseconds. */
static enum party_result estimate(struct meter *meter, int party, const struct point *point, double *seconds) {
  struct command command = {.kind = COMMAND_TIME, .point = *point, .iters = 1, .warmup = 1};
  struct outcome outcome;
  enum party_result result = tell(meter, party, &command, &outcome);
  double launch = outcome.seconds * point->messages;
  if (result == PARTY_OK && launch < 1e-3) {
    command.iters = (uint64_t)fmin(3e-3 / fmax(launch, 1e-7), 1000);
    result = tell(meter, party, &command, &outcome);
    launch = outcome.seconds * point->messages;
  }
  *seconds = result == PARTY_OK ? fmax(launch, 1e-9) : 0;
  return result;
}

static enum party_result choose_iters(struct meter *meter, int nparties, const struct point *point,
                                      const struct measured *m, struct command *command) {
  const struct options *o = meter->options;
  double fastest = INFINITY, slowest = 0;
  for (int i = 0; i < nparties && o->iters < 0; i++) {
    double seconds;
    if (!m[i].done) continue;
    enum party_result result = estimate(meter, i, point, &seconds);
    if (result != PARTY_OK) return result;
    fastest = fmin(fastest, seconds);
    slowest = fmax(slowest, seconds);
  }
  double iters = fmin(fmax(ROUND_SECONDS / slowest, FASTEST_SECONDS / fastest), SLOWEST_SECONDS / slowest);
  if (o->graphs) iters = fmin(iters / (double)o->graphs, GRAPH_ITERS);
  command->iters = (uint64_t)fmax((double)o->skip + 1, fmin(iters, EACH_MOST));
  if (o->iters > 0) command->iters = (uint64_t)o->iters;
  uint64_t warmup = command->iters / 5 < 1 ? 1 : command->iters / 5 > 5 ? 5 : command->iters / 5;
  command->warmup = o->warmup >= 0 ? (uint64_t)o->warmup : warmup;
  return PARTY_OK;
}

/* One party's round; with -I its iterations too, behind those of the rounds before. */
static enum party_result run_round(struct meter *meter, int party, const struct command *command, double *each,
                                   struct measured *m) {
  double iterations[EACH_MOST];
  struct outcome outcome;
  enum party_result result = note(meter, party, party_do_each(meter->parties[party], command, &outcome, iterations));
  if (result != PARTY_OK) return result;
  m->rounds[m->nrounds++] = outcome.seconds;
  for (uint64_t i = (uint64_t)meter->options->skip; command->each && i < command->iters; i++)
    each[m->each.count++] = iterations[i];
  return PARTY_OK;
}

static enum party_result run_rounds(struct meter *meter, int nparties, const struct command *command, double **each,
                                    struct measured *m) {
  int rounds = (int)meter->options->rounds;
  for (int turn = 0; turn < rounds * nparties; turn++) {
    int round = turn / nparties, place = turn % nparties, party = round % 2 ? nparties - 1 - place : place;
    if (!m[party].done) continue;
    enum party_result result = run_round(meter, party, command, each[party], &m[party]);
    if (result != PARTY_OK) return result;
  }
  return PARTY_OK;
}

static void conclude(struct measured *m, uint64_t iters, double *each) {
  double rounds[ROUNDS_MOST];
  memcpy(rounds, m->rounds, sizeof rounds);
  m->seconds = summarize(rounds, (size_t)m->nrounds).p50;
  m->iters = iters;
  m->each = summarize(each, m->each.count);
}

enum party_result measure(struct meter *meter, int nparties, const struct point *point, struct measured *m) {
  const struct options *o = meter->options;
  struct command command = {.kind = COMMAND_TIME, .point = *point, .each = o->each > 0, .graphs = (uint64_t)o->graphs};
  double *each[PARTIES_MOST] = {0};
  enum party_result result = PARTY_OK;
  memset(m, 0, (size_t)nparties * sizeof *m);
  for (int i = 0; i < nparties && result == PARTY_OK; i++) result = check(meter, i, point, &m[i]);
  if (result == PARTY_OK) result = choose_iters(meter, nparties, point, m, &command);
  for (int i = 0; i < nparties && command.each && result == PARTY_OK; i++) {
    each[i] = malloc((size_t)o->rounds * command.iters * sizeof **each);
    if (!each[i]) result = note(meter, i, party_fail(meter->parties[i], "no memory for its iterations"));
  }
  if (result == PARTY_OK) result = run_rounds(meter, nparties, &command, each, m);
  for (int i = 0; i < nparties; i++) {
    if (result == PARTY_OK && m[i].done) conclude(&m[i], command.iters, each[i]);
    free(each[i]);
  }
  return result;
}
