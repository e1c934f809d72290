"""
bench/plot: pictures from one and several files; broken input is refused in one line with exit code 2. Skipped without
matplotlib.
"""
import json
import os
import shutil

from support import QUICK, SKIP, TOP, check, expect_refusal, expect_success, load, main, perf, run

PLOT = os.path.join(TOP, 'bench', 'plot')


def measured(folder, *flags):
    path = os.path.join(folder, 'run.json')
    expect_success(perf(*QUICK, '--json', path, *flags))
    return path


def plot(*arguments, folder):
    return run(PLOT, *arguments, cwd=folder)


def is_picture(path):
    with open(path, 'rb') as file:
        head = file.read(1000)
    return head.startswith(b'\x89PNG\r\n\x1a\n') if path.endswith('.png') else b'<svg' in head


def test_pictures(folder):
    path = measured(folder, '-d', 'float', 'all')
    shutil.copy(path, os.path.join(folder, 'other.json'))
    expect_success(plot('run.json', folder=folder))
    expect_success(plot('run.json', 'other.json', '-o', 'both.svg', folder=folder))
    names = sorted(os.listdir(folder))
    check(names == ['both.svg', 'other.json', 'run.json', 'run.png', 'run.svg'], f'{names}')
    check(all(is_picture(os.path.join(folder, name)) for name in names if not name.endswith('json')), 'no picture')
    before = open(os.path.join(folder, 'run.svg'), 'rb').read()
    expect_success(plot('run.json', folder=folder))
    check(open(os.path.join(folder, 'run.svg'), 'rb').read() == before, 'the same figures make another picture')


def test_many_series(folder):
    measured(folder, '-d', 'all', '-o', 'all', '-N', '2', '-b', '1K', '-e', '1K', 'all_reduce')
    expect_success(plot('run.json', '-o', 'many.png', folder=folder))


def test_broken_files(folder):
    path = measured(folder)
    text = open(path, encoding='utf-8').read()
    broken = os.path.join(folder, 'broken.json')

    def refused(content, *words):
        with open(broken, 'wb') as file:
            file.write(content)
        expect_refusal(plot('run.json', 'broken.json', '-o', 'x', folder=folder), 'bench/plot: ', 'broken.json', *words)

    for length in (0, 1, len(text) // 4, len(text) // 2, len(text) - 3):
        refused(text[:length].encode(), 'is no complete JSON')
    refused(b'\xff\xfe\x00', 'is no JSON')
    refused(b'[1, 2]', 'is not from shmccl-perf --json')
    refused(b'{"format": "something else"}', 'is not from shmccl-perf --json')
    run_ = load(path)
    refused(json.dumps({**run_, 'version': 2}).encode(), 'version 2')
    refused(json.dumps({**run_, 'rows': []}).encode(), 'no rows')
    for key in ('rows', 'machine', 'bounds', 'versions'):
        refused(json.dumps({**run_, key: 7}).encode(), 'missing or of the wrong kind')
    for key in run_['rows'][0]:
        if key not in ('count', 'cycle', 'in_place'):
            rows = [{k: v for k, v in row.items() if k != key} for row in run_['rows']]
            refused(json.dumps({**run_, 'rows': rows}).encode(), 'missing or of the wrong kind')
    check(sorted(os.listdir(folder)) == ['broken.json', 'run.json'], f'{os.listdir(folder)}')


def test_files_that_are_not_there(folder):
    measured(folder)
    expect_refusal(plot('none.json', folder=folder), 'none.json', 'No such file')
    expect_refusal(plot('run.json', '-o', '/nonexistent/x.png', folder=folder), '/nonexistent/x.png')
    done = plot(folder=folder)
    check(done.returncode == 2 and 'FILE.json' in done.stderr, 'no files: usage', done)


if 'matplotlib is missing' in run(PLOT, '--help').stderr:
    print('skipped: no matplotlib (apt install python3-matplotlib)')
    raise SystemExit(SKIP)
main()
