"""
The ranks of a PyTorch job on this host's GPUs: what the scripts here that use PyTorch start from. Not yet run on a GPU.

A script calls main(checks), with a function of its own, and gets its arguments from whoever starts it:

  SCRIPT one|several|cpu RANKS     one: all on the first GPU, each process as a host of its own

checks(rank, ranks) runs on every rank, in an nccl process group (cpu: gloo). Exit code 77: no PyTorch, or no CUDA in it.
"""
import os
import sys
import tempfile

try:
    import torch
    import torch.distributed as dist
except ImportError as error:
    print(f'no PyTorch: {error}')
    sys.exit(77)


def run(rank, ranks, gpus, meeting, checks):
    if gpus == 'one':
        os.environ['NCCL_HOSTID'] = f'host-{rank}'
    if gpus != 'cpu':
        torch.cuda.set_device(0 if gpus == 'one' else rank)
    dist.init_process_group('gloo' if gpus == 'cpu' else 'nccl', init_method=f'file://{meeting}', rank=rank, world_size=ranks)
    checks(rank, ranks)
    dist.destroy_process_group()


def main(checks):
    gpus, ranks = sys.argv[1], int(sys.argv[2])
    if gpus != 'cpu' and not torch.cuda.is_available():
        print('PyTorch has no CUDA device')
        sys.exit(77)
    with tempfile.TemporaryDirectory(prefix='shmccl-torch-') as folder:
        torch.multiprocessing.spawn(run, (ranks, gpus, os.path.join(folder, 'meeting'), checks), nprocs=ranks)
