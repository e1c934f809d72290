"""
What the tests of bench/ share. A test is a function named test_*; each gets an empty folder of its own. A failed check
prints one line and the program's output, and the others go on.
"""
import inspect
import json
import os
import subprocess
import sys
import tempfile

BENCH, LIBRARY = sys.argv[1:3]
PERF = os.path.join(BENCH, 'shmccl-perf')
TOP = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..'))
SKIP = 77


class Failed(Exception):
    pass


class Skipped(Exception):
    pass


def check(condition, text, done=None):
    if condition:
        return
    if done is not None:
        text += f'\n  command: {" ".join(done.args)}\n  exit code {done.returncode}\n  stdout: {done.stdout[-2000:]}\n  stderr: {done.stderr[-2000:]}'
    raise Failed(text)


def environment(**changes):
    """Without what users and launchers set."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(('SHMCCL_', 'OMPI_', 'PMI_', 'SLURM_', 'RANK', 'WORLD'))}
    return {**kept, 'CUDA_VISIBLE_DEVICES': '', **changes}  # what is tested here is host memory


def run(*command, env=None, **keywords):
    return subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=100, env=env or environment(), **keywords)


def perf(*flags, **keywords):
    return run(PERF, *flags, **keywords)


# As little as can be measured.
QUICK = ('--ranks', '2', '-b', '1K', '-e', '4K', '-f', '4', '-n', '20', '--rounds', '3')


def expect_refusal(done, *words, code=2):
    """One clear line that says `words`, on stderr, and nothing else."""
    check(done.returncode == code, f'must be refused with exit code {code}', done)
    check(len(done.stderr.splitlines()) == 1, 'must be refused in one line', done)
    check(not done.stdout, 'nothing may be printed by what is refused', done)
    for word in words:
        check(word in done.stderr, f'the line must say "{word}"', done)


def expect_success(done):
    check(done.returncode == 0, 'must succeed', done)
    check(not done.stderr, 'must not complain', done)
    return done


def load(path):
    with open(path, encoding='utf-8') as file:
        return json.load(file)


def leftovers():
    return {name for name in os.listdir('/dev/shm') if name.startswith('shmccl-perf-')}


def main():
    """Runs the tests of the calling module."""
    module = sys.modules['__main__']
    tests = [f for name, f in inspect.getmembers(module, inspect.isfunction) if name.startswith('test_')]
    failed = skipped = 0
    for test in tests:
        with tempfile.TemporaryDirectory(prefix='shmccl-test-') as folder:
            try:
                test(folder)
            except Failed as error:
                failed += 1
                print(f'FAILED {test.__name__}: {error}')
            except Skipped as reason:
                skipped += 1
                print(f'skipped {test.__name__}: {reason}')
            else:
                print(f'ok {test.__name__}')
    sys.exit(1 if failed else SKIP if skipped == len(tests) else 0)
