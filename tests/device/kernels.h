/* kernels.h - makes the kernels of coll/kernels.h known to the stand-in CUDA runtime. */
#ifndef DEVICE_KERNELS_H
#define DEVICE_KERNELS_H

void device_kernels_register(void);

#endif
