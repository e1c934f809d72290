"""
Peers, those that this machine has: their results are right, their figures are in table, summary and JSON; those that it
has not are left out with a reason. Skipped where there is none.
"""
import os

from support import LIBRARY, QUICK, Skipped, check, environment, expect_success, leftovers, load, main, perf


def measure(folder, peer, *flags):
    path, before = os.path.join(folder, 'a.json'), leftovers()
    done = expect_success(perf('--peer', peer, *flags, '--json', path))
    check(not leftovers() - before, 'something is left in /dev/shm')
    left_out = [line for line in done.stdout.splitlines() if line.startswith(f'# Peer {peer}: left out')]
    if left_out:  # because there is none here, and for no other reason
        check('not built' in left_out[0] or 'PyTorch' in left_out[0], left_out[0])
        raise Skipped(left_out[0])
    return done, load(path)


def check_peer(folder, peer, without=()):
    done, run = measure(folder, peer, *QUICK, 'all')
    check(f'{peer}/ours' in done.stdout and 'WRONG' not in done.stdout, 'right results and ratios', done)
    for row in run['rows']:
        measured = row['peers'][peer]
        if row['collective'] in without:
            check(measured is None, f'{peer} has no {row["collective"]}')
            continue
        check(measured and measured['wrong'] == 0 and measured['time_us'] > 0 and len(measured['rounds_us']) == 3,
              f'{row["collective"]}: {measured}')
    _, run = measure(folder, peer, *QUICK, '-m', '3', '-I', '1', 'sendrecv')
    each = run['rows'][0]['peers'][peer]
    check(each['wrong'] == 0 and each['per_iteration']['count'] == 60, f'{each}')


def test_openmpi(folder):
    check_peer(folder, 'openmpi')


def test_mpich(folder):
    check_peer(folder, 'mpich')


def test_gloo(folder):
    check_peer(folder, 'gloo', without=('reduce_scatter', 'alltoall'))


def test_gloo_is_missing(folder):
    """With a PATH where nothing is: the launcher says why, and the run goes on."""
    done = perf(*QUICK, '--peer', 'gloo', env=environment(PATH=folder))
    check(done.returncode == 0, 'the run must go on', done)
    check('gloo: left out' in done.stdout or '# Peer gloo: PyTorch' in done.stdout, 'the reason must be given', done)


def test_kinds(_):
    done = perf(*QUICK, '--peer', 'mpi')
    check('Peer openmpi' in done.stdout and 'Peer mpich' in done.stdout and 'gloo' not in done.stdout, 'mpi: every MPI', done)


def test_other_builds(folder):
    path = os.path.join(folder, 'a.json')
    done = expect_success(perf(*QUICK, '--library', LIBRARY, '--against', LIBRARY, '--json', path, 'all'))
    check('against/ours' in done.stdout and 'WRONG' not in done.stdout, 'right results and ratios', done)
    check(all(row['peers']['against']['wrong'] == 0 for row in load(path)['rows']), 'wrong results')


main()
