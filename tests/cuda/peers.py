"""
shmccl-perf beside NCCL and beside other builds, on the stand-in: columns, ratios, JSON, what each rank is told, and what
goes wrong. NCCL is the fake of tests/front: its own environment says which (FAKE, RECORDING, FRONT).
"""
import json
import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'bench'))

from support import (LIBRARY, PERF, QUICK, TOP, check, environment, expect_refusal, expect_success, leftovers, load,  # noqa: E402
                     main, run)

FAKE, RECORDING, FRONT = (os.environ[name] for name in ('FAKE', 'RECORDING', 'FRONT'))
PEERS = ['nccl-shm', 'nccl-tuned', 'nccl-plugin']
LONG = ('--ranks', '2', '--peer', 'nccl', '-b', '64', '-e', '64', '-n', '20', '--rounds', '3', '-N', '0', 'all_reduce')


def on(gpus, nccl=FAKE, **changes):
    kept = environment(STANDIN_DEVICES=str(gpus), SHMCCL_NCCL_LIB=nccl, **changes)
    del kept['CUDA_VISIBLE_DEVICES']
    return kept


def perf(*flags, **keywords):
    return run(PERF, *flags, **keywords)


def test_columns_and_json(folder):
    path, before = os.path.join(folder, 'a.json'), leftovers()
    done = expect_success(perf(*QUICK, '--peer', 'nccl', '--json', path, 'all_reduce', 'all_gather', 'broadcast', env=on(2)))
    head = [line for line in done.stdout.splitlines() if 'out-of-place' in line][0]
    check(head.split()[-3:] == PEERS, 'a column for each', done)
    summary = [line for line in done.stdout.splitlines() if 'ours/bound' in line][-1]
    check(all(f'{peer}/ours' in summary for peer in PEERS), 'a ratio for each', done)
    check('WRONG' not in done.stdout and 'model' not in done.stdout, 'nothing wrong, nothing modelled', done)
    record = load(path)
    check(all(record['versions'][peer] == 'NCCL 2.30.7' for peer in PEERS), f'{record["versions"]}')
    for row in record['rows']:
        check(sorted(row['peers']) == sorted(PEERS), f'{row["peers"].keys()}')
        for measured in row['peers'].values():
            check(measured['wrong'] == 0 and measured['time_us'] > 0 and len(measured['rounds_us']) == 3, f'{measured}')
    check(not leftovers() - before, 'something is left in /dev/shm')


def test_graphs_and_one_of_them(_):
    done = expect_success(perf(*QUICK, '-G', '2', '--peer', 'nccl-shm', 'all_reduce', env=on(2)))
    check('nccl-shm/ours' in done.stdout and 'nccl-plugin' not in done.stdout and 'WRONG' not in done.stdout, 'only that', done)


def modelled(bounds, coll, nbytes, n):
    """Microseconds, by the words of bench/nccl.h and docs/benchmark.md: all ranks share one link."""
    hops = 2 * (n - 1) if coll == 'all_reduce' else n - 1
    out = {'all_reduce': 2 * (n - 1), 'all_gather': n * (n - 1), 'broadcast': n - 1}[coll] * nbytes  # of all ranks
    out_rate, in_rate, both = (bounds[f'link_{name}_gbs'] * 1e3 for name in ('to_host', 'from_host', 'both'))
    link = max(out / out_rate, out / in_rate, 2 * out / both)
    return min(6.6 + hops + 2 * link, 8.4 + 5.7 * hops + link)


def test_model_on_one_gpu(folder):
    path = os.path.join(folder, 'a.json')
    for coll in ('all_reduce', 'all_gather', 'broadcast'):
        done = expect_success(perf('--ranks', '3', '-b', '3K', '-e', '192K', '-f', '64', '-n', '2', '--rounds', '2', '--peer',
                                   'nccl', '--json', path, coll, env=on(1)))
        check(all(f'# Peer {peer}: left out: NCCL\'s SHM transport needs a GPU for each rank' in done.stdout
                  for peer in PEERS[:2]), 'why stock is not there', done)
        check('# Peer model:nccl-shm: NOT MEASURED' in done.stdout and 'model:nccl-shm/ours' in done.stdout, 'a label', done)
        record = load(path)
        for row in record['rows']:
            model, nbytes = row['peers']['model:nccl-shm'], row['bytes'] // (3 if coll == 'all_gather' else 1)
            want = modelled(record['bounds'], coll, nbytes, 3)
            check(model['modelled'] is True and 'rounds_us' not in model, f'{model}')
            check(abs(model['time_us'] / want - 1) < 1e-3, f'{coll} of {nbytes}: {model["time_us"]} us, must be {want}')
            check(row['peers']['nccl-plugin']['wrong'] == 0, f'{row}')
    done = expect_success(perf(*QUICK, '--peer', 'nccl-plugin', 'all_reduce', env=on(1)))
    check('model' not in done.stdout, 'a model that nobody asked for', done)


def test_no_model_of_what_is_no_ring(folder):
    path = os.path.join(folder, 'a.json')
    perf(*QUICK, '--peer', 'nccl-shm', '--json', path, 'alltoall', env=on(1))
    check(load(path)['rows'][0]['peers']['model:nccl-shm'] is None, 'NCCL\'s alltoall is no ring')


def test_expect_takes_the_record(folder):
    """bench/expect on what was measured here: its two-shot bound is this program's, where host memory is no limit."""
    path = os.path.join(folder, 'a.json')
    expect_success(perf('--ranks', '2', '-b', '1M', '-e', '1M', '-n', '1', '--rounds', '1', '--json', path, env=on(2)))
    done = expect_success(run(os.path.join(TOP, 'bench', 'expect'), '--from', path, '--memory', '1e6', '--bytes', '1M', '--json'))
    bound = json.loads(done.stdout)[0]['rows'][0]['algorithms']['two-shot']['bound_us']
    wanted = load(path)['rows'][0]['bound_us']
    check(abs(bound / wanted - 1) < 1e-6, f'{bound} us, shmccl-perf says {wanted}')


def test_wrong_results(_):
    """This one does nothing in its calls."""
    done = perf(*QUICK, '--peer', 'nccl-shm', 'all_reduce', env=on(2, RECORDING))
    check(done.returncode == 1 and '# WRONG, nccl-shm: rank' in done.stdout, 'wrong results of a peer', done)
    summary = [line for line in done.stdout.splitlines() if re.match(r'#   all_reduce', line)]
    check(summary and all(line.endswith(' -') for line in summary), 'a ratio to what is wrong', done)


def test_unusable(folder):
    text = os.path.join(folder, 'libnccl.so.2')
    with open(text, 'w', encoding='utf-8') as file:
        file.write('text')
    for nccl, words in ((os.path.join(folder, 'nowhere'), 'No such file'), (text, 'file too short'),
                        (LIBRARY, 'is no NCCL: it lacks nccl'), (FRONT, 'is this library\'s front')):
        done = expect_success(perf(*QUICK, '--peer', 'nccl-shm', 'all_reduce', env=on(2, nccl)))
        check('# Peer nccl-shm: left out' in done.stdout and words in done.stdout, f'{nccl}: must say {words}', done)
        check('SHMCCL_NCCL_LIB=' in done.stdout, 'the remedy', done)
    done = expect_success(perf(*QUICK, '--peer', 'nccl-shm', 'all_reduce', env=on(2, FAKE_NCCL_FAILS='1')))
    check('left out' in done.stdout and 'the fake\'s last error' in done.stdout, 'a communicator that fails', done)


def test_refusals(_):
    for flags, gpus, words in ((('--memory', 'host', '--peer', 'nccl'), 2, '--memory host: nccl-shm is for GPUs'),
                               (('--peer', 'mpi', '--peer', 'nccl-plugin'), 2, 'openmpi is for host memory, nccl-plugin for GPUs'),
                               (('--memory', 'cuda', '--peer', 'gloo'), 2, '--memory cuda: gloo is for host memory'),
                               (('--peer', 'nccl'), 0, 'nccl-shm: no GPU can be used'),
                               (('--peer', 'nccl-x'), 2, 'must be mpi, nccl, openmpi,')):
        expect_refusal(perf(*QUICK, *flags, 'all_reduce', env=on(gpus)), words)


def test_other_builds(folder):
    path = os.path.join(folder, 'a.json')
    done = expect_success(perf(*QUICK, '--memory', 'cuda', '--library', LIBRARY, '--against', LIBRARY, '--json', path,
                               'all_reduce', 'scatter', env=on(2)))
    check('against/ours' in done.stdout and '# GPU 1' in done.stdout, 'on GPUs', done)
    check(all(row['peers']['against']['wrong'] == 0 for row in load(path)['rows']), 'wrong results', done)


# ---- what ranks are told, and how a run ends ---------------------------------------------------------------------------


class Endless:
    """A run without end that has printed a row; its NCCL ranks and their environments."""

    def __init__(self, *flags, gpus=2):
        self.process = subprocess.Popen([PERF, *LONG, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env=on(gpus, NCCL_ALGO='Ring', NCCL_NET='Socket'))
        for line in self.process.stdout:
            if not line.startswith('#'):
                break
        with open(f'/proc/{self.process.pid}/task/{self.process.pid}/children', encoding='utf-8') as file:
            self.ranks = [int(child) for child in file.read().split()]
        self.told = [told for told in map(self.read_environment, self.ranks) if 'NCCL_NET_PLUGIN' in told]

    @staticmethod
    def read_environment(pid):
        with open(f'/proc/{pid}/environ', encoding='utf-8') as file:
            words = dict(word.split('=', 1) for word in file.read().split('\0') if '=' in word)
        return {'pid': pid, **words}

    def end(self, number=None):
        if number:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        check(not any(os.path.exists(f'/proc/{rank}') for rank in self.ranks), 'ranks are left')
        return self.process.returncode, out, err


def test_what_ranks_are_told_and_interruption(folder):
    path, before = os.path.join(folder, 'a.json'), leftovers()
    endless = Endless('--json', path)
    code, out, err = endless.end(signal.SIGINT)
    check(code == 130 and 'interrupted' in out and 'Summary' in out and not err, f'{code}: {out}{err}')
    check(load(path)['end'] == 'interrupted' and not leftovers() - before, 'JSON, or something left in /dev/shm')
    check(load(path)['environment']['NCCL_ALGO'] == 'Ring', 'what NCCL was told belongs to the record')
    told = [t.get for t in endless.told]
    check(len(told) == 6 and all(t('NCCL_P2P_DISABLE') == '1' and t('NCCL_ALGO') == 'Ring' for t in told), 'all of them')
    shm = [t for t in told if t('NCCL_NET_PLUGIN') == 'none']
    check(len(shm) == 4 and not any(t('NCCL_NET') or t('NCCL_SHM_DISABLE') for t in shm), 'stock must be stock')
    check(sorted(t('NCCL_MIN_NCHANNELS') or '-' for t in shm) == ['-', '-', '8', '8'], 'tuned')
    plugin = [t for t in told if t('NCCL_NET_PLUGIN') == 'shmccl']
    check(len(plugin) == 2 and all(t('NCCL_NET') == 'shmccl' and t('NCCL_SHM_DISABLE') == '1' and not t('NCCL_HOSTID')
                                   for t in plugin), 'the plugin or nothing')


def test_ranks_on_one_gpu_are_hosts(_):
    endless = Endless(gpus=1)
    endless.end(signal.SIGTERM)
    hosts = {told.get('NCCL_HOSTID') for told in endless.told}
    check(len(endless.told) == 2 and len(hosts) == 2 and None not in hosts, f'{hosts}')


def test_a_rank_of_nccl_dies(_):
    before = leftovers()
    endless = Endless()
    os.kill(endless.told[3]['pid'], signal.SIGKILL)
    code, _, err = endless.end()
    check(code == 1 and re.search(r'nccl-tuned: rank [01] \(pid \d+\) ended', err), f'{code}: {err}')
    check(not leftovers() - before, 'something is left in /dev/shm')


def test_interruption_while_nccl_starts(_):
    segment, before = f'/dev/shm/nccl-test{os.getpid()}', leftovers()
    process = subprocess.Popen([PERF, *LONG], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=on(2, FAKE_NCCL_SEGMENT=segment))
    for _ in range(600):  # until a rank has it
        if os.path.exists(segment):
            break
        time.sleep(0.05)
    check(os.path.exists(segment), 'no rank came so far')
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    check(process.returncode == 130 and not err, f'{process.returncode}: {out}{err}')
    check(not os.path.exists(segment) and not leftovers() - before, 'something is left in /dev/shm')


# ---- a rank whose GPU fails --------------------------------------------------------------------------------------------
# The others would wait for it for 600 s: these tests are over long before, or are ended by their own limit.


def test_gpu_of_one_rank_fails(_):
    """Rank 0 alone measures the one GPU's link, and so is the first to come to its 40th wait."""
    done = perf(*QUICK, '--memory', 'cuda', 'all_reduce', env=on(1, STANDIN_FAIL='cudaStreamSynchronize:40:700'))
    check(done.returncode == 1 and 'rank 0: waiting for the GPU' in done.stderr, 'the rank and the cause', done)


def test_gpu_of_one_rank_of_a_job_fails(_):
    ranks = []
    for rank in range(2):
        fail = {'STANDIN_FAIL': 'cudaStreamSynchronize:40:700'} if rank else {}
        job = on(2, SHMCCL_ID=f'peers-test-{os.getpid()}-{time.time_ns()}' if not rank else ranks[0][1], SHMCCL_NRANKS='2',
                 SHMCCL_RANK=str(rank), **fail)
        ranks.append((subprocess.Popen([PERF, *QUICK[2:], '--memory', 'cuda', 'all_reduce'], stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, text=True, env=job), job['SHMCCL_ID']))
    ended = [(*process.communicate(timeout=100), process.returncode) for process, _ in ranks]
    check(all(code == 1 for _, _, code in ended), f'{ended}')
    check('rank 1: waiting for the GPU' in ended[1][1], f'the cause: {ended}')


def test_job_on_gpus(_):
    """The bound is that of the GPUs there are, whoever sees them as number 0."""
    for gpus, lines in ((1, ['2 ranks']), (2, ['1 rank', '1 rank'])):
        job = f'peers-test-{os.getpid()}-{time.time_ns()}'
        ranks = [subprocess.Popen([PERF, *QUICK[2:], '--memory', 'cuda', 'all_reduce'], stdout=subprocess.PIPE, text=True,
                                  env=on(gpus, SHMCCL_ID=job, SHMCCL_NRANKS='2', SHMCCL_RANK=str(rank))) for rank in range(2)]
        out = [rank.communicate(timeout=100)[0] for rank in ranks]
        check([line.rsplit(': ', 1)[1] for line in out[0].splitlines() if line.startswith('# GPU ')] == lines, out[0])


main()
