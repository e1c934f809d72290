"""
--tune writes a table that the library reads; a table of another version or machine, or a malformed one, is refused by
the benchmark in one line. (The library warns and does without: tests/unit/test_tuning.c.)
"""
import os
import re
import signal
import subprocess

from support import PERF, QUICK, check, environment, expect_refusal, expect_success, leftovers, main, perf


def tuned(path, *flags):
    return perf(*QUICK, *flags, env=environment(SHMCCL_TUNING_FILE=path))


def write(path, text):
    with open(path, 'w', encoding='utf-8') as file:
        file.write(text)


def read(path):
    with open(path, encoding='utf-8') as file:
        return file.read()


def measure(path, *flags):
    return expect_success(perf('--tune', path, '-e', '64K', '--rounds', '1', *flags))


def refused(path, *words):
    expect_refusal(tuned(path), 'SHMCCL_TUNING_FILE', path[:60], 'shmccl-perf --tune', *words)


def test_a_table_is_written_and_read(folder):
    path, before = os.path.join(folder, 'table'), leftovers()
    done = measure(path, '--ranks', '3,2')
    check(f'SHMCCL_TUNING_FILE={path}' in done.stdout, 'how to use it must be said', done)
    check(os.listdir(folder) == ['table'], f'{os.listdir(folder)}')
    check(not leftovers() - before, 'something is left in /dev/shm')
    text = read(path)
    check(re.findall(r'^ranks (\d+)$', text, re.M) == ['3', '2'], text)
    check(len(re.findall(r'^allreduce \d+ \d+\.\d+$', text, re.M)) == 2 * 7, text)  # 8 B to 32 KiB by 4
    expect_success(tuned(path))
    expect_success(perf(*QUICK, '--ranks', '4', env=environment(SHMCCL_TUNING_FILE=path)))  # not measured: no matter


def test_foreign_and_broken_tables(folder):
    path, bad = os.path.join(folder, 'table'), os.path.join(folder, 'bad')
    measure(path, '--ranks', '2')
    good = read(path)
    for pattern, text, words in (
            (r'^library .*', 'library 99.1.0', ['line 4', '99.1.0']),
            (r'^cpu .*', 'cpu Imaginary 9000', ['line 5', 'another machine', 'Imaginary 9000']),
            (r'^cores .*', 'cores 4096', ['line 6', 'another machine', '4096']),
            (r'^shmccl-tuning 1', 'shmccl-tuning 2', ['line 1', "format '2'"]),
            (r'^copy-gbs .*', 'copy-gbs fast', ['line 7', 'fast']),
            (r'^end\n', '', ['cut off'])):
        changed = re.sub(pattern, text, good, flags=re.M)
        check(changed != good, f'{pattern} is not in the table')
        write(bad, changed)
        refused(bad, *words)
    write(bad, '')
    refused(bad, 'no tuning table')
    refused(os.path.join(folder, 'none'), 'No such file')


def test_thresholds_are_obeyed_by_all(folder):
    """Whatever a table says within its bounds, results are right on all ranks."""
    path = os.path.join(folder, 'table')
    measure(path, '--ranks', '2')
    for one_shot, chunk in ((1, 64), (1 << 40, 64), (1, 1 << 26), (4096, 1000)):
        text = re.sub(r'^one-shot-most .*', f'one-shot-most {one_shot}', read(path), flags=re.M)
        write(path, re.sub(r'^(reduce|copy)-chunk .*', rf'\1-chunk {chunk}', text, flags=re.M))
        expect_success(perf('--ranks', '2', '-b', '1K', '-e', '256K', '-f', '16', '-n', '5', 'all_reduce', 'all_gather',
                            'reduce_scatter', env=environment(SHMCCL_TUNING_FILE=path)))


def test_unwritable(folder):
    expect_refusal(perf('--tune', '/nonexistent/table'), '--tune', '/nonexistent/table', 'No such file')
    expect_refusal(perf('--tune', folder), '--tune', folder, 'directory')


def test_interrupted(folder):
    path, before = os.path.join(folder, 'table'), leftovers()
    with subprocess.Popen([PERF, '--tune', path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=environment()) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    check(process.returncode == 130 and 'no table was written' in out and not err, f'{process.returncode}: {out}{err}')
    check(not os.listdir(folder) and not leftovers() - before, 'something is left')


main()
