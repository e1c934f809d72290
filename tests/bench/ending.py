"""
How a run ends: interrupted, it says so, sums up what it has, writes valid JSON and leaves nothing behind; a rank that
dies is named. And the progress bar: on a terminal, not in a pipe.
"""
import os
import pty
import select
import signal
import subprocess
import time

from support import PERF, check, environment, leftovers, load, main, perf

LONG = ('--ranks', '2', '-b', '64', '-e', '64', '--rounds', '3', '-N', '0')


def start(*flags):
    return subprocess.Popen([PERF, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=environment())


def read_rows(process, count):
    """Lines until so many rows have come."""
    lines = []
    while count:
        line = process.stdout.readline()
        check(line, f'it ended early: {lines}')
        lines.append(line)
        count -= not line.startswith('#')
    return lines


def children_of(pid):
    with open(f'/proc/{pid}/task/{pid}/children', encoding='utf-8') as file:
        return [int(child) for child in file.read().split()]


def test_interrupted(folder):
    for number in (signal.SIGINT, signal.SIGTERM):
        path, before = os.path.join(folder, f'{number}.json'), leftovers()
        process = start(*LONG, '--json', path)
        read_rows(process, 3)
        ranks = children_of(process.pid)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        check(process.returncode == 130 and 'interrupted' in out and not err, f'{process.returncode}: {out}{err}')
        check('Summary' in out, 'what was measured is not summed up')
        check(len(ranks) == 2 and not any(os.path.exists(f'/proc/{rank}') for rank in ranks), 'ranks are left')
        run = load(path)
        check(run['end'] == 'interrupted' and len(run['rows']) >= 3, f'{run["end"]} after {len(run["rows"])} rows')
        check(not leftovers() - before, 'something is left in /dev/shm')
    check(len(os.listdir(folder)) == 2, 'a half-written file is left')


def test_a_rank_dies(folder):
    path, before = os.path.join(folder, 'a.json'), leftovers()
    process = start(*LONG, '--json', path)
    read_rows(process, 2)
    os.kill(children_of(process.pid)[1], signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    check(process.returncode == 1, f'exit code {process.returncode}')
    check('rank' in err and len([line for line in err.splitlines() if line.startswith('shmccl-perf:')]) == 1, err)
    check(load(path)['end'] == 'failed', 'the JSON must say so')
    check(not leftovers() - before, 'something is left in /dev/shm')


def is_row(line):
    return line.strip()[:1].isdigit()


def long_enough(begun, rows):
    """Whether a bar would have been drawn by now: the run has lasted longer than a short one and had rows since."""
    return time.monotonic() - begun > 3 and rows >= 5


def run_on_terminal(enough, **changes):
    """What a terminal shows of a run that is interrupted when enough(shown, seconds since the first row) is true."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(PERF, [PERF, *LONG[:-2], '-N', '1000'], environment(**changes))
    shown, begun, end = b'', None, time.monotonic() + 50
    while time.monotonic() < end and not (begun and enough(shown.decode(errors='replace'), begun)):
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 65536)
        if not begun and any(map(is_row, shown.decode(errors='replace').splitlines())):
            begun = time.monotonic()
    os.write(terminal, b'\x03')
    try:
        while True:
            shown += os.read(terminal, 65536)
    except OSError:  # the terminal has nobody on the other side any more
        pass
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


def test_progress_on_a_terminal(_):
    code, shown = run_on_terminal(lambda shown, _: 's left' in shown, TERM='xterm')
    check(code == 130, f'exit code {code}: {shown}')
    check('of 1000 rows, about' in shown and 's left' in shown, f'no bar: {shown}')
    check(shown.rstrip().splitlines()[-1].startswith('#'), f'the bar is left on the terminal: {shown[-300:]}')


def test_no_progress_on_a_dumb_terminal(_):
    _, shown = run_on_terminal(lambda shown, begun: long_enough(begun, sum(map(is_row, shown.splitlines()))),
                               TERM='dumb')
    check('rows, about' not in shown, f'a bar: {shown}')


def test_no_progress_in_a_pipe(_):
    process = start(*LONG)
    out, begun, rows = read_rows(process, 1), time.monotonic(), 1
    while not long_enough(begun, rows):
        out, rows = out + read_rows(process, 1), rows + 1
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=60)
    check('\r' not in ''.join(out) + rest and '\033' not in ''.join(out) + rest and not err, f'{err}')


main()
