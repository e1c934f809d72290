/*
 * points.h - places where tests/crash hurts a rank.
 *
 * Built with SHMI_POINTS, which only tests/crash does, every publish and every observe of ordering.h and every step by
 * which a segment comes to be and goes calls into the test, which may kill, stop or end the process there. On a GPU,
 * with tests/gpu/dawdle.cuh, kernels dawdle there. Elsewhere these are nothing: tests/crash/check_absent.sh looks for
 * them in what is shipped.
 */
#ifndef SHMI_POINTS_H
#define SHMI_POINTS_H

#ifdef SHMI_POINTS
#ifndef __CUDACC__
#include <stdint.h>
void shmi_point(const char *what);
/* An observe: a point if it sees another value than this thread last saw there, so that a spinning wait is one. */
void shmi_point_seen(const void *word, uint64_t value);
#endif
#define SHMI_POINT(what)             shmi_point(what)
#define SHMI_POINT_SEEN(word, value) shmi_point_seen(word, value)
#else
#define SHMI_POINT(what)             ((void)0)
#define SHMI_POINT_SEEN(word, value) ((void)0)
#endif

#endif
