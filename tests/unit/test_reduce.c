/*
 * test_reduce.c - the reduction layer against reference.c, bit for bit, for every instruction set that the CPU has.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fenv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "reduce/convert.h"
#include "reduce/isa.h"
#include "reduce/reduce.h"
#include "reference.h"

#define LENGTH(array) (sizeof(array) / sizeof *(array))

enum { GUARD = 128, MAX_ALIGNMENT = 64 };

static const char *const isa_names[] = {"generic", "avx2", "avx512"};
static const char *const type_names[] = {"int8",    "uint8",   "int32",   "uint32",   "int64",      "uint64",
                                         "float16", "float32", "float64", "bfloat16", "float8e4m3", "float8e5m2"};
static const char *const op_names[] = {"sum", "prod", "max", "min", "avg"};

/* ---- random numbers: splitmix64 -------------------------------------------------------------------------------- */

static uint64_t random_state;

static uint64_t random_bits(void) {
  uint64_t z = random_state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

static size_t random_below(size_t limit) { return (size_t)(random_bits() % limit); }

/* ---- one comparison -------------------------------------------------------------------------------------------- */

static void fail_at(const char *isa, shmccl_datatype_t type, shmccl_redop_t op, const void *const *srcs, int n,
                    size_t count, size_t i, const void *got, const void *want) {
  const size_t size = shmccl_datatype_size(type);
  uint64_t element = 0;
  print_error("%s %s %s, n %d, element %zu of %zu:", isa, type_names[type], op_names[op], n, i, count);
  for (int k = 0; k < n; k++) {
    memcpy(&element, (const char *)srcs[k] + i * size, size);
    print_error(" %llx", (unsigned long long)element);
  }
  memcpy(&element, (const char *)got + i * size, size);
  print_error(" gives %llx", (unsigned long long)element);
  memcpy(&element, (const char *)want + i * size, size);
  print_error(" instead of %llx\n", (unsigned long long)element);
  fail();
}

/* Reduces with one implementation into a guarded buffer, which takes the place of srcs[in_place] unless that is -1. */
static void check_isa(const shmi_isa_t *isa, shmccl_datatype_t type, shmccl_redop_t op, const void *const *srcs, int n,
                      size_t count, int in_place, const void *want) {
  const size_t size = shmccl_datatype_size(type), bytes = count * size;
  unsigned char *buffer = malloc(bytes + 2 * GUARD + MAX_ALIGNMENT);
  assert_non_null(buffer);
  memset(buffer, 0xa5, bytes + 2 * GUARD + MAX_ALIGNMENT);
  unsigned char *dst = buffer + GUARD + random_below(MAX_ALIGNMENT);
  const void *sources[SHMCCL_MAX_RANKS];
  memcpy(sources, srcs, (size_t)n * sizeof *srcs);
  if (in_place >= 0) sources[in_place] = memcpy(dst, srcs[in_place], bytes);

  const shmi_fpenv_t env = shmi_fpenv_enter();
  isa->reduce[type][op](dst, sources, n, count);
  shmi_fpenv_leave(env);

  for (size_t i = 0; i < count; i++)
    if (memcmp(dst + i * size, (const char *)want + i * size, size) != 0)
      fail_at(isa->name, type, op, srcs, n, count, i, dst, want);
  for (unsigned char *p = buffer; p < dst; p++) assert_int_equal(*p, 0xa5);
  for (unsigned char *p = dst + bytes; p < buffer + bytes + 2 * GUARD + MAX_ALIGNMENT; p++) assert_int_equal(*p, 0xa5);
  free(buffer);
}

static void check(shmccl_datatype_t type, shmccl_redop_t op, const void *const *srcs, int n, size_t count,
                  int in_place) {
  void *want = malloc(count * shmccl_datatype_size(type) + 1);
  assert_non_null(want);
  reference_reduce(want, srcs, n, count, type, op);
  for (size_t i = 0; i < LENGTH(isa_names); i++) {
    const shmi_isa_t *isa = shmi_isa_find(isa_names[i]);
    if (isa) check_isa(isa, type, op, srcs, n, count, in_place, want);
  }
  free(want);
}

/* ---- inputs ---------------------------------------------------------------------------------------------------- */

typedef struct {
  int width, fraction;
} layout;

static const layout layouts[SHMCCL_DATATYPE_COUNT] = {
    [SHMCCL_FLOAT16] = {16, 10}, [SHMCCL_FLOAT32] = {32, 23},  [SHMCCL_FLOAT64] = {64, 52},
    [SHMCCL_BFLOAT16] = {16, 7}, [SHMCCL_FLOAT8E4M3] = {8, 3}, [SHMCCL_FLOAT8E5M2] = {8, 2},
};

static void put(void *array, size_t i, shmccl_datatype_t type, uint64_t bits) {
  const size_t size = shmccl_datatype_size(type);
  memcpy((char *)array + i * size, &bits, size);
}

/* Any bits; or, for floats, exponents close to 1, so that sums and products round instead of overflowing. */
static uint64_t random_element(shmccl_datatype_t type, int tame) {
  const layout l = layouts[type];
  const uint64_t bits = random_bits();
  if (!l.width || !tame) return bits;
  const uint64_t sign = (bits >> 63) << (l.width - 1);
  const uint64_t bias = ((uint64_t)1 << (l.width - 2 - l.fraction)) - 1;
  const uint64_t field = bias - 3 + (bits >> 60) % 6;
  return sign | field << l.fraction | (bits & (((uint64_t)1 << l.fraction) - 1));
}

/* The places where rules change: zeros, denormals, ones, largest, infinities, NaNs of both signs and any payload. */
static size_t special_elements(shmccl_datatype_t type, uint64_t *out) {
  const layout l = layouts[type];
  size_t count = 0;
  const int width = l.width ? l.width : 8 * (int)shmccl_datatype_size(type);
  const uint64_t top = (uint64_t)1 << (width - 1);
  const uint64_t small[] = {0, 1, 2, 3, 7, 10, top - 1, top - 2, top / 2, top / 2 + 1, top / 2 - 1};
  for (size_t i = 0; i < LENGTH(small); i++) out[count++] = small[i], out[count++] = small[i] | top;
  if (!l.width) return count;
  const uint64_t normal = (uint64_t)1 << l.fraction, special = (top - 1) >> l.fraction << l.fraction;
  const uint64_t one = (special >> 1) & ~(normal - 1), ulp_of_one = one - (uint64_t)(l.fraction + 1) * normal;
  const uint64_t floats[] = {normal,
                             normal - 1,
                             normal + 1,
                             2 * normal - 1,
                             special,
                             special - 1,
                             special - 2,
                             special + 1,
                             special + normal / 2,
                             one,
                             one + 1,
                             one - 1,
                             one + normal,
                             one + normal / 2,
                             ulp_of_one,
                             ulp_of_one + 1,
                             ulp_of_one - normal};
  for (size_t i = 0; i < LENGTH(floats); i++)
    out[count++] = floats[i] & (top - 1), out[count++] = (floats[i] & (top - 1)) | top;
  return count;
}

/* All pairs of the elements, by every operator, as two sources and with a third one behind them. */
static void check_pairs(shmccl_datatype_t type, const uint64_t *elements, size_t count) {
  const size_t pairs = count * count, size = shmccl_datatype_size(type);
  void *a = malloc(pairs * size), *b = malloc(pairs * size), *c = malloc(pairs * size);
  assert_true(a && b && c);
  for (size_t i = 0; i < pairs; i++) {
    put(a, i, type, elements[i / count]);
    put(b, i, type, elements[i % count]);
    put(c, i, type, elements[(i / 7 + i) % count]);
  }
  for (int op = 0; op < SHMCCL_REDOP_COUNT; op++) {
    check(type, (shmccl_redop_t)op, (const void *[]){a, b}, 2, pairs, -1);
    check(type, (shmccl_redop_t)op, (const void *[]){a, b, c}, 3, pairs, -1);
  }
  free(a), free(b), free(c);
}

/* ---- tests ----------------------------------------------------------------------------------------------------- */

/* Runs first: the choice is made once in a process, so each is made in a child of one that has made none. */
static void isa_from_environment(void **state) {
  (void)state;
  const char *const best = shmi_isa_find(NULL)->name;
  const char *const values[] = {NULL, "generic", "avx2", "avx512", "mmx", ""};
  for (size_t i = 0; i < LENGTH(values); i++) {
    const char *want = values[i] && shmi_isa_find(values[i]) ? values[i] : best;
    fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
      if (values[i])
        setenv("SHMCCL_ISA", values[i], 1);
      else
        unsetenv("SHMCCL_ISA");
      _exit(strcmp(shmi_reduce_isa(), want) != 0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
  }
}

static void lookup_gives_the_chosen_isa(void **state) {
  (void)state;
  const shmi_isa_t *isa = shmi_isa_find(shmi_reduce_isa());
  for (int type = 0; type < SHMCCL_DATATYPE_COUNT; type++)
    for (int op = 0; op < SHMCCL_REDOP_COUNT; op++) {
      const shmi_reduce_fn reduce = shmi_reduce_lookup((shmccl_datatype_t)type, (shmccl_redop_t)op);
      assert_true(reduce && reduce == isa->reduce[type][op]);
    }
}

static float widen(shmccl_datatype_t type, uint64_t bits) {
  switch (type) {
  case SHMCCL_FLOAT16: return shmi_f16_to_f32((uint16_t)bits);
  case SHMCCL_BFLOAT16: return shmi_bf16_to_f32((uint16_t)bits);
  case SHMCCL_FLOAT8E4M3: return shmi_e4m3_to_f32((uint8_t)bits);
  default: return shmi_e5m2_to_f32((uint8_t)bits);
  }
}

static uint64_t narrow(shmccl_datatype_t type, float value) {
  switch (type) {
  case SHMCCL_FLOAT16: return shmi_f16_from_f32(value);
  case SHMCCL_BFLOAT16: return shmi_bf16_from_f32(value);
  case SHMCCL_FLOAT8E4M3: return shmi_e4m3_from_f32(value);
  default: return shmi_e5m2_from_f32(value);
  }
}

static uint64_t average(shmccl_datatype_t type, float sum, int n) {
  switch (type) {
  case SHMCCL_FLOAT16: return shmi_f16_average(sum, (float)n);
  case SHMCCL_BFLOAT16: return shmi_bf16_average(sum, (float)n);
  case SHMCCL_FLOAT8E4M3: return shmi_e4m3_average(sum, (float)n);
  default: return shmi_e5m2_average(sum, (float)n);
  }
}

static const shmccl_datatype_t small_floats[] = {SHMCCL_FLOAT16, SHMCCL_BFLOAT16, SHMCCL_FLOAT8E4M3, SHMCCL_FLOAT8E5M2};

static void every_small_float_round_trips(void **state) {
  (void)state;
  for (size_t t = 0; t < LENGTH(small_floats); t++) {
    const shmccl_datatype_t type = small_floats[t];
    for (uint64_t bits = 0; bits >> layouts[type].width == 0; bits++) {
      const float value = widen(type, bits);
      const uint64_t want = reference_convert(bits, type, SHMCCL_FLOAT32);
      if (value != value)
        assert_int_equal(want, SHMI_F32_NAN);
      else
        assert_int_equal(shmi_f32_bits(value), want);
      /* Unchanged, but for NaN and, in e5m2, infinity. */
      const uint64_t back = narrow(type, value);
      assert_int_equal(back, reference_convert(bits, type, type));
      if (value == value && value - value == 0) assert_int_equal(back, bits);
    }
  }
}

static void check_narrow(shmccl_datatype_t type, uint32_t f32) {
  const uint64_t got = narrow(type, shmi_f32_from_bits(f32)), want = reference_convert(f32, SHMCCL_FLOAT32, type);
  if (got == want) return;
  print_error("f32 %x to %s gives %llx instead of %llx\n", f32, type_names[type], (unsigned long long)got,
              (unsigned long long)want);
  fail();
}

static void f32_rounds_to_small_floats(void **state) {
  (void)state;
  for (size_t t = 0; t < LENGTH(small_floats); t++) {
    const shmccl_datatype_t type = small_floats[t];
    for (uint64_t bits = random_below(2039); bits >> 32 == 0; bits += 2039) check_narrow(type, (uint32_t)bits);
    /* Every number of every binade, every tie, and the neighbours of both; rounding in the denormals is below. */
    const int shift = 23 - layouts[type].fraction;
    for (uint64_t bits = 0; bits >> 32 == 0; bits += (uint64_t)1 << (shift - 1))
      for (int step = -1; step <= 1; step++) check_narrow(type, (uint32_t)bits + (uint32_t)step);
    for (uint64_t bits = 0; bits < (uint64_t)3 << layouts[type].fraction; bits++) {
      const float tie = (float)(((double)widen(type, bits) + (double)widen(type, bits + 1)) / 2);
      for (int step = -1; step <= 1; step++) {
        check_narrow(type, shmi_f32_bits(tie) + (uint32_t)step);
        check_narrow(type, (shmi_f32_bits(tie) + (uint32_t)step) | 0x80000000u);
      }
    }
  }
}

/* The sums whose quotient is closest to a tie, where rounding it twice would show. */
static void averages_round_once(void **state) {
  (void)state;
  for (size_t t = 0; t < LENGTH(small_floats); t++) {
    const shmccl_datatype_t type = small_floats[t];
    const uint64_t limit = ((uint64_t)1 << (layouts[type].width - 1)) - 1;
    const uint64_t stride = limit > 1000 ? 5 : 1;
    for (uint64_t bits = random_below(stride); bits < limit; bits += stride) {
      const double lower = (double)widen(type, bits), upper = (double)widen(type, bits + 1);
      if (!(upper - lower > 0) || upper - upper != 0) continue;
      for (int n = 2; n <= SHMCCL_MAX_RANKS; n++) {
        const float near = (float)((lower + upper) / 2 * n);
        for (int step = -2; step <= 2; step++) {
          uint32_t sum = shmi_f32_bits(near) + (uint32_t)step;
          if (sum >= SHMI_F32_INF) continue;
          /* A sum of bf16 numbers is a multiple of the smallest one. */
          if (type == SHMCCL_BFLOAT16 && near < 0x1p-110f) sum = shmi_f32_bits(near + (float)step * 0x1p-133f);
          if (sum >= SHMI_F32_INF) continue;
          const uint64_t got = average(type, shmi_f32_from_bits(sum), n), want = reference_average(sum, n, type);
          if (got == want) continue;
          print_error("f32 %x / %d to %s gives %llx instead of %llx\n", sum, n, type_names[type],
                      (unsigned long long)got, (unsigned long long)want);
          fail();
        }
      }
    }
  }
}

static void every_pair_of_fp8(void **state) {
  (void)state;
  uint64_t all[256];
  for (size_t i = 0; i < 256; i++) all[i] = i;
  check_pairs(SHMCCL_FLOAT8E4M3, all, 256);
  check_pairs(SHMCCL_FLOAT8E5M2, all, 256);
}

static void every_pair_of_special_elements(void **state) {
  (void)state;
  for (int type = 0; type < SHMCCL_DATATYPE_COUNT; type++) {
    uint64_t elements[160];
    size_t count = special_elements((shmccl_datatype_t)type, elements);
    for (int i = 0; i < 64; i++) elements[count++] = random_element((shmccl_datatype_t)type, i % 2);
    check_pairs((shmccl_datatype_t)type, elements, count);
  }
}

/* Any type, operator, number of sources, count, alignment, in place or not. */
static void check_random(shmccl_datatype_t type, shmccl_redop_t op, int n, size_t count) {
  const size_t size = shmccl_datatype_size(type), pitch = count * size + MAX_ALIGNMENT;
  const int tame = random_below(3) != 0;
  char *memory = malloc(pitch * (size_t)n);
  assert_non_null(memory);
  const void *srcs[SHMCCL_MAX_RANKS];
  for (int k = 0; k < n; k++) {
    char *array = memory + (size_t)k * pitch + random_below(MAX_ALIGNMENT);
    for (size_t i = 0; i < count; i++) put(array, i, type, random_element(type, tame));
    srcs[k] = array;
  }
  check(type, op, srcs, n, count, (int)random_below((size_t)n + 1) - 1);
  free(memory);
}

static void random_reductions(void **state) {
  (void)state;
  static const size_t counts[] = {0,  1,  2,  3,  5,  7,   8,   9,   15,  16,  17,  31,   32,   33,
                                  47, 63, 64, 65, 96, 127, 129, 255, 511, 512, 513, 1000, 1023, 1025};
  for (int type = 0; type < SHMCCL_DATATYPE_COUNT; type++)
    for (int op = 0; op < SHMCCL_REDOP_COUNT; op++) {
      for (size_t i = 0; i < LENGTH(counts); i++)
        for (int n = 2; n <= 4; n++) check_random((shmccl_datatype_t)type, (shmccl_redop_t)op, n, counts[i]);
      for (int n = 5; n <= SHMCCL_MAX_RANKS; n++)
        check_random((shmccl_datatype_t)type, (shmccl_redop_t)op, n, random_below(150));
    }
  for (int type = 0; type < SHMCCL_DATATYPE_COUNT; type++)
    check_random((shmccl_datatype_t)type, SHMCCL_AVG, SHMCCL_MAX_RANKS, 1100);
}

static void in_place_of_every_source(void **state) {
  (void)state;
  double arrays[5][700];
  const void *srcs[5];
  for (int k = 0; k < 5; k++) {
    for (int i = 0; i < 700; i++) arrays[k][i] = (double)random_below(1000) / 7;
    srcs[k] = arrays[k];
  }
  for (int k = 0; k < 5; k++) check(SHMCCL_FLOAT64, SHMCCL_SUM, srcs, 5, 700, k);
  for (int k = 0; k < 2; k++) check(SHMCCL_FLOAT64, SHMCCL_SUM, srcs, 2, 700, k);
}

#ifdef __x86_64__
/* The caller's flush-to-zero, denormals-are-zero, rounding, traps and sticky flags neither matter nor change. */
static void caller_control_word(void **state) {
  (void)state;
  static const uint32_t controls[] = {0x1f80, 0x9fc0 /* FTZ, DAZ */, 0x5f80 /* up */, 0xffc3 /* all, and flags */,
                                      0x0000 /* every trap on */};
  const uint32_t before = _mm_getcsr();
  for (size_t i = 0; i < LENGTH(controls); i++) {
    for (int type = SHMCCL_FLOAT16; type < SHMCCL_DATATYPE_COUNT; type++) {
      uint64_t elements[160];
      const size_t count = special_elements((shmccl_datatype_t)type, elements);
      uint64_t a[160], b[160], want[160], got[160];
      for (size_t k = 0; k < count; k++) {
        put(a, k, (shmccl_datatype_t)type, elements[k]);
        put(b, k, (shmccl_datatype_t)type, elements[(k * 7 + 3) % count]);
      }
      for (int op = 0; op < SHMCCL_REDOP_COUNT; op++) {
        const void *const srcs[] = {a, b, a};
        reference_reduce(want, srcs, 3, count, (shmccl_datatype_t)type, (shmccl_redop_t)op);
        _mm_setcsr(controls[i]);
        const shmi_fpenv_t env = shmi_fpenv_enter();
        shmi_reduce_lookup((shmccl_datatype_t)type, (shmccl_redop_t)op)(got, srcs, 3, count);
        shmi_fpenv_leave(env);
        const uint32_t after = _mm_getcsr();
        _mm_setcsr(before);
        /* Nothing was changed if nothing had to be, and then the flags are the hardware's to raise. */
        assert_int_equal(after & ~(controls[i] == 0x1f80 ? 0x3fu : 0u), controls[i]);
        assert_memory_equal(got, want, count * shmccl_datatype_size((shmccl_datatype_t)type));
      }
    }
  }
}
#else
static void caller_control_word(void **state) {
  (void)state;
  fesetround(FE_UPWARD);
  const float third[] = {1.0f, 3.0f};
  const void *const srcs[] = {third, third + 1};
  float want, got;
  reference_reduce(&want, srcs, 2, 1, SHMCCL_FLOAT32, SHMCCL_AVG);
  const shmi_fpenv_t env = shmi_fpenv_enter();
  shmi_reduce_lookup(SHMCCL_FLOAT32, SHMCCL_AVG)(&got, srcs, 2, 1);
  shmi_fpenv_leave(env);
  assert_int_equal(fegetround(), FE_UPWARD);
  fesetround(FE_TONEAREST);
  assert_memory_equal(&got, &want, sizeof got);
}
#endif

static void stream_copies(void **state) {
  (void)state;
  static const size_t sizes[] = {0, 1, 63, 64, 65, 127, 128, 1000, 4096, 70001};
  for (size_t i = 0; i < LENGTH(isa_names); i++) {
    const shmi_isa_t *isa = shmi_isa_find(isa_names[i]);
    for (size_t s = 0; isa && s < LENGTH(sizes); s++)
      for (int round = 0; round < 20; round++) {
        const size_t bytes = sizes[s], room = bytes + 2 * GUARD;
        unsigned char *src = malloc(room), *dst = malloc(room), *want = malloc(room);
        assert_true(src && dst && want);
        for (size_t k = 0; k < room; k++) src[k] = (unsigned char)random_bits();
        memset(dst, 0xa5, room);
        memset(want, 0xa5, room);
        const size_t from = random_below(GUARD), to = random_below(GUARD);
        isa->stream_copy(dst + to, src + from, bytes);
        shmi_stream_fence();
        memcpy(want + to, src + from, bytes);
        assert_memory_equal(dst, want, room);
        free(src), free(dst), free(want);
      }
  }
}

int main(void) {
  const char *seed = getenv("SHMCCL_TEST_SEED");
  random_state = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL);
  printf("SHMCCL_TEST_SEED=%llu\n", (unsigned long long)random_state);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(isa_from_environment),
      cmocka_unit_test(lookup_gives_the_chosen_isa),
      cmocka_unit_test(every_small_float_round_trips),
      cmocka_unit_test(f32_rounds_to_small_floats),
      cmocka_unit_test(averages_round_once),
      cmocka_unit_test(every_pair_of_fp8),
      cmocka_unit_test(every_pair_of_special_elements),
      cmocka_unit_test(random_reductions),
      cmocka_unit_test(in_place_of_every_source),
      cmocka_unit_test(caller_control_word),
      cmocka_unit_test(stream_copies),
  };
  return cmocka_run_group_tests_name("reduce", tests, NULL, NULL);
}
