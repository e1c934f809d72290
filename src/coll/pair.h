/*
 * pair.h - the protocol between one sender and one receiver.
 *
 * Messages from rank a to rank b go through SHMI_PAIR_SLOTS slots of a's staging, cut into pieces that are numbered
 * from 1 on, over all messages. a publishes {number, signature of the message} in the slot's word once the piece is
 * there; b publishes in its own line how many it has emptied. a writes piece x when x - emptied <= slots, so a slot's
 * word holds number x or x - slots when x is awaited: equality is enough, and the numbers may wrap. Every line has one
 * writer.
 */
#ifndef SHMI_PAIR_H
#define SHMI_PAIR_H

#include "shm/layout.h"

/* Sender: is there a free slot for piece `number` to rank `to`? */
SHMI_FN int shmi_pair_has_room(const struct shmi_world *w, int to, uint32_t number) {
  return number - shmi_observe32(&shmi_pair_in_of(w, to, w->rank)->emptied) <= SHMI_PAIR_SLOTS;
}

/* Sender: the piece is in shmi_pair_slot_of(w, w->rank, to, number). */
SHMI_FN void shmi_pair_publish(const struct shmi_world *w, int to, uint32_t number, uint32_t signature,
                               const struct shmi_message_id *message) {
  struct shmi_pair_out *out = shmi_pair_out_of(w, w->rank, to);
  out->message[number % SHMI_PAIR_SLOTS] = *message;
  shmi_publish64(&out->word[number % SHMI_PAIR_SLOTS], shmi_word(number, signature));
}

/* Receiver: has piece `number` of rank `from` come? If so, *signature is its message's. */
SHMI_FN int shmi_pair_has_come(const struct shmi_world *w, int from, uint32_t number, uint32_t *signature) {
  const uint64_t word = shmi_observe64(&shmi_pair_out_of(w, from, w->rank)->word[number % SHMI_PAIR_SLOTS]);
  *signature = shmi_word_signature(word);
  return shmi_word_generation(word) == number;
}

/* Receiver: everything up to piece `number` has been read. */
SHMI_FN void shmi_pair_empty(const struct shmi_world *w, int from, uint32_t number) {
  shmi_publish32(&shmi_pair_in_of(w, w->rank, from)->emptied, number);
}

#endif
