/* unknown.c - a module that needs a function of CUDA that the stand-in does not have: see test_mistakes.c. */
int cudaMemPrefetchAsync(void);
int unknown(void);

int unknown(void) { return cudaMemPrefetchAsync(); }
