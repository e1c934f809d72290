/*
 * abi.h - what NCCL and a plugin say to each other: net v8 to v12, collnet v8 to v12, tuner v2 to v6 (NCCL 2.20
 * to 2.30).
 *
 * Declared for the driver alone, from NCCL's published interface, so that a mistake in the plugin's own declarations
 * shows here. Names are NCCL's. Sizes and offsets of LP64 are asserted at the end.
 */
#ifndef DRIVER_ABI_H
#define DRIVER_ABI_H

#include <stddef.h>
#include <stdint.h>

/* ---- common types ------------------------------------------------------------------------------------------------ */

typedef enum {
  ncclSuccess,
  ncclUnhandledCudaError,
  ncclSystemError,
  ncclInternalError,
  ncclInvalidArgument,
  ncclInvalidUsage,
  ncclRemoteError,
  ncclInProgress
} ncclResult_t;

typedef enum {
  NCCL_LOG_NONE,
  NCCL_LOG_VERSION,
  NCCL_LOG_WARN,
  NCCL_LOG_INFO,
  NCCL_LOG_ABORT,
  NCCL_LOG_TRACE
} ncclDebugLogLevel;
typedef void (*ncclDebugLogger_t)(ncclDebugLogLevel level, unsigned long flags, const char *file, int line,
                                  const char *format, ...);
typedef ncclResult_t (*ncclProfilerCallback_t)(void **event, int type, void *parent, int64_t plugin, void *data);

enum {
  NCCL_NET_HANDLE_MAXSIZE = 128,
  NCCL_NET_MAX_REQUESTS = 32,
  NCCL_STEPS = 8,
  NCCL_PTR_HOST = 1,
  NCCL_PTR_CUDA = 2,
  NCCL_PTR_DMABUF = 4,
  NCCL_NET_OPTIONAL_RECV_COMPLETION = 1,
  NCCL_NET_DEVICE_HOST = 0,
};

enum { ncclAllReduce = 4, ncclNumFuncs = 15 };
enum { NCCL_ALGO_TREE, NCCL_ALGO_RING, NCCL_ALGO_COLLNET_DIRECT, NCCL_ALGO_COLLNET_CHAIN, NCCL_MAX_ALGOS = 7 };
enum { NCCL_PROTO_LL, NCCL_PROTO_LL128, NCCL_PROTO_SIMPLE, NCCL_PROTOS };
typedef enum {
  ncclInt8,
  ncclUint8,
  ncclInt32,
  ncclUint32,
  ncclInt64,
  ncclUint64,
  ncclFloat16,
  ncclFloat32,
  ncclFloat64,
  ncclBfloat16,
  ncclFloat8e4m3,
  ncclFloat8e5m2,
  ncclNumTypes
} ncclDataType_t;
typedef enum { ncclSum, ncclProd, ncclMax, ncclMin, ncclAvg } ncclRedOp_t;

typedef struct {
  int netDeviceType, netDeviceVersion;
  void *handle;
  size_t size;
  int needsProxyProgress;
} ncclNetDeviceHandle_t; /* v8 to v12 */

typedef struct {
  int trafficClass;
} ncclNetCommConfig_t; /* v10 to v12 */

typedef struct {
  int32_t maxConcurrentPeers, minConcurrentPeers, maxFlowsPerPeer, minFlowsPerPeer;
} ncclNetCommAttr_t;
typedef struct {
  ncclNetCommAttr_t sendCommAttr, recvCommAttr;
  uint32_t op, algo, proto;
} ncclNetAttr_t; /* v11, v12 */

typedef struct {
  void *mhandle, *address;
  uint32_t size;
} ncclNetSGE_v8_t;
typedef struct {
  void *mhandle, *address;
  size_t size;
} ncclNetSGE_v9_t; /* to v12 */

/* ---- net properties ---------------------------------------------------------------------------------------------- */

typedef struct {
  char *name, *pciPath;
  uint64_t guid;
  int ptrSupport, regIsGlobal, speed, port;
  float latency;
  int maxComms, maxRecvs, netDeviceType, netDeviceVersion;
} ncclNetProperties_v8_t;

typedef struct {
  int ndevs, devs[4];
} ncclNetVDeviceProps_v9_t; /* to v11 */
typedef struct {
  int ndevs, devs[8];
} ncclNetVDeviceProps_v12_t;

typedef struct {
  char *name, *pciPath;
  uint64_t guid;
  int ptrSupport, regIsGlobal, forceFlush, speed, port;
  float latency;
  int maxComms, maxRecvs, netDeviceType, netDeviceVersion;
  ncclNetVDeviceProps_v9_t vProps;
  size_t maxP2pBytes, maxCollBytes;
} ncclNetProperties_v9_t; /* and v10 */

typedef struct {
  char *name, *pciPath;
  uint64_t guid;
  int ptrSupport, regIsGlobal, forceFlush, speed, port;
  float latency;
  int maxComms, maxRecvs, netDeviceType, netDeviceVersion;
  ncclNetVDeviceProps_v9_t vProps;
  size_t maxP2pBytes, maxCollBytes;
  int maxMultiRequestSize;
} ncclNetProperties_v11_t;

typedef struct {
  char *name, *pciPath;
  uint64_t guid;
  int ptrSupport, regIsGlobal, forceFlush, speed, port;
  float latency;
  int maxComms, maxRecvs, netDeviceType, netDeviceVersion;
  ncclNetVDeviceProps_v12_t vProps;
  size_t maxP2pBytes, maxCollBytes;
  int maxMultiRequestSize;
  int16_t railId, planeId;
} ncclNetProperties_v12_t;

/* ---- net tables -------------------------------------------------------------------------------------------------- */

typedef struct {
  const char *name;
  ncclResult_t (*init)(ncclDebugLogger_t logger);
  ncclResult_t (*devices)(int *ndev);
  ncclResult_t (*getProperties)(int dev, ncclNetProperties_v8_t *props);
  ncclResult_t (*listen)(int dev, void *handle, void **listenComm);
  ncclResult_t (*connect)(int dev, void *handle, void **sendComm, ncclNetDeviceHandle_t **sendDevComm);
  ncclResult_t (*accept)(void *listenComm, void **recvComm, ncclNetDeviceHandle_t **recvDevComm);
  ncclResult_t (*regMr)(void *comm, void *data, size_t size, int type, void **mhandle);
  ncclResult_t (*regMrDmaBuf)(void *comm, void *data, size_t size, int type, uint64_t offset, int fd, void **mhandle);
  ncclResult_t (*deregMr)(void *comm, void *mhandle);
  ncclResult_t (*isend)(void *sendComm, void *data, int size, int tag, void *mhandle, void **request);
  ncclResult_t (*irecv)(void *recvComm, int n, void **data, int *sizes, int *tags, void **mhandles, void **request);
  ncclResult_t (*iflush)(void *recvComm, int n, void **data, int *sizes, void **mhandles, void **request);
  ncclResult_t (*test)(void *request, int *done, int *sizes);
  ncclResult_t (*closeSend)(void *sendComm);
  ncclResult_t (*closeRecv)(void *recvComm);
  ncclResult_t (*closeListen)(void *listenComm);
  ncclResult_t (*getDeviceMr)(void *comm, void *mhandle, void **dptr);
  ncclResult_t (*irecvConsumed)(void *recvComm, int n, void *request);
} ncclNet_v8_t;

typedef struct {
  const char *name;
  ncclResult_t (*init)(ncclDebugLogger_t logger);
  ncclResult_t (*devices)(int *ndev);
  ncclResult_t (*getProperties)(int dev, ncclNetProperties_v9_t *props);
  ncclResult_t (*listen)(int dev, void *handle, void **listenComm);
  ncclResult_t (*connect)(int dev, void *handle, void **sendComm, ncclNetDeviceHandle_t **sendDevComm);
  ncclResult_t (*accept)(void *listenComm, void **recvComm, ncclNetDeviceHandle_t **recvDevComm);
  ncclResult_t (*regMr)(void *comm, void *data, size_t size, int type, void **mhandle);
  ncclResult_t (*regMrDmaBuf)(void *comm, void *data, size_t size, int type, uint64_t offset, int fd, void **mhandle);
  ncclResult_t (*deregMr)(void *comm, void *mhandle);
  ncclResult_t (*isend)(void *sendComm, void *data, size_t size, int tag, void *mhandle, void **request);
  ncclResult_t (*irecv)(void *recvComm, int n, void **data, size_t *sizes, int *tags, void **mhandles, void **request);
  ncclResult_t (*iflush)(void *recvComm, int n, void **data, int *sizes, void **mhandles, void **request);
  ncclResult_t (*test)(void *request, int *done, int *sizes);
  ncclResult_t (*closeSend)(void *sendComm);
  ncclResult_t (*closeRecv)(void *recvComm);
  ncclResult_t (*closeListen)(void *listenComm);
  ncclResult_t (*getDeviceMr)(void *comm, void *mhandle, void **dptr);
  ncclResult_t (*irecvConsumed)(void *recvComm, int n, void *request);
  ncclResult_t (*makeVDevice)(int *dev, ncclNetVDeviceProps_v9_t *props);
} ncclNet_v9_t;

typedef struct {
  const char *name;
  ncclResult_t (*init)(ncclDebugLogger_t logger, ncclProfilerCallback_t profiler);
  ncclResult_t (*devices)(int *ndev);
  ncclResult_t (*getProperties)(int dev, ncclNetProperties_v9_t *props);
  ncclResult_t (*listen)(int dev, void *handle, void **listenComm);
  ncclResult_t (*connect)(int dev, ncclNetCommConfig_t *config, void *handle, void **sendComm,
                          ncclNetDeviceHandle_t **sendDevComm);
  ncclResult_t (*accept)(void *listenComm, void **recvComm, ncclNetDeviceHandle_t **recvDevComm);
  ncclResult_t (*regMr)(void *comm, void *data, size_t size, int type, void **mhandle);
  ncclResult_t (*regMrDmaBuf)(void *comm, void *data, size_t size, int type, uint64_t offset, int fd, void **mhandle);
  ncclResult_t (*deregMr)(void *comm, void *mhandle);
  ncclResult_t (*isend)(void *sendComm, void *data, size_t size, int tag, void *mhandle, void *phandle, void **request);
  ncclResult_t (*irecv)(void *recvComm, int n, void **data, size_t *sizes, int *tags, void **mhandles, void **phandles,
                        void **request);
  ncclResult_t (*iflush)(void *recvComm, int n, void **data, int *sizes, void **mhandles, void **request);
  ncclResult_t (*test)(void *request, int *done, int *sizes);
  ncclResult_t (*closeSend)(void *sendComm);
  ncclResult_t (*closeRecv)(void *recvComm);
  ncclResult_t (*closeListen)(void *listenComm);
  ncclResult_t (*getDeviceMr)(void *comm, void *mhandle, void **dptr);
  ncclResult_t (*irecvConsumed)(void *recvComm, int n, void *request);
  ncclResult_t (*makeVDevice)(int *dev, ncclNetVDeviceProps_v9_t *props);
} ncclNet_v10_t;

/* v11 and v12 differ in the properties alone. */
#define NCCL_NET_SINCE_V11(table, properties, vdevice)                                                                 \
  typedef struct {                                                                                                     \
    const char *name;                                                                                                  \
    ncclResult_t (*init)(void **ctx, uint64_t commId, ncclNetCommConfig_t *config, ncclDebugLogger_t logger,           \
                         ncclProfilerCallback_t profiler);                                                             \
    ncclResult_t (*devices)(int *ndev);                                                                                \
    ncclResult_t (*getProperties)(int dev, properties *props);                                                         \
    ncclResult_t (*listen)(void *ctx, int dev, void *handle, void **listenComm);                                       \
    ncclResult_t (*connect)(void *ctx, int dev, void *handle, void **sendComm, ncclNetDeviceHandle_t **sendDevComm);   \
    ncclResult_t (*accept)(void *listenComm, void **recvComm, ncclNetDeviceHandle_t **recvDevComm);                    \
    ncclResult_t (*regMr)(void *comm, void *data, size_t size, int type, void **mhandle);                              \
    ncclResult_t (*regMrDmaBuf)(void *comm, void *data, size_t size, int type, uint64_t offset, int fd,                \
                                void **mhandle);                                                                       \
    ncclResult_t (*deregMr)(void *comm, void *mhandle);                                                                \
    ncclResult_t (*isend)(void *sendComm, void *data, size_t size, int tag, void *mhandle, void *phandle,              \
                          void **request);                                                                             \
    ncclResult_t (*irecv)(void *recvComm, int n, void **data, size_t *sizes, int *tags, void **mhandles,               \
                          void **phandles, void **request);                                                            \
    ncclResult_t (*iflush)(void *recvComm, int n, void **data, int *sizes, void **mhandles, void **request);           \
    ncclResult_t (*test)(void *request, int *done, int *sizes);                                                        \
    ncclResult_t (*closeSend)(void *sendComm);                                                                         \
    ncclResult_t (*closeRecv)(void *recvComm);                                                                         \
    ncclResult_t (*closeListen)(void *listenComm);                                                                     \
    ncclResult_t (*getDeviceMr)(void *comm, void *mhandle, void **dptr);                                               \
    ncclResult_t (*irecvConsumed)(void *recvComm, int n, void *request);                                               \
    ncclResult_t (*makeVDevice)(int *dev, vdevice *props);                                                             \
    ncclResult_t (*finalize)(void *ctx);                                                                               \
    ncclResult_t (*setNetAttr)(void *ctx, ncclNetAttr_t *attr);                                                        \
  } table
NCCL_NET_SINCE_V11(ncclNet_v11_t, ncclNetProperties_v11_t, ncclNetVDeviceProps_v9_t);
NCCL_NET_SINCE_V11(ncclNet_v12_t, ncclNetProperties_v12_t, ncclNetVDeviceProps_v12_t);

/* ---- collnet tables ---------------------------------------------------------------------------------------------- */

typedef struct {
  const char *name;
  ncclResult_t (*init)(ncclDebugLogger_t logger);
  ncclResult_t (*devices)(int *ndev);
  ncclResult_t (*getProperties)(int dev, ncclNetProperties_v8_t *props);
  ncclResult_t (*listen)(int dev, void *handle, void **listenComm);
  ncclResult_t (*connect)(void *handles[], int nranks, int rank, void *listenComm, void **collComm);
  ncclResult_t (*reduceSupport)(ncclDataType_t type, ncclRedOp_t op, int *supported);
  ncclResult_t (*regMr)(void *collComm, void *data, size_t size, int type, void **mhandle);
  ncclResult_t (*regMrDmaBuf)(void *collComm, void *data, size_t size, int type, uint64_t offset, int fd,
                              void **mhandle);
  ncclResult_t (*deregMr)(void *collComm, void *mhandle);
  ncclResult_t (*iallreduce)(void *collComm, void *sendData, void *recvData, int count, ncclDataType_t type,
                             ncclRedOp_t op, void *sendMhandle, void *recvMhandle, void **request);
  ncclResult_t (*iallgather)(void *collComm, void *sendData, int nRecvParts, ncclNetSGE_v8_t *recvParts,
                             size_t bytesPerRank, size_t windowOffset, size_t windowBytes, void *sendMhandle,
                             void **request);
  ncclResult_t (*ireducescatter)(void *collComm, int nSendParts, ncclNetSGE_v8_t *sendParts, void *recvData,
                                 size_t bytesPerRank, size_t windowOffset, size_t windowBytes, ncclDataType_t type,
                                 ncclRedOp_t op, void *recvMhandle, void **request);
  ncclResult_t (*iflush)(void *collComm, void *data, int size, void *mhandle, void **request);
  ncclResult_t (*test)(void *request, int *done, int *size);
  ncclResult_t (*closeColl)(void *collComm);
  ncclResult_t (*closeListen)(void *listenComm);
} ncclCollNet_v8_t;

/* From v9 on; v11 puts a context before the arguments of init and listen. */
#define NCCL_COLLNET_SINCE_V9(table, properties, vdevice, init_arguments, listen_arguments, last)                      \
  typedef struct {                                                                                                     \
    const char *name;                                                                                                  \
    ncclResult_t(*init) init_arguments;                                                                                \
    ncclResult_t (*devices)(int *ndev);                                                                                \
    ncclResult_t (*getProperties)(int dev, properties *props);                                                         \
    ncclResult_t(*listen) listen_arguments;                                                                            \
    ncclResult_t (*connect)(void *handles[], int nranks, int rank, void *listenComm, void **collComm);                 \
    ncclResult_t (*reduceSupport)(ncclDataType_t type, ncclRedOp_t op, int *supported);                                \
    ncclResult_t (*regMr)(void *collComm, void *data, size_t size, int type, void **mhandle);                          \
    ncclResult_t (*regMrDmaBuf)(void *collComm, void *data, size_t size, int type, uint64_t offset, int fd,            \
                                void **mhandle);                                                                       \
    ncclResult_t (*deregMr)(void *collComm, void *mhandle);                                                            \
    ncclResult_t (*iallreduce)(void *collComm, void *sendData, void *recvData, size_t count, ncclDataType_t type,      \
                               ncclRedOp_t op, void *sendMhandle, void *recvMhandle, void **request);                  \
    ncclResult_t (*iallgather)(void *collComm, void *sendData, int nRecvParts, ncclNetSGE_v9_t *recvParts,             \
                               size_t bytesPerRank, size_t windowOffset, size_t windowBytes, void *sendMhandle,        \
                               void **request);                                                                        \
    ncclResult_t (*ireducescatter)(void *collComm, int nSendParts, ncclNetSGE_v9_t *sendParts, void *recvData,         \
                                   size_t bytesPerRank, size_t windowOffset, size_t windowBytes, ncclDataType_t type,  \
                                   ncclRedOp_t op, void *recvMhandle, void **request);                                 \
    ncclResult_t (*iflush)(void *collComm, void *data, int size, void *mhandle, void **request);                       \
    ncclResult_t (*test)(void *request, int *done, int *size);                                                         \
    ncclResult_t (*closeColl)(void *collComm);                                                                         \
    ncclResult_t (*closeListen)(void *listenComm);                                                                     \
    ncclResult_t (*makeVDevice)(int *dev, vdevice *props);                                                             \
    last                                                                                                               \
  } table
NCCL_COLLNET_SINCE_V9(ncclCollNet_v9_t, ncclNetProperties_v9_t, ncclNetVDeviceProps_v9_t, (ncclDebugLogger_t logger),
                      (int dev, void *handle, void **listenComm), ); /* and v10 */
NCCL_COLLNET_SINCE_V9(ncclCollNet_v11_t, ncclNetProperties_v11_t, ncclNetVDeviceProps_v9_t,
                      (void **ctx, uint64_t commId, ncclDebugLogger_t logger),
                      (void *ctx, int dev, void *handle, void **listenComm), ncclResult_t (*finalize)(void *ctx););
NCCL_COLLNET_SINCE_V9(ncclCollNet_v12_t, ncclNetProperties_v12_t, ncclNetVDeviceProps_v12_t,
                      (void **ctx, uint64_t commId, ncclDebugLogger_t logger),
                      (void *ctx, int dev, void *handle, void **listenComm), ncclResult_t (*finalize)(void *ctx););

/* ---- tuner tables ------------------------------------------------------------------------------------------------ */

typedef struct {
  int nNvlDomains, minRanksPerNvlDomain, maxRanksPerNvlDomain;
} ncclNvlDomainInfo_v5_t;

typedef struct {
  double baseLatencies[NCCL_MAX_ALGOS][NCCL_PROTOS];
  double hwLatencies[3][NCCL_MAX_ALGOS][NCCL_PROTOS];
  double llMaxBws[4][3], perChMaxRingLL128Bws[4][3], perChMaxTreeLL128Bws[4][3], perChMaxTreeBws[4][3],
      perChMaxNVLSTreeBws[4][3];
} ncclTunerConstants_v5_t;

typedef struct {
  const char *name;
  ncclResult_t (*init)(size_t nRanks, size_t nNodes, ncclDebugLogger_t logger, void **context);
  ncclResult_t (*getCollInfo)(void *context, int func, size_t nBytes, int collNetSupport, int nvlsSupport,
                              int numPipeOps, int *algorithm, int *protocol, int *nChannels);
  ncclResult_t (*destroy)(void *context);
} ncclTuner_v2_t;

typedef struct {
  const char *name;
  ncclResult_t (*init)(size_t nRanks, size_t nNodes, ncclDebugLogger_t logger, void **context);
  ncclResult_t (*getCollInfo)(void *context, int func, size_t nBytes, int numPipeOps, float **collCostTable,
                              int numAlgo, int numProto, int *nChannels);
  ncclResult_t (*destroy)(void *context);
} ncclTuner_v3_t;

typedef struct {
  const char *name;
  ncclResult_t (*init)(size_t nRanks, size_t nNodes, ncclDebugLogger_t logger, void **context);
  ncclResult_t (*getCollInfo)(void *context, int func, size_t nBytes, int numPipeOps, float **collCostTable,
                              int numAlgo, int numProto, int regBuff, int *nChannels);
  ncclResult_t (*destroy)(void *context);
} ncclTuner_v4_t;

typedef struct {
  const char *name;
  ncclResult_t (*init)(void **context, uint64_t commId, size_t nRanks, size_t nNodes, ncclDebugLogger_t logger,
                       ncclNvlDomainInfo_v5_t *nvlDomainInfo, ncclTunerConstants_v5_t *constants);
  ncclResult_t (*getCollInfo)(void *context, int func, size_t nBytes, int numPipeOps, float **collCostTable,
                              int numAlgo, int numProto, int regBuff, int *nChannels);
  ncclResult_t (*finalize)(void *context);
} ncclTuner_v5_t;

typedef struct {
  const char *name;
  ncclResult_t (*init)(void **context, uint64_t commId, size_t nRanks, size_t nNodes, ncclDebugLogger_t logger,
                       ncclNvlDomainInfo_v5_t *nvlDomainInfo, ncclTunerConstants_v5_t *constants);
  ncclResult_t (*getCollInfo)(void *context, int func, size_t nBytes, int numPipeOps, float **collCostTable,
                              int numAlgo, int numProto, int regBuff, int *nChannels);
  ncclResult_t (*finalize)(void *context);
  ncclResult_t (*getChunkSize)(void *context, int func, size_t nBytes, int algorithm, int protocol, int nChannels,
                               size_t *chunkSize);
} ncclTuner_v6_t;

/* ---- the shapes, pinned ------------------------------------------------------------------------------------------ */

#define ABI_AT(type, member, offset) _Static_assert(offsetof(type, member) == (offset), #type " " #member)
#define ABI_SIZE(type, size)         _Static_assert(sizeof(type) == (size), #type)
ABI_SIZE(ncclResult_t, 4);
ABI_SIZE(ncclDataType_t, 4);
ABI_SIZE(ncclNetDeviceHandle_t, 32);
ABI_SIZE(ncclNetAttr_t, 44);
ABI_SIZE(ncclNetSGE_v8_t, 24);
ABI_SIZE(ncclNetSGE_v9_t, 24);
ABI_SIZE(ncclNetProperties_v8_t, 64);
ABI_AT(ncclNetProperties_v8_t, speed, 32);
ABI_AT(ncclNetProperties_v8_t, latency, 40);
ABI_AT(ncclNetProperties_v8_t, netDeviceVersion, 56);
ABI_SIZE(ncclNetProperties_v9_t, 104);
ABI_AT(ncclNetProperties_v9_t, speed, 36);
ABI_AT(ncclNetProperties_v9_t, vProps, 64);
ABI_AT(ncclNetProperties_v9_t, maxP2pBytes, 88);
ABI_SIZE(ncclNetProperties_v11_t, 112);
ABI_AT(ncclNetProperties_v11_t, maxMultiRequestSize, 104);
ABI_SIZE(ncclNetProperties_v12_t, 128);
ABI_AT(ncclNetProperties_v12_t, maxP2pBytes, 104);
ABI_AT(ncclNetProperties_v12_t, maxMultiRequestSize, 120);
ABI_AT(ncclNetProperties_v12_t, planeId, 126);
ABI_SIZE(ncclNet_v8_t, 19 * 8);
ABI_SIZE(ncclNet_v9_t, 20 * 8);
ABI_SIZE(ncclNet_v10_t, 20 * 8);
ABI_SIZE(ncclNet_v11_t, 22 * 8);
ABI_SIZE(ncclNet_v12_t, 22 * 8);
ABI_AT(ncclNet_v8_t, test, 13 * 8);
ABI_AT(ncclNet_v9_t, makeVDevice, 19 * 8);
ABI_AT(ncclNet_v10_t, isend, 10 * 8);
ABI_AT(ncclNet_v12_t, finalize, 20 * 8);
ABI_SIZE(ncclCollNet_v8_t, 17 * 8);
ABI_SIZE(ncclCollNet_v9_t, 18 * 8);
ABI_SIZE(ncclCollNet_v11_t, 19 * 8);
ABI_SIZE(ncclCollNet_v12_t, 19 * 8);
ABI_AT(ncclCollNet_v8_t, iallreduce, 10 * 8);
ABI_AT(ncclCollNet_v12_t, finalize, 18 * 8);
ABI_SIZE(ncclTunerConstants_v5_t, 1152);
ABI_SIZE(ncclNvlDomainInfo_v5_t, 12);
ABI_SIZE(ncclTuner_v2_t, 4 * 8);
ABI_SIZE(ncclTuner_v5_t, 4 * 8);
ABI_SIZE(ncclTuner_v6_t, 5 * 8);

#endif
