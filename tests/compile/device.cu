/*
 * device.cu - the protocol and the element conversions compile for a GPU as they are: coll/step.h runs a block of CUDA
 * threads, coll/pair.h a sender and a receiver, reduce/convert.h one element of every type.
 *
 * A stand-in for the executor that the CUDA version will have: right in what it synchronises, slow in what it moves. It
 * is compiled, not run.
 */
#include "coll/pair.h"
#include "coll/plan.h"
#include "reduce/convert.h"

struct shmi_block {
  int tid, nthreads;
  uint32_t step;
  const struct shmi_world *world;
  const struct shmi_call *call;
  int *agreed; /* in shared memory */
};

static __device__ void shmi_block_sync(const struct shmi_block *b) {
  (void)b;
  __syncthreads();
}

static __device__ int shmi_block_agree(const struct shmi_block *b, int value) {
  if (b->tid == 0) *b->agreed = value;
  __syncthreads();
  value = *b->agreed;
  __syncthreads();
  return value;
}

/* Bounded: a peer that does not come must not hang the GPU. */
static __device__ int shmi_block_await(const struct shmi_block *b, uint32_t step) {
  for (int peer = 0; peer < b->world->nranks; peer++) {
    const uint64_t *place = &shmi_step_of(b->world, peer, step)->word;
    uint64_t word = shmi_observe64(place);
    for (int looks = 0; shmi_word_generation(word) != step; looks++) {
      if (looks == 1 << 20) return 6;
      word = shmi_observe64(place);
    }
    if (shmi_word_signature(word) != b->call->signature) return 8;
  }
  return 0;
}

static __device__ uint8_t *slot_of(const struct shmi_block *b, int rank, uint32_t step) {
  if (b->call->inline_data) return shmi_step_of(b->world, rank, step)->payload;
  return shmi_slot_of(b->world, rank, step) + shmi_place_of(b->call, step);
}

/* Sums of f32 only. */
static __device__ void operate_on(const struct shmi_block *b, const struct shmi_op *op, size_t i) {
  uint8_t *slot = op->to_slot ? slot_of(b, b->world->rank, b->step + 1) + op->to_offset : 0;
  const uint8_t *from = op->from_user ? op->from_user : slot_of(b, op->from_rank, b->step) + op->from_offset;
  uint32_t result = *(const uint32_t *)(from + i);
  if (op->kind == SHMI_OP_REDUCE) {
    float sum = 0.0f;
    for (int r = 0; r < b->world->nranks; r++) {
      const uint8_t *operand = r == b->world->rank ? op->from_user : slot_of(b, r, b->step) + op->from_offset;
      const float value = shmi_f32_from_bits(*(const uint32_t *)(operand + i));
      sum = r == 0 ? value : sum + value;
    }
    result = shmi_f32_canonical(sum);
  }
  if (slot) *(uint32_t *)(slot + i) = result;
  if (op->to_user) *(uint32_t *)(op->to_user + i) = result;
}

static __device__ void shmi_block_operate(const struct shmi_block *b, uint32_t turn) {
  for (int n = 0; n < shmi_plan_ops(b->world->nranks); n++) {
    struct shmi_op op;
    shmi_plan_op(b->call, b->world->nranks, b->world->rank, turn, n, &op);
    if (op.kind == SHMI_OP_NONE) continue;
    for (size_t i = 4 * (size_t)b->tid; i < op.bytes; i += 4 * (size_t)b->nthreads) operate_on(b, &op, i);
  }
}

#include "coll/step.h"

__global__ void run_call(struct shmi_world world, struct shmi_call call, uint32_t *steps, int *error) {
  __shared__ int agreed;
  struct shmi_block block = {(int)threadIdx.x, (int)blockDim.x, 0, &world, &call, &agreed};
  const int result = shmi_block_run(&block, steps);
  if (threadIdx.x == 0) *error = result;
}

__global__ void run_pair(struct shmi_world world, int peer, uint32_t number, uint32_t signature,
                         struct shmi_message_id message, uint32_t *come) {
  if (shmi_pair_has_room(&world, peer, number)) shmi_pair_publish(&world, peer, number, signature, &message);
  if (shmi_pair_has_come(&world, peer, number, come)) shmi_pair_empty(&world, peer, number);
  come[1] = shmi_peek32(come);
}

__global__ void convert_all(const float *in, uint32_t *out) {
  const float x = in[threadIdx.x];
  out[0] = shmi_f16_from_f32(x) | (uint32_t)shmi_bf16_from_f32(x) << 16;
  out[1] = shmi_e4m3_from_f32(x) | (uint32_t)shmi_e5m2_from_f32(x) << 8;
  out[2] = shmi_f32_bits(shmi_f16_to_f32((uint16_t)out[0]) + shmi_bf16_to_f32((uint16_t)(out[0] >> 16)));
  out[3] = shmi_f32_bits(shmi_e4m3_to_f32((uint8_t)out[1]) + shmi_e5m2_to_f32((uint8_t)(out[1] >> 8)));
  out[4] = shmi_f32_average(x, 3.0f) | shmi_i8_average((uint8_t)out[1], 3.0f) | shmi_i32_average(out[2], 3.0);
  out[5] = shmi_f32_from_max_key(shmi_f32_max_key(out[4])) | shmi_f32_from_min_key(shmi_f32_min_key(out[4]));
}
