/* peers.h - whether GPUs reach each other (P2P), asked of NVML. */
#ifndef SHMI_PEERS_H
#define SHMI_PEERS_H

/* "0000:01:00.0" and more, as CUDA writes it. */
enum { SHMI_BUS_ID_BYTES = 32 };

/* Of all GPUs of this machine: 1 some pair can reach each other, 0 none can, or there are no two, -1 the driver does
 * not say. Without NVML there is no driver, hence no GPU. */
int shmi_gpus_have_p2p(void);

/* Of these GPUs, by bus id, the same one twice or not: as above. Without NVML: -1, unless this is WSL2, which has none.
 */
int shmi_gpus_reach(const char *const *bus_ids, int count);

#endif
